"""A neural field of Fourier features and sine layers in half the bits, for its fit.

Products are of bfloat16, their sums and the weights that are kept of single precision: a gradient
bears a rounding of 2^-9, a position that is written does not. The processor has to multiply in
bfloat16 itself, else this is the slower way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from nir.field import kernels
from nir.geometry.compiled import threads

HALF = torch.bfloat16

CHUNK = 2**13  # points that a thread does at once: what they take lies near it, and is used again


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
    """Points are worked on part by part, each by one thread; sums are added in their order."""

    @staticmethod
    def forward(
        ctx: Any, cube: Tensor, frequencies: Tensor, omega: float, *parameters: Tensor
    ) -> Tensor:
        *hidden, (last, shift) = zip(parameters[::2], parameters[1::2], strict=True)
        halves = [(weight.to(HALF).T, bias.to(HALF)) for weight, bias in hidden]
        turns = (frequencies / 2).contiguous().numpy()

        def evaluated(points: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
            x = torch.empty(len(points), 2 * len(frequencies), dtype=HALF)
            kernels.encode_half(points.contiguous().numpy(), turns, _bits(x))
            inputs, slopes = [x], []
            for weight, bias in halves:
                x = torch.addmm(bias, x, weight)
                slopes.append(torch.empty_like(x))
                kernels.sine_half(_bits(x), omega, _bits(slopes[-1]))
                inputs.append(x)
            return inputs, slopes, torch.addmm(shift, x.float(), last.T)

        parts = _each(evaluated, [(points,) for points in cube.detach().split(CHUNK)])
        ctx.kept = [(inputs, slopes) for inputs, slopes, _ in parts]
        ctx.save_for_backward(frequencies, *parameters[::2])
        return torch.cat([found for *_, found in parts])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        frequencies, *whole = ctx.saved_tensors
        weights, to_points = [weight.to(HALF) for weight in whole], ctx.needs_input_grad[0]

        def sent(asked: Tensor, inputs: list[Tensor], slopes: list[Tensor]) -> list[Tensor]:
            asked, ones = asked.to(HALF), torch.ones(len(asked), dtype=HALF)
            found: list[Tensor] = []
            for number in reversed(range(len(weights))):
                found = [(asked.T @ inputs[number]).float(), (asked.T @ ones).float(), *found]
                if number:
                    asked = (asked @ weights[number]).mul_(slopes[number - 1])
            if to_points:
                sine, cosine = inputs[0].chunk(2, 1)
                of_sine, of_cosine = (asked @ weights[0]).chunk(2, 1)
                turned = (of_sine * cosine - of_cosine * sine).float()
                found.append(turned @ (math.pi * frequencies))
            return found

        asked = gradients[0].split(CHUNK)
        parts = _each(sent, [(a, *kept) for a, kept in zip(asked, ctx.kept, strict=True)])
        points = torch.cat([part.pop() for part in parts]) if to_points else None
        sums = [sum(grown[1:], start=grown[0]) for grown in zip(*parts, strict=True)]
        return points, None, None, *sums


def _each(work: Callable[..., Any], parts: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Do some work on each part, by threads of which each does its own products alone."""

    def alone(part: tuple[Any, ...]) -> Any:
        with torch.no_grad():
            return work(*part)

    if threads() == 1:
        return [alone(part) for part in parts]
    before = torch.get_num_threads()
    done = list(_workers(threads()).map(alone, parts))
    torch.set_num_threads(before)
    return done


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))


def _bits(half: Tensor) -> Any:
    """Return the bits of a bfloat16 tensor as an array of uint16."""
    return half.view(torch.uint16).numpy()
