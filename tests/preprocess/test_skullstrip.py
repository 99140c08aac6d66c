from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic import ball, make_grid, texture
from pydantic import ValidationError
from scipy.ndimage import distance_transform_edt, gaussian_filter

from nir.errors import NirError
from nir.geometry.grid import Grid
from nir.geometry.image import Image, sample_on
from nir.geometry.scale import volume_ml
from nir.io.images import load_volume, save_volume
from nir.preprocess import choice, template_strip
from nir.preprocess.masks import read_mask
from nir.preprocess.settings import PreprocessConfig, TemplateConfig
from nir.preprocess.skullstrip import skull_strip
from nir.preprocess.template import SHIPPED_ML, brain_ml, load_template
from nir.preprocess.template_strip import SEARCH_MM, refine, search_position

SHAPE = (24, 26, 22)
GRID = make_grid(SHAPE, (2.0, 2.0, 3.0))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a > 0, b > 0
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_none_fills_holes_and_drops_islands(tmp_path: Path) -> None:
    voxels = ball(SHAPE, 8.0).astype(np.float32)
    voxels[12, 13, 11] = 0  # a hole
    voxels[0, 0, 0] = 5  # an island
    voxels[8, 13, 11] = -1  # below zero is brain as well
    save_volume(tmp_path / "scan.nii.gz", voxels, GRID)
    mask = skull_strip(tmp_path / "scan.nii.gz", "none")
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, ball(SHAPE, 8.0))


def test_mask_is_taken_as_given(tmp_path: Path) -> None:
    save_volume(tmp_path / "scan.nii.gz", texture(SHAPE, 2.0), GRID)
    save_volume(tmp_path / "mask.nii.gz", 3 * ball(SHAPE, 6.0), GRID)
    mask = skull_strip(tmp_path / "scan.nii.gz", "mask", mask_path=tmp_path / "mask.nii.gz")
    assert np.array_equal(mask, ball(SHAPE, 6.0))
    with pytest.raises(NirError, match="column 'mask'"):
        skull_strip(tmp_path / "scan.nii.gz", "mask")


def test_mask_faults(tmp_path: Path) -> None:
    save_volume(tmp_path / "empty.nii.gz", np.zeros(SHAPE, np.uint8), GRID)
    with pytest.raises(NirError, match="an empty mask"):
        read_mask(tmp_path / "empty.nii.gz", GRID)
    save_volume(tmp_path / "mask.nii.gz", ball(SHAPE, 6.0), make_grid(SHAPE, (2.0, 2.0, 2.0)))
    with pytest.raises(NirError, match="the image's grid"):
        read_mask(tmp_path / "mask.nii.gz", GRID)


def test_image_without_brain(tmp_path: Path) -> None:
    save_volume(tmp_path / "scan.nii.gz", np.zeros(SHAPE, np.float32), GRID)
    with pytest.raises(NirError, match="an empty mask"):
        skull_strip(tmp_path / "scan.nii.gz", "none")


def test_unknown_method_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NirError, match="did you mean 'template'"):
        skull_strip(tmp_path / "scan.nii.gz", "Template")


@pytest.mark.parametrize("method", ["template", "deepbet"])
def test_a_stripped_brain_is_not_stripped_again(tmp_path: Path, method: str) -> None:
    template = load_template(TemplateConfig(spacing_mm=4.0))
    save_volume(tmp_path / "scan.nii.gz", template.brain, template.grid)
    with pytest.raises(NirError, match=r"scan\.nii\.gz: .*stripped already; .*skull_strip to none"):
        skull_strip(tmp_path / "scan.nii.gz", method, template=template)


def test_a_mask_of_nearly_all_there_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a stripped brain that the look at it alone does not tell from a head."""
    shape = (50, 56, 48)
    large, cut = ball(shape, 22.5), ball(shape, 21.5)
    template = load_template(TemplateConfig(spacing_mm=4.0))
    monkeypatch.setattr(template_strip, "carried_mask", lambda *args: cut > 0)
    voxels = (1 + texture(shape, 2.0)) * large
    save_volume(tmp_path / "scan.nii.gz", voxels, make_grid(shape, (4.0, 4.0, 4.0)))
    with pytest.raises(NirError, match=r"a mask of 26\d\d ml in an image that shows 30\d\d ml"):
        skull_strip(tmp_path / "scan.nii.gz", "template", template=template)


def test_the_volume_of_the_shipped_template_is_known() -> None:
    template = load_template(TemplateConfig(spacing_mm=2.0))
    assert volume_ml(template.mask, template.grid) == pytest.approx(SHIPPED_ML, rel=0.01)
    assert brain_ml(TemplateConfig()) == SHIPPED_ML


def simple_head(radius_mm: float, spacing: float) -> tuple[Image, np.ndarray]:
    """A ball of brain in dark CSF and bone, in bright scalp."""
    count = round(2.4 * radius_mm / spacing)
    shape = (count, count, count)
    brain = ball(shape, radius_mm / spacing) > 0
    depth = distance_transform_edt(~brain) * spacing
    around = np.where((depth > 7) & (depth < 14), 80.0, 5.0)
    voxels = np.where(brain, 80 + 40 * texture(shape, 2.0), around)
    voxels = gaussian_filter(np.where(depth > 14, 0, voxels), 0.4).astype(np.float32)
    return Image(voxels, make_grid(shape, (spacing,) * 3)), brain


@pytest.mark.parametrize("shift", [-2, 2])
def test_refinement_finds_the_dark_rim(shift: int) -> None:
    head, brain = simple_head(40.0, 2.0)
    prior = ball(brain.shape, 20 + shift / 2) > 0  # 2 mm too small, 2 mm too large
    refined = refine(head, prior)
    assert dice(prior, brain) < 0.97
    assert dice(refined, brain) > 0.98


def test_search_finds_a_shifted_and_turned_pattern() -> None:
    shape = (14, 16, 13)
    grid = make_grid(shape, (SEARCH_MM,) * 3)
    pattern = Image(texture(shape, 1.5), grid)
    region = Image(ball(shape, 6.0).astype(np.float32), grid)
    truth = np.eye(4)
    truth[:3, 3] = (SEARCH_MM * 3, -SEARCH_MM * 2, SEARCH_MM)
    wide = make_grid((24, 26, 22), (SEARCH_MM,) * 3)
    head = Image(sample_on(pattern, wide, np.linalg.inv(truth)), wide)
    assert np.abs(search_position(pattern, region, head) - truth).max() < SEARCH_MM / 2 + 0.1


@pytest.mark.parametrize("oblique", [False, True])
def test_real_head(shared_data: Path, tmp_path: Path, oblique: bool) -> None:
    path = shared_data / "head" / "sub-1000_T1w.nii.gz"
    if not path.exists():
        pytest.skip(f"the real head is absent: no {path}")
    voxels, grid = load_volume(path)
    truth, _ = load_volume(shared_data / "head" / "sub-1000_mask.nii.gz")
    if oblique:
        turned = make_grid(grid.shape, (2.0, 2.0, 2.0), (14, -9, 12), centre=(40, -70, 90))
        grid = Grid(grid.shape, turned.affine)
    save_volume(tmp_path / "scan.nii.gz", voxels, grid)
    template = load_template(TemplateConfig())
    for method in ("template", "deepbet"):
        mask = skull_strip(tmp_path / "scan.nii.gz", method, template=template)
        assert dice(mask, truth) >= 0.95


def test_a_small_template_strips_small_heads(tmp_path: Path) -> None:
    """A mouse's head, its own template in skull and scalp, as long as a 40th of a human one."""
    brain = load_template(TemplateConfig(spacing_mm=4.0))
    template = brain._replace(grid=brain.grid.scaled(1 / 40))
    inside = np.pad(brain.mask, 6) > 0
    depth = 4 * distance_transform_edt(~inside)
    around = np.where(depth < 8, 0.1, np.where(depth < 14, 0.75, 0.0))
    noise = np.random.default_rng(1).normal(0, 0.01, inside.shape)
    head = np.where(inside, np.pad(brain.brain, 6), around) + np.abs(noise)
    grid = template.grid.crop((-6, -6, -6), tuple(n + 6 for n in brain.grid.shape))
    save_volume(tmp_path / "scan.nii.gz", head.astype(np.float32), grid)
    assert dice(skull_strip(tmp_path / "scan.nii.gz", "template", template=template), inside) > 0.9


class TestCommand:
    """A program of the user's strips the skull."""

    PROGRAM = "import shutil, sys; shutil.copy({mask!r}, sys.argv[sys.argv.index('-m') + 1])"

    def strip(self, tmp_path: Path, program: str) -> np.ndarray:
        save_volume(tmp_path / "a scan.nii.gz", texture(SHAPE, 2.0), GRID)
        (tmp_path / "strip.py").write_text(program)
        command = f"{sys.executable} '{tmp_path / 'strip.py'}' -i {{image}} -m {{mask}}"
        return skull_strip(tmp_path / "a scan.nii.gz", "command", command=command)

    def test_its_mask_is_taken(self, tmp_path: Path) -> None:
        save_volume(tmp_path / "mask.nii.gz", ball(SHAPE, 6.0), GRID)
        mask = self.strip(tmp_path, self.PROGRAM.format(mask=str(tmp_path / "mask.nii.gz")))
        assert np.array_equal(mask, ball(SHAPE, 6.0))

    def test_a_mask_on_another_grid_is_refused(self, tmp_path: Path) -> None:
        save_volume(tmp_path / "mask.nii.gz", ball(SHAPE, 6.0), make_grid(SHAPE, (2, 2, 2)))
        with pytest.raises(NirError, match="the image's grid"):
            self.strip(tmp_path, self.PROGRAM.format(mask=str(tmp_path / "mask.nii.gz")))

    def test_a_program_that_fails_is_quoted(self, tmp_path: Path) -> None:
        with pytest.raises(NirError, match=r"exit code 3, no mask; no licence; run it by hand: "):
            self.strip(tmp_path, "import sys; print('no licence', file=sys.stderr); sys.exit(3)")

    def test_a_program_that_is_not_there(self, tmp_path: Path) -> None:
        save_volume(tmp_path / "scan.nii.gz", texture(SHAPE, 2.0), GRID)
        with pytest.raises(NirError, match=r"nowhere: expected a program, found No such file"):
            skull_strip(tmp_path / "scan.nii.gz", "command", command="nowhere {image} {mask}")

    @pytest.mark.parametrize(
        ("settings", "fault"),
        [
            ({"skull_strip": "command"}, "belong together"),
            ({"command": "a {image} {mask}"}, "belong together"),
            ({"skull_strip": "command", "command": "a {image}"}, "both"),
            ({"skull_strip": "command", "command": "a {image} {mask} {more}"}, "more"),
            ({"skull_strip": "command", "command": "a '{image} {mask}"}, "quotation"),
        ],
    )
    def test_its_settings_are_checked(self, settings: dict[str, str], fault: str) -> None:
        with pytest.raises(ValidationError, match=fault):
            PreprocessConfig(**settings)


@pytest.mark.parametrize(
    ("name", "given", "head", "template", "expected"),
    [
        ("s_T1w.nii.gz", True, True, {}, "mask"),
        ("s_T1w.nii.gz", False, False, {}, "none"),
        ("s_T1w.nii.gz", False, True, {}, "deepbet"),
        ("s.nii.gz", False, True, {}, "deepbet"),
        ("s_T2w.nii.gz", False, True, {}, "template"),
        ("s_T1w.nii.gz", False, True, {"image": "a.nii.gz", "mask": "b.nii.gz"}, "template"),
    ],
)
def test_auto_takes_what_the_scan_needs(
    name: str,
    given: bool,
    head: bool,
    template: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "brain_ml", lambda config: SHIPPED_ML)
    shape = (50, 56, 48)
    voxels = (1 + texture(shape, 2.0)) * ball(shape, 18.0)  # 1560 ml
    if head:
        voxels = voxels + 0.2 * texture(shape, 1.0)  # no background of one value
    grid = make_grid(shape, (4.0, 4.0, 4.0))
    config = TemplateConfig(**template)
    assert choice.choose_strip(Path(name), voxels, grid, given, config)[0] == expected
