"""The fitted field as a file: what it evaluates to is what the fit found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.oblique_pair import FIXED, PAIR
from helpers.two_spaces import points_inside
from safetensors import safe_open
from safetensors.torch import save_file

from nir.engines.base import Job, Registration
from nir.engines.nir import Nir
from nir.errors import NirError
from nir.field.fitted import FittedField
from nir.geometry.maps import DisplacementField
from nir.transforms.files import read_transform, write_transform

GRIDS = {"steps": 20, "lr": 5e-2, "smoothness": 0.3, "encoding_levels": (4, 8)}
FITS: dict[str, dict[str, Any]] = {
    "velocity": {"model": "velocity", "phases": [GRIDS, GRIDS]},
    "points": {
        "model": "displacement",
        "phases": [GRIDS | {"lattice": None, "stride": 2, "steps": 10}],
    },
    "rk4": {"model": "velocity", "phases": [GRIDS | {"lattice": None, "stride": 3, "steps": 5}]},
    "fourier": {
        "model": "displacement",
        "phases": [GRIDS | {"encoding": "fourier", "activation": "sine", "lr": 1e-3}],
    },
    "fluid": {
        "phases": [
            {"solver": "search", "resolution_mm": 3.0, "radius": 2},
            {"solver": "fluid", "resolution_mm": 2.0, "radius": 2, "steps": 5},
        ]
    },
    "distil": {
        "phases": [
            {"solver": "fluid", "resolution_mm": 2.0, "radius": 2, "steps": 5},
            {"solver": "distil", "encoding": "spline", "lattice": None, "resolution_mm": 2.0},
        ]
    },
}


@pytest.fixture(scope="module", params=FITS)
def fitted(request: pytest.FixtureRequest) -> tuple[str, Registration]:
    method = Nir.Settings(name="nir", engine="nir", set=FITS[request.param] | {"margin_mm": 2.0})
    return request.param, method.card.register(PAIR, Job(1, "cpu", log=lambda line: None))


def test_it_evaluates_to_the_exported_warp(fitted: tuple[str, Registration]) -> None:
    name, result = fitted
    assert result.fitted is not None
    u_lps = result.fitted(FIXED.points_lps()) - FIXED.points_lps()
    error = np.linalg.norm(u_lps - result.forward, axis=-1)
    # The warp is composed on the grid, the field between its points; and in a rough one a few
    # voxels moved, because the inverse led back too far from them.
    moved = error > 0.05
    assert moved.mean() < (0.005 if name == "fluid" else 1e-9)
    assert error[~moved].mean() < 1e-3
    assert error.max() < 0.5
    assert np.linalg.norm(result.forward, axis=-1).mean() > 1


def test_a_file_keeps_it(fitted: tuple[str, Registration], tmp_path: Path) -> None:
    _, result = fitted
    assert result.fitted is not None
    result.fitted.provenance = {"seed": 1}
    result.fitted.save(tmp_path / "field.safetensors")
    found = read_transform(tmp_path / "field.safetensors")
    assert isinstance(found, FittedField)
    points = points_inside(FIXED)
    np.testing.assert_array_equal(found(points), result.fitted(points))
    assert found.provenance == {"seed": 1}
    assert found.grid.same_as(FIXED)
    write_transform(tmp_path / "warp.nii.gz", found)
    warp = read_transform(tmp_path / "warp.nii.gz")
    assert isinstance(warp, DisplacementField)
    np.testing.assert_allclose(
        warp.u_lps, found(FIXED.points_lps()) - FIXED.points_lps(), atol=1e-4
    )


def test_its_inverse_leads_back(fitted: tuple[str, Registration]) -> None:
    _, result = fitted
    assert result.fitted is not None
    points = points_inside(FIXED)
    back = result.fitted.inverse()(result.fitted(points))
    assert np.linalg.norm(back - points, axis=1).max() < 5e-3


def test_its_jacobian_is_the_derivative(fitted: tuple[str, Registration]) -> None:
    _, result = fitted
    assert result.fitted is not None
    points = points_inside(FIXED, 200)
    step = 0.02  # mm: short beside a voxel, long beside single precision
    columns = []
    for axis in range(3):
        shift = np.zeros(3)
        shift[axis] = step / 2
        columns.append((result.fitted(points + shift) - result.fitted(points - shift)) / step)
    expected = np.stack(columns, axis=-1)
    error = np.abs(result.fitted.jacobian(points) - expected).max(axis=(1, 2))
    assert np.median(error) < 2e-3
    assert np.mean(error < 0.02) > 0.9  # a step may cross the face of a lattice's cell


def test_velocities_are_there_for_velocity_fields_alone(fitted: tuple[str, Registration]) -> None:
    name, result = fitted
    assert result.fitted is not None
    points = points_inside(FIXED)
    if name not in ("velocity", "rk4"):
        with pytest.raises(NirError, match="has no velocity"):
            result.fitted.velocity(points, 0)
        return
    first = FittedField(
        result.fitted.parts[:1], result.fitted.box, FIXED, np.eye(4)
    )  # one part, no affine
    v, u = result.fitted.velocity(points, 0), first(points) - points
    assert np.abs(v).max() > 0.1
    alike = (v * u).sum() / np.linalg.norm(v) / np.linalg.norm(u)
    assert alike > 0.95  # small deformations: the displacement is nearly the velocity


def test_other_weights_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(NirError, match="other weights"):
        FittedField.load(tmp_path / "other.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"12345678" * 9)
    with pytest.raises(NirError, match="a fitted field"):
        FittedField.load(tmp_path / "half.safetensors")


def test_a_field_without_some_of_its_weights_is_refused(
    fitted: tuple[str, Registration], tmp_path: Path
) -> None:
    path = tmp_path / "field.safetensors"
    field = fitted[1].fitted
    assert field is not None
    field.save(path)
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    lost = next(name for name in tensors if name.startswith("0."))
    del tensors[lost]
    save_file(tensors, path, metadata=told)
    with pytest.raises(NirError, match=r"field\.safetensors: expected a whole fitted field"):
        FittedField.load(path)
