"""A phase in which a neural field learns what was found, and stands for it from then on.

No image is looked at: the field follows a displacement, which is far less work than to find one.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn

from nir.field.encoding import SplineEncoding
from nir.field.network import FieldNetwork
from nir.field.parts import DenseField, NeuralField
from nir.field.settings import FlowSettings
from nir.fit.level import Level
from nir.fit.settings import Phase
from nir.fit.solvers.base import Rows, Solver, Told
from nir.geometry.folds import NEARLY, smooth_around
from nir.geometry.tetrahedra import folded_cells

DISPLACEMENT = FlowSettings(model="displacement")

EVERY = 4  # planes of the level, of which one tells the last layer

ROUNDS = 20  # in which nodes around folds are smoothed

DAMPING = 1e-6  # of the last layer's least squares: share of the mean square of a hidden unit


@torch.no_grad()
def solve(
    level: Level,
    start: DenseField | None,
    phase: Phase,
    told: Told,
    flow: FlowSettings,
    seed: int,
) -> tuple[NeuralField, Rows]:
    """Let a fresh neural field follow a displacement; as `Solve`.

    Twice least squares: of the nodes, whose features are a displacement, and of the last layer,
    which adds to it. Both are then rounded to half precision, in which a field is kept, and nodes
    are smoothed around the few cells of the level that fold.
    """
    assert start is not None
    began = time.perf_counter()
    goal = start.dense(level.shape)
    spacing_mm = max(phase.encoding_mm, float(level.spacing.max()))  # nodes that some voxel tells
    settings = phase.model_copy(update={"encoding_mm": spacing_mm})
    model = FieldNetwork(settings, seed, level.extent).to(level.extent.device)
    assert isinstance(model.encoding, SplineEncoding)
    model.encoding.follow(goal[0] / model.gain_mm)
    _finish(model.mlp, model.encoding, goal / model.gain_mm)
    for parameter in model.parameters():
        parameter.copy_(parameter.half())
    part = NeuralField(model, settings, DISPLACEMENT, level.shape, level.extent)
    u = part.dense(level.shape)
    for _ in range(ROUNDS):
        bad = folded_cells(u[0].movedim(0, -1).contiguous(), np.diag(level.spacing.cpu()), NEARLY)
        if len(bad) == 0:
            break
        _smooth(model.encoding, bad * level.spacing / spacing_mm)
        u = part.dense(level.shape)
    miss = float((u - goal).square().sum(1).mean().sqrt())
    told(0, miss)
    return part, [{"step": 0, "loss": miss, "seconds": time.perf_counter() - began}]


def _finish(layers: nn.Sequential, nodes: SplineEncoding, goal: Tensor) -> None:
    """Set the last layer to the least squares of what the nodes leave of a displacement."""
    i, j, k = goal.shape[2:]
    planes = slice(EVERY // 2, None, EVERY)
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


DISTIL = Solver(solve, goes_on=True)
