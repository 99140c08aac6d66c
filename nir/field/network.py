"""The neural field: an encoding, a small MLP, three numbers out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nir.field import mixed
from nir.field.encoding import WHOLE, FourierEncoding, GridEncoding, SplineEncoding
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

    The features of splines are a displacement themselves: the layers add to them.

    Args:
        settings: encoding, width, depth, activation and gain.
        seed: of all random numbers drawn here.
        extent: edges of the cube, mm, shape (3,).

    Notes:
        The last layer starts at zero, so the first transform is the identity.
    """

    def __init__(self, settings: FieldSettings, seed: int, extent: Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.gain_mm = settings.gain_mm
        self.bounded = settings.bounded
        self.mixed = settings.precision == "mixed"
        self.encoding: FourierEncoding | GridEncoding | SplineEncoding
        if settings.encoding == "fourier":
            count, scale = settings.fourier_features, settings.fourier_scale
            self.encoding = FourierEncoding(count, scale, generator)
        elif settings.encoding == "spline":
            self.encoding = SplineEncoding(settings.encoding_mm, extent)
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
        self.eval()  # a fit sets it to training

    def forward(self, cube: Tensor) -> Tensor:
        """Evaluate at points, shape (N, 3), in [-1, 1]; returns (N, 3) in ``axis`` mm."""
        if self.mixed and self.training:
            return self._mixed(cube)
        return self._decode(self.encoding(cube))

    def lattice(self, shape: tuple[int, int, int], planes: slice = WHOLE) -> Tensor:
        """Evaluate on a regular lattice over the cube; returns (1, 3, X, Y, Z) in ``axis`` mm.

        ``planes``: those along x that are asked for.
        """
        if isinstance(self.encoding, FourierEncoding):
            points = identity(shape, next(self.parameters()).device)[0, :, planes].flatten(1)
            values = self(points.T.contiguous())
        else:
            values = self._decode(self.encoding.lattice(shape, planes))
        return values.T.reshape(1, 3, -1, *shape[1:])

    def _mixed(self, cube: Tensor) -> Tensor:
        """Evaluate at points for a step of the fit, with products in bfloat16."""
        assert isinstance(self.encoding, FourierEncoding)
        if cube.is_cuda:
            features = self.encoding(cube)  # a coordinate needs all its digits
            with torch.autocast("cuda", mixed.HALF):
                return self._decode(features).float()
        if not mixed.supported():
            return self._decode(self.encoding(cube))
        layers = [layer for layer in self.mlp if isinstance(layer, nn.Linear)]
        return self._bounded(mixed.evaluate(cube, self.encoding.frequencies, layers, OMEGA))

    def _decode(self, features: Tensor) -> Tensor:
        raw = self.mlp(features)
        if isinstance(self.encoding, SplineEncoding):
            raw = raw + features
        return self._bounded(raw)

    def _bounded(self, raw: Tensor) -> Tensor:
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
