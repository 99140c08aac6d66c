from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic import ball, make_grid, texture
from pydantic import ValidationError

from nir.errors import NirError
from nir.geometry.scale import HUMAN_ML, volume_ml
from nir.io.files import load_json
from nir.io.images import load_volume, save_volume
from nir.preprocess.intensities import correct_bias, normalise
from nir.preprocess.prepare import prepare_subject, prepare_template
from nir.preprocess.settings import PreprocessConfig, TemplateConfig
from nir.preprocess.template import load_template

SHAPE = (40, 44, 38)
GRID = make_grid(SHAPE, (3.0, 3.0, 3.0), (8, -5, 0), flip=(0,))


@pytest.fixture
def brain_file(tmp_path: Path) -> Path:
    voxels = (100 + 900 * texture(SHAPE, 3.0)) * ball(SHAPE, 16.0)
    save_volume(tmp_path / "scan.nii.gz", voxels.astype(np.float32), GRID)
    return tmp_path / "scan.nii.gz"


def test_normalise_by_hand() -> None:
    voxels = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 999.0]).reshape(6, 1, 1)
    mask = np.array([1, 1, 1, 1, 1, 0]).reshape(6, 1, 1)
    brain, bounds = normalise(voxels, mask, (25.0, 75.0))
    assert bounds == (20.0, 40.0)
    assert brain.ravel().tolist() == [0.0, 0.0, 0.5, 1.0, 1.0, 0.0]
    assert brain.dtype == np.float32


def test_normalise_without_contrast() -> None:
    with pytest.raises(NirError, match="contrast inside the mask"):
        normalise(np.full((3, 3, 3), 7.0), np.ones((3, 3, 3)))


def test_a_window_of_calibrated_images() -> None:
    voxels = np.array([-1000.0, -100.0, 100.0, 300.0, 900.0]).reshape(5, 1, 1)
    mask = np.array([1, 1, 1, 1, 0]).reshape(5, 1, 1)
    brain, bounds = normalise(voxels, mask, window=(-100.0, 300.0))
    assert bounds == (-100.0, 300.0)
    assert brain.ravel().tolist() == [0.0, 0.0, 0.5, 1.0, 0.0]
    with pytest.raises(NirError, match=r"between 1000 and 2000, found -1000 to 300"):
        normalise(voxels, mask, window=(1000.0, 2000.0))
    with pytest.raises(ValidationError, match=r"window: expected low < high"):
        PreprocessConfig(window=(300, -100))


def test_subject_files(brain_file: Path, tmp_path: Path) -> None:
    record = prepare_subject(brain_file, tmp_path / "out", PreprocessConfig())
    brain, grid = load_volume(tmp_path / "out" / "brain.nii.gz")
    mask, _ = load_volume(tmp_path / "out" / "mask.nii.gz")
    assert grid.same_as(GRID)
    assert np.array_equal(mask, ball(SHAPE, 16.0))
    assert brain.min() == 0 and brain.max() == 1 and not brain[mask == 0].any()
    assert record == load_json(tmp_path / "out" / "preprocess.json")
    assert record["brain_volume_ml"] == pytest.approx(mask.sum() * 0.027)
    assert "look at the mask" in record["warnings"][0]  # 463 ml
    anything = PreprocessConfig(plausible_ml=None, window=(0, 500))
    record = prepare_subject(brain_file, tmp_path / "out", anything)
    assert record["warnings"] == []
    assert (record["percentiles"], record["intensities_at_0_and_1"]) == (None, [0, 500])


def test_no_warning_for_a_plausible_brain(tmp_path: Path) -> None:
    grid = make_grid(SHAPE, (4.0, 4.0, 4.0))  # 1100 ml
    voxels = (1 + texture(SHAPE, 3.0)) * ball(SHAPE, 16.0)
    save_volume(tmp_path / "scan.nii.gz", voxels, grid)
    assert prepare_subject(tmp_path / "scan.nii.gz", tmp_path, PreprocessConfig())["warnings"] == []


def test_labels_in_place_of_a_scan_are_told(tmp_path: Path) -> None:
    labels = (1 + np.indices(SHAPE)[0] // 2) * ball(SHAPE, 16.0)
    save_volume(tmp_path / "scan.nii.gz", labels.astype(np.int16), GRID)
    anything = PreprocessConfig(plausible_ml=None)
    record = prepare_subject(tmp_path / "scan.nii.gz", tmp_path, anything)
    assert "as a label map does" in record["warnings"][0]


def test_bias_correction_flattens_a_ramp(brain_file: Path) -> None:
    mask = ball(SHAPE, 16.0)
    ramp = np.linspace(0.6, 1.4, SHAPE[0])[:, None, None]
    flat = np.where(texture(SHAPE, 2.0) > 0.5, 100.0, 60.0)  # two tissues
    corrected = correct_bias((flat * ramp).astype(np.float32), mask, GRID, 1)

    def spread(image: np.ndarray) -> float:
        inside = image[(mask > 0) & (flat == 100)]
        return float(inside.std() / inside.mean())

    assert spread(flat * ramp) > 0.1
    assert spread(corrected) < 0.05


def test_bias_correction_does_not_know_the_species() -> None:
    """N4's shrink and the mesh of its splines are lengths of a human brain."""
    mask = ball(SHAPE, 16.0)
    human = GRID.scaled((HUMAN_ML / volume_ml(mask, GRID)) ** (1 / 3))
    voxels = (100 + texture(SHAPE, 2.0)) * np.linspace(0.6, 1.4, SHAPE[0])[:, None, None]
    large, small = (correct_bias(voxels, mask, grid, 1) for grid in (human, human.scaled(0.05)))
    assert small == pytest.approx(large, rel=1e-3)


def test_a_small_brain_is_told(tmp_path: Path) -> None:
    voxels = (1 + texture(SHAPE, 3.0)) * ball(SHAPE, 16.0)
    save_volume(tmp_path / "scan.nii.gz", voxels, make_grid(SHAPE, (0.3, 0.3, 0.3)))
    record = prepare_subject(tmp_path / "scan.nii.gz", tmp_path, PreprocessConfig())
    assert "holds 0.47 ml" in record["warnings"][0]
    assert "a millimetre of the settings is 0.069 mm" in record["warnings"][0]


def test_shipped_template() -> None:
    template = load_template(TemplateConfig(spacing_mm=4.0))
    assert np.allclose(template.grid.spacing, 4.0)
    assert template.mask.dtype == np.uint8 and template.brain.dtype == np.float32
    assert 1.7e6 < template.mask.sum() * 64 < 2.0e6  # mm3 of the ICBM152 brain mask
    assert template.brain.max() == 1 and not template.brain[template.mask == 0].any()


def test_given_template_is_written(brain_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"template\.mask"):
        TemplateConfig(image=brain_file)
    save_volume(tmp_path / "mask.nii.gz", ball(SHAPE, 12.0), GRID)
    config = TemplateConfig(image=brain_file, mask=tmp_path / "mask.nii.gz")
    prepare_template(config, tmp_path / "template")
    mask, grid = load_volume(tmp_path / "template" / "mask.nii.gz")
    assert grid.same_as(GRID) and mask.sum() == ball(SHAPE, 12.0).sum()
    assert load_json(tmp_path / "template" / "preprocess.json")["brain_volume_ml"] > 0
