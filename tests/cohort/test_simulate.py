import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from nir.cohort.phantom import LABEL_NAMES, head_phantom, sample, template_labels
from nir.cohort.readers.demo import DemoCohort
from nir.cohort.simulate import SCANS, _build_subject, _scan_grid, build_demo
from nir.cohort.truth import TEMPLATE_ID, true_pair_points
from nir.errors import NirError
from nir.geometry.grid import apply_matrix
from nir.io.images import load_labels, load_volume
from nir.io.warps import load_displacement
from nir.quality.jacobian import jacobian_determinant

CONFIG = DemoCohort(subjects=2, spacing_mm=5.0, seed=7)
NAMES = ("sub-01", "sub-02")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    build_demo(CONFIG, folder)
    return folder


def brain_points(cohort, name):
    mask, grid = load_volume(cohort / f"{name}_mask.nii.gz")
    return grid.points_lps()[mask > 0]


def test_subjects_are_named_without_building():
    assert DemoCohort(subjects=3).ids == ["sub-01", "sub-02", "sub-03"]


def test_tables_name_existing_files_and_all_labels_occur(cohort):
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    assert list(table.columns) == ["id", "image", "labels", "mask"]
    assert tuple(table["id"]) == NAMES
    names = pd.read_csv(cohort / "labels.tsv", sep="\t")
    assert dict(zip(names["index"], names["name"], strict=True)) == LABEL_NAMES
    for row in table.itertuples():
        labels, grid = load_labels(cohort / row.labels)
        assert set(np.unique(labels)) == {0, *LABEL_NAMES}
        for other in (row.image, row.mask):
            assert load_volume(cohort / other)[1].same_as(grid)


def test_cohort_says_that_it_is_simulated(cohort):
    content = json.loads((cohort / "simulation.json").read_text())
    assert "Simulated" in content["Description"]
    assert content["Settings"] == CONFIG.model_dump()


def test_one_header_is_oblique_and_one_anisotropic(cohort):
    oblique, anisotropic = (nib.load(cohort / f"{n}_T1w.nii.gz") for n in NAMES)
    assert nib.affines.obliquity(oblique.affine).max() > np.radians(5)
    assert anisotropic.header.get_zooms() == pytest.approx((5, 5, 7.5))
    for image in (oblique, anisotropic):
        assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-3)
        assert image.get_data_dtype() == np.int16


def test_orientations_vary():
    centre = np.array([3.0, -8.0, 12.0])
    for code, oblique, relative in SCANS:
        grid = _scan_grid(code, oblique, 4.0 * np.array(relative), centre)
        assert "".join(nib.aff2axcodes(grid.affine)) == code
        middle = apply_matrix(grid.vox_to_lps, (np.array(grid.shape) - 1) / 2)
        assert middle == pytest.approx(centre)
    assert {code for code, _, _ in SCANS} >= {"RAS", "LAS"}


@pytest.mark.parametrize("name", NAMES)
def test_truth_and_its_inverse_agree(cohort, name):
    points = brain_points(cohort, name)
    there = true_pair_points(cohort / "truth", name, TEMPLATE_ID, points)
    back = true_pair_points(cohort / "truth", TEMPLATE_ID, name, there)
    assert np.linalg.norm(there - points, axis=-1).mean() > 3
    error = np.linalg.norm(back - points, axis=-1)
    assert error.mean() < 0.05
    assert error.max() < 0.5


def test_truth_leads_to_the_same_place_of_the_template(cohort):
    truth = cohort / "truth"
    points = brain_points(cohort, "sub-01")
    partners = true_pair_points(truth, "sub-01", "sub-02", points)
    expected = true_pair_points(truth, "sub-01", TEMPLATE_ID, points)
    found = true_pair_points(truth, "sub-02", TEMPLATE_ID, partners)
    assert np.linalg.norm(found - expected, axis=-1).mean() < 0.3  # read between voxels of 7.5 mm


@pytest.mark.parametrize("name", NAMES)
def test_truth_is_what_made_the_labels(cohort, name):
    stored, grid = load_labels(cohort / f"{name}_dseg.nii.gz")
    points = true_pair_points(cohort / "truth", name, TEMPLATE_ID, grid.points_lps())
    labels, template_grid = template_labels()
    assert np.mean(sample(labels, template_grid, points, nearest=True) == stored) > 0.999


@pytest.mark.parametrize("index", [0, 1])
def test_deformation_peaks_as_promised_without_folds(cohort, index):
    subject = json.loads((cohort / "simulation.json").read_text())["Subjects"][index]
    path = cohort / "truth" / f"{subject['id']}_from-subject_to-template_mode-image_xfm.nii.gz"
    u_lps, grid = load_displacement(path)
    assert jacobian_determinant(u_lps, grid).min() > 0.1
    points = grid.points_lps()
    unposed = apply_matrix(np.array(subject["pose_lps"]), points + u_lps)
    assert 6 < np.linalg.norm(unposed - points, axis=-1).max() < 10
    assert subject["min_jacobian"] > 0.1


def test_the_heads_contrast_survives_the_scan(cohort):
    for name in NAMES:
        image, grid = load_volume(cohort / f"{name}_T1w.nii.gz")
        points = true_pair_points(cohort / "truth", name, TEMPLATE_ID, grid.points_lps())
        clean = head_phantom().image_at(points)
        assert np.corrcoef(clean.ravel(), image.ravel())[0, 1] > 0.95


def test_equal_seeds_give_equal_voxels_and_others_do_not(cohort, tmp_path):
    made, _ = load_volume(cohort / "sub-02_T1w.nii.gz")
    for seed, equal in ((CONFIG.seed, True), (CONFIG.seed + 1, False)):
        config = CONFIG.model_copy(update={"seed": seed})
        _build_subject(config, 1, "sub-02", head_phantom(), tmp_path)
        again, _ = load_volume(tmp_path / "sub-02_T1w.nii.gz")
        assert np.array_equal(made, again) == equal


def test_unknown_subject_has_no_truth(cohort):
    with pytest.raises(NirError, match="sub-77"):
        true_pair_points(cohort / "truth", "sub-77", "sub-01", np.zeros((1, 3)))
