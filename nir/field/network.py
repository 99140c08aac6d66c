"""The neural field: an encoding, a small MLP, three numbers out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nir.field.encoding import FourierEncoding, GridEncoding
from nir.field.settings import FieldSettings
from nir.geometry.lattice import identity

OMEGA = 10.0  # frequency of the sine activation; initialisation and activation share it


class Sine(nn.Module):
    """The activation sin(10 x) (Sitzmann et al. 2020, with a frequency of 10)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation element by element."""
        return torch.sin(OMEGA * x)


class FieldNetwork(nn.Module):
    """Map points of [-1, 1]^3 to displacements or velocities in millimetres.

    Args:
        settings: encoding, width, depth, activation and gain.
        seed: of all random numbers drawn here.

    Notes:
        The last layer starts at zero, so the first transform is the identity.
    """

    def __init__(self, settings: FieldSettings, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.gain_mm = settings.gain_mm
        self.bounded = settings.bounded
        self.encoding: FourierEncoding | GridEncoding
        if settings.encoding == "fourier":
            count, scale = settings.fourier_features, settings.fourier_scale
            self.encoding = FourierEncoding(count, scale, generator)
        else:
            levels, count = settings.encoding_levels, settings.encoding_features
            self.encoding = GridEncoding(levels, count, generator)
        layers: list[nn.Module] = []
        inputs = self.encoding.channels
        for number in range(settings.hidden):
            linear = nn.Linear(inputs, settings.width)
            _initialise(linear, settings.activation, first=number == 0, generator=generator)
            layers += [linear, Sine() if settings.activation == "sine" else nn.ReLU()]
            inputs = settings.width
        last = nn.Linear(inputs, 3)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(*layers, last)

    def forward(self, cube: Tensor) -> Tensor:
        """Evaluate at points, shape (N, 3), in [-1, 1]; returns (N, 3) in ``axis`` mm."""
        return self._scale(self.mlp(self.encoding(cube)))

    def lattice(self, shape: tuple[int, int, int]) -> Tensor:
        """Evaluate on a regular lattice over the cube; returns (1, 3, X, Y, Z) in ``axis`` mm."""
        if isinstance(self.encoding, GridEncoding):
            values = self._scale(self.mlp(self.encoding.lattice(shape)))
        else:
            points = identity(shape, next(self.parameters()).device)[0].flatten(1)
            values = self(points.T.contiguous())
        return values.T.reshape(1, 3, *shape)

    def _scale(self, raw: Tensor) -> Tensor:
        return self.gain_mm * (torch.tanh(raw) if self.bounded else raw)


def _initialise(
    linear: nn.Linear, activation: str, *, first: bool, generator: torch.Generator
) -> None:
    """Draw initial weights: Sitzmann et al. 2020 for sine, Glorot and Bengio 2010 for ReLU."""
    inputs, outputs = linear.in_features, linear.out_features
    if activation == "sine":
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / OMEGA
    else:
        bound = math.sqrt(6 / (inputs + outputs))
    with torch.no_grad():
        linear.weight.uniform_(-bound, bound, generator=generator)
        linear.bias.zero_()
