"""A field that is fitted in half the bits is the same field, but for their rounding."""

from __future__ import annotations

import pytest
import torch

from nir.field import mixed
from nir.field.network import FieldNetwork
from nir.field.settings import FieldSettings

WAVES = FieldSettings(
    encoding="fourier",
    activation="sine",
    lattice=None,
    precision="mixed",
    fourier_features=24,
    width=40,
    hidden=3,
    gain_mm=90.0,
)

ROUNDING = 2.0**-9  # of one number


def of_the_field(model: FieldNetwork, cube: torch.Tensor) -> dict[str, torch.Tensor]:
    """What it says, and the gradients of a mean of it."""
    points = cube.clone().requires_grad_()
    found = model(points)
    weights = torch.linspace(-1, 2, found.numel()).reshape(found.shape)
    gradients = torch.autograd.grad(
        (weights * found).mean(), [points, *model.parameters()], allow_unused=True
    )
    names = ["points", *(name for name, _ in model.named_parameters())]
    return {"value": found.detach()} | dict(zip(names, gradients, strict=True))


@pytest.mark.parametrize("half", [True, False])
def test_only_a_step_of_a_fit_is_rounded(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed, "supported", lambda: half)
    model = FieldNetwork(WAVES, 1, torch.tensor([160.0, 190.0, 170.0]))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        model.mlp[-1].weight.uniform_(-0.02, 0.02, generator=generator)
    cube = 2 * torch.rand(500, 3, generator=generator) - 1
    exact = of_the_field(model, cube)
    rounded = of_the_field(model.train(), cube)
    assert exact["value"].norm(dim=1).mean() > 1
    off = {n: float((rounded[n] - true).norm() / true.norm()) for n, true in exact.items()}
    assert (max(off.values()) < 8 * ROUNDING) if half else not any(off.values()), off
    assert (off["value"] > ROUNDING / 20) == half


def test_precision_is_of_waves_alone() -> None:
    with pytest.raises(ValueError, match="precision 'mixed' is for encoding 'fourier'"):
        FieldSettings(precision="mixed")
