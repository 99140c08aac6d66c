"""The cards of the engines: what other parts ask of them, without a registration."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.oblique_pair import PAIR

from nir.engines.base import ENGINES, deforms, make_method, recall
from nir.engines.nir import Nir


@pytest.mark.parametrize("engine", ENGINES.own)
def test_a_method_is_recalled_from_its_own_settings(engine: str) -> None:
    method = make_method({"name": "a", "engine": engine})
    assert recall(method.own_settings) == method
    assert type(method.card) is ENGINES[engine]
    assert method.card.megabytes(PAIR.fixed_grid, PAIR.moving_grid) > 100


def test_own_settings_hold_the_whole_fit() -> None:
    method = Nir.Settings(name="a", engine="nir", set={"steps": 7})
    assert {phase["steps"] for phase in method.own_settings["fit"]["phases"]} == {7}


def test_what_deforms() -> None:
    assert not deforms("affine")
    assert all(map(deforms, ("syn", "nir", "unheard-of")))


@pytest.mark.parametrize(
    ("fit", "heeded"),
    [
        ({}, ("keypoints", "structures", "excluded", "contrasts")),
        ({"keypoint_weight": 0}, ("structures", "excluded", "contrasts")),
        ({"structure_weight": 0}, ("keypoints", "excluded", "contrasts")),
    ],
)
def test_what_has_no_weight_is_not_heeded(fit: dict[str, Any], heeded: tuple[str, ...]) -> None:
    assert Nir.Settings(name="a", engine="nir", set=fit).card.heeds() == heeded
