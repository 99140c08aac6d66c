"""A neural field of Fourier features and sine layers in half the bits, for its fit.

Products are of bfloat16, their sums and the weights that are kept of single precision: a gradient
bears a rounding of 2^-9, a position that is written does not. The processor has to multiply in
bfloat16 itself, else this is the slower way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nir.field import kernels

HALF = torch.bfloat16


def supported() -> bool:
    """Tell whether the processor multiplies in bfloat16."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def evaluate(
    cube: Tensor, frequencies: Tensor, layers: Sequence[nn.Linear], omega: float
) -> Tensor:
    """Evaluate the field at points; twin: `FourierEncoding` and layers with `Sine` in between.

    Args:
        cube: shape (N, 3).
        frequencies: of the encoding, shape (F, 3).
        layers: linear; the last one ends in what is returned.
        omega: frequency of the sines.

    Returns:
        Single precision, shape (N, outputs).
    """
    parameters = [x for layer in layers for x in (layer.weight, layer.bias)]
    found: Tensor = _Waves.apply(cube, frequencies, omega, *parameters)
    return found


class _Waves(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cube: Tensor, frequencies: Tensor, omega: float, *parameters: Tensor
    ) -> Tensor:
        x = torch.empty(len(cube), 2 * len(frequencies), dtype=HALF)
        turns = (frequencies / 2).contiguous().numpy()
        kernels.encode_half(cube.detach().contiguous().numpy(), turns, _bits(x))
        inputs, slopes = [], []
        weights, biases = parameters[::2], parameters[1::2]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            inputs.append(x)
            x = torch.addmm(bias.to(HALF), x, weight.to(HALF).T)
            slopes.append(torch.empty_like(x))
            kernels.sine_half(_bits(x), omega / (2 * math.pi), omega, _bits(slopes[-1]))
        ctx.save_for_backward(frequencies, *inputs, x, *slopes, *weights)
        return torch.addmm(biases[-1], x.float(), weights[-1].T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        frequencies, *saved = ctx.saved_tensors
        count = (len(saved) + 1) // 3
        inputs, slopes, weights = saved[:count], saved[count:-count], saved[-count:]
        asked, found = gradients[0].to(HALF), list[Tensor]()
        for number in reversed(range(count)):
            found = [(asked.T @ inputs[number]).float(), asked.sum(0, dtype=torch.float32), *found]
            if number:
                asked = (asked @ weights[number].to(HALF)).mul_(slopes[number - 1])
        moved = None
        if ctx.needs_input_grad[0]:
            sine, cosine = inputs[0].chunk(2, 1)
            of_sine, of_cosine = (asked @ weights[0].to(HALF)).chunk(2, 1)
            turned = (of_sine * cosine - of_cosine * sine).float()
            moved = turned @ (math.pi * frequencies)
        return moved, None, None, *found


def _bits(half: Tensor) -> Any:
    """Return the bits of a bfloat16 tensor as an array of uint16."""
    return half.detach().view(torch.uint16).numpy()
