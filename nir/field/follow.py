"""A neural field that follows a displacement: it learns what was found, without a look at images.

Its detail lies in displacements of nodes, read by cubic B-splines, to which a small network adds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from nir.field.encoding import SplineEncoding
from nir.field.network import FieldNetwork
from nir.field.parts import NeuralField
from nir.field.settings import FieldSettings, FlowSettings
from nir.geometry.folds import NEARLY, smooth_around
from nir.geometry.tetrahedra import folded_cells

DISPLACEMENT = FlowSettings(model="displacement")

EVERY = 4  # planes of the lattice, of which one tells the last layer

DAMPING = 1e-6  # of the last layer's least squares: share of the mean square of a hidden unit

ROUNDS = 20  # in which nodes around folds are smoothed


@torch.no_grad()
def follow(
    goal: Tensor, extent: Tensor, settings: FieldSettings, seed: int
) -> tuple[NeuralField, Tensor]:
    """Let a fresh neural field follow a displacement.

    Twice least squares: of the nodes, whose features are a displacement, and of the last layer,
    which adds to it. Both are then rounded to half precision, in which a field is kept, and nodes
    are smoothed around the few cells of the lattice that fold.

    Args:
        goal: mm, shape (1, 3, X, Y, Z), on a lattice over the cube.
        extent: edges of the cube, mm, shape (3,).
        settings: with splines, no control lattice, and an output without bounds.
        seed: of the hidden layers.

    Returns:
        The field, and what it reads on the lattice of the goal.
    """
    i, j, k = goal.shape[2:]
    spacing = extent / (torch.tensor([i, j, k], device=extent.device) - 1)
    apart_mm = max(settings.encoding_mm, float(spacing.max()))  # some voxel tells each node
    settings = settings.model_copy(update={"encoding_mm": apart_mm})
    model = FieldNetwork(settings, seed, extent).to(extent.device)
    nodes = model.encoding
    assert isinstance(nodes, SplineEncoding)
    nodes.follow(goal[0] / model.gain_mm)
    _finish(model.mlp, nodes, goal / model.gain_mm)
    for parameter in model.parameters():
        parameter.copy_(parameter.half())
    part = NeuralField(model, settings, DISPLACEMENT, (i, j, k), extent)
    u = part.dense((i, j, k))
    for _ in range(ROUNDS):
        bad = folded_cells(u[0].movedim(0, -1).contiguous(), np.diag(spacing.cpu()), NEARLY)
        if len(bad) == 0:
            break
        _smooth(nodes, bad * spacing / apart_mm)
        u = part.dense((i, j, k))
    return part, u


def _finish(layers: nn.Sequential, nodes: SplineEncoding, goal: Tensor) -> None:
    """Set the last layer to the least squares of what the nodes leave of a displacement."""
    i, j, k = goal.shape[2:]
    planes = slice(min(EVERY, i) // 2, None, EVERY)
    features = nodes.lattice((i, j, k), planes)
    rest = goal[0, :, planes].flatten(1).T - features
    units = layers[:-1](features)
    units = torch.cat([units, torch.ones_like(units[:, :1])], 1).double()
    square = units.T @ units
    square += DAMPING * square.diagonal().mean() * torch.eye(len(square), device=square.device)
    found = torch.linalg.solve(square, units.T @ rest.double()).float()
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    last.weight.copy_(found[:-1].T)
    last.bias.copy_(found[-1])


def _smooth(encoding: SplineEncoding, at: Tensor) -> None:
    """Smooth nodes around points, shape (N, 3), spacings of the nodes from the cube's corner."""
    nodes = encoding.nodes.movedim(0, -1).contiguous()
    smooth_around(nodes, (at.long() + 1).unique(dim=0))
    encoding.nodes.copy_(nodes.movedim(-1, 0).half())
