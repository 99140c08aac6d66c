"""What an engine returns is looked at before anything is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.oblique_pair import PAIR

from nir.engines.affine import Affine
from nir.engines.base import Registration, make_method
from nir.errors import NirError
from nir.pair.steps import run_engine


@pytest.mark.parametrize(("direction", "value"), [("forward", np.nan), ("inverse", np.inf)])
def test_displacements_that_are_no_numbers_end_the_pair(
    monkeypatch: pytest.MonkeyPatch, direction: str, value: float
) -> None:
    """No comparison with NaN is true: such a warp has no folds, and no check of it fails."""
    sound = Affine.register

    def broken(*given: Any) -> Registration:
        found = sound(*given)
        getattr(found, direction)[1, 2, 3, 0] = value
        return found

    monkeypatch.setattr(Affine, "register", broken)
    method = make_method({"name": "affine", "engine": "affine"})
    options: Any = {"seed": 1, "device": "cpu", "threads": 1, "log": lambda line: None}
    with pytest.raises(NirError, match=r"'affine' returned displacements with 1 number\(s\) that"):
        run_engine(replace(PAIR), method, **options)
