"""Optimisers of a field's parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer


class TensorAdam(Optimizer):
    """Adam with one second moment a tensor instead of one an element.

    Adam divides each element by the size of its own gradient, so a feature that lies where the
    images have no contrast, with a gradient of mere noise, moves as far as one on a tissue border.
    With one second moment for a whole tensor, elements keep their share of the gradient: the field
    stays at rest where the images say nothing.

    Args:
        parameters: tensors to optimise.
        lr: learning rate; the root mean square of a tensor's steps is about this.
        betas: decay of the running mean of the gradient and of its mean square.

    Notes:
        After Kingma and Ba 2015, algorithm 1, with the second moment averaged over each tensor.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["mean"] = torch.zeros_like(parameter)
                    state["square"] = torch.zeros((), device=parameter.device)
                state["step"] += 1
                state["mean"].lerp_(parameter.grad, 1 - first)
                state["square"].lerp_(parameter.grad.square().mean(), 1 - second)
                size = (state["square"] / (1 - second ** state["step"])).sqrt() + 1e-12
                scale = group["lr"] / (1 - first ** state["step"])
                parameter.sub_(scale * state["mean"] / size)


OPTIMISERS: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "tensor-adam": TensorAdam}
