"""The benchmark of similarities: its contrasts, and one small run of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.contrasts import (
    CSF,
    DEMO_TISSUES,
    GREY,
    LOOKS,
    TISSUES,
    WHITE,
    simulate,
    tissue_map,
    tissue_shares,
)
from benchmarks.multimodal import Source, own_similarity, real_phantom
from benchmarks.verdicts import Scan
from helpers.synthetic import OBLIQUE, ball, make_grid, texture
from helpers.tiny import write_cohort
from scipy.ndimage import gaussian_filter

from benchmarks import multimodal
from nir.cohort.simulate import HEAD_CENTRE
from nir.fit.settings import fit_config
from nir.geometry.grid import RAS_TO_LPS, apply_matrix
from nir.io.files import load_json

SHAPE = (40, 40, 40)
SPACING = np.array([2.0, 2.0, 2.0])
T1 = {CSF: 0.2, GREY: 0.5, WHITE: 0.8}


def shells() -> tuple[np.ndarray, np.ndarray]:
    """A T1-weighted ball of white, grey and fluid shells with partial volume, and its tissues."""
    tissue = np.zeros(SHAPE, np.uint8)
    for code, radius in ((CSF, 18), (GREY, 15), (WHITE, 10)):
        tissue[ball(SHAPE, radius) > 0] = code
    sharp = np.select([tissue == code for code in TISSUES], [T1[code] for code in TISSUES], 0.2)
    image = gaussian_filter(sharp, 0.7) + 0.02 * (texture(SHAPE, 1.0) - 0.5)
    return 700 * image.astype(np.float32), tissue


def looks_like(kind: str, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    image, tissue = shells()
    return simulate(kind, image, tissue, SPACING, np.random.default_rng(seed)), tissue


class TestContrasts:
    @pytest.mark.parametrize(
        ("kind", "order"),
        [
            ("inverted", (CSF, GREY, WHITE)),
            ("t2", (CSF, GREY, WHITE)),
            ("ct", (GREY, WHITE, CSF)),
        ],
    )
    def test_tissues_are_in_order_and_the_background_stays_empty(
        self, kind: str, order: tuple[int, ...]
    ) -> None:
        found, tissue = looks_like(kind)
        first, second, third = (float(np.median(found[tissue == code])) for code in order)
        assert first > second > third > 0
        assert np.all(found[tissue == 0] == 0)
        assert np.isfinite(found).all() and found.min() == 0

    def test_soft_tissues_of_a_ct_drown_in_noise(self) -> None:
        found, tissue = looks_like("ct")
        grey, white = found[tissue == GREY], found[tissue == WHITE]
        assert abs(np.median(grey) - np.median(white)) < 3 * white.std()

    def test_a_seed_repeats_and_another_gives_other_noise(self) -> None:
        one, again, other = (looks_like("t2", seed)[0] for seed in (1, 1, 2))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)

    def test_shares_sum_to_one_and_follow_the_partial_volume(self) -> None:
        image, tissue = shells()
        shares = tissue_shares(image / 700, tissue, SPACING)
        assert np.allclose(shares.sum(0), 1, atol=1e-5)
        assert shares[WHITE - 1, 20, 20, 20] > 0.95
        along = shares[WHITE - 1, 20, 20, 20:34]  # from the middle through all shells
        assert np.all(np.diff(along) < 0.05)
        assert np.abs(np.diff(along)).max() < 0.8  # no step from all to nothing

    def test_the_labels_give_the_tissues(self) -> None:
        labels, mask = np.array([[[0, 1, 6, 21, 23, 24]]]), np.ones((1, 1, 6))
        mask[..., 5] = 0
        found = tissue_map(labels, mask, DEMO_TISSUES)
        assert found.tolist() == [[[CSF, GREY, WHITE, GREY, CSF, 0]]]


def test_a_similarity_replaces_the_preset_s_where_the_solver_knows_it() -> None:
    phases = fit_config(multimodal.PRESET).phases
    searches = {f"phases.{n}.similarity" for n, p in enumerate(phases) if p.solver == "search"}
    assert len(own_similarity("mse")) == len(phases)
    assert len(own_similarity("nmi")) == len(phases) - len(searches)
    assert not own_similarity("nmi").keys() & searches


def test_a_real_brain_lies_in_the_middle_of_the_template_s_space() -> None:
    image, tissue = shells()
    grid = make_grid(SHAPE, (2.0, 2.0, 2.0), OBLIQUE, (0,), (30.0, -200.0, 90.0))
    phantom = real_phantom(Scan(image, tissue.astype(np.int16), tissue > 0, grid))
    middle = apply_matrix(phantom.grid.affine, np.argwhere(phantom.mask).mean(0))
    assert np.allclose(apply_matrix(RAS_TO_LPS, middle), HEAD_CENTRE, atol=0.01)
    assert phantom.head.max() == 0 and phantom.brain.max() == 1


def test_one_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = write_cohort(tmp_path / "cohort", 2).parent
    tissues = {label: TISSUES[label % 3] for label in range(1, 7)}
    tiny = {"tiny": lambda work, data: Source(scans, (("s0", "s1"),), tissues, every=True)}
    monkeypatch.setattr(multimodal, "BRAINS", tiny)
    monkeypatch.setattr(multimodal, "LOOKS", {"t2": LOOKS["t2"]})
    words = ["--output", str(tmp_path / "out"), "--data", str(scans)]
    assert multimodal.main([*words, "--only", "affine,mind"]) == 0
    text = (tmp_path / "out" / "table.md").read_text()
    assert "## tiny, t2" in text
    assert "| mind " in text and "| syn " not in text
    assert "error, mm" not in text  # no truth is known of this pair
    settings = load_json(tmp_path / "out" / "machine.json")["methods"]
    others = {"affine", "syn", "syn-long", multimodal.PRESET}
    assert others | set(multimodal.SIMILARITIES.names) == set(settings)
    for name in ("contrasts.png", "pairs.tsv", "table.tsv"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert str(tmp_path) not in text + (tmp_path / "out" / "pairs.tsv").read_text()


def test_without_the_real_scans_the_cure_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--output", str(tmp_path / "out"), "--data", str(tmp_path / "gone")]
    assert multimodal.main(words) == 2
    assert "--brains demo" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
