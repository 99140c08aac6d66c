"""The page of one registration."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.pages import Page
from helpers.pair_pages import CHECKS, LABELS, NIR, page, result, write
from helpers.pictures import GRIDS, ball

from nir.engines.base import make_method
from nir.engines.nir import Nir
from nir.engines.syn import Syn
from nir.geometry.maps import Affine
from nir.geometry.resample import resample
from nir.io.images import load_labels, load_volume
from nir.preprocess.settings import AffineConfig, PreprocessConfig
from nir.quality.verdict import Check, as_baseline
from nir.report.figures.pair import LOSSES, draw_images, draw_losses
from nir.report.figures.planes import PairImages
from nir.report.methods_text import citations, methods_text
from nir.report.pair_page import Brain
from nir.shipped import REPORTS

EVIL = "<script>alert('&')</script>"
PROVENANCE = '<section id="provenance"'


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all pictures of a small pair."""
    folder = tmp_path_factory.mktemp("pair")
    draw_images(ball(GRIDS["LAS"]), folder / "figures")
    trace = pd.DataFrame({"phase": [0, 0], "step": [0, 1], "loss": [0.9, 0.5]})
    draw_losses(trace, ["phase 0"], folder / "figures" / LOSSES)
    return folder


@pytest.fixture
def full(figures: Path) -> str:
    """Return the page of a pair with labels."""
    write(figures, result(NIR, [1, 2, 3], warnings=["look"]), LABELS)
    return page(figures)


def test_the_page_shows_how_the_brains_were_found(figures: Path, tmp_path: Path) -> None:
    write(figures, result(NIR, [1, 2, 3]), LABELS)
    picture = tmp_path / "mask.jpg"
    picture.write_bytes(b"pixels")
    records = (
        {"skull_strip": "deepbet", "skull_strip_why": "it shows a head", "brain_volume_ml": 1503.6},
        {"skull_strip": "mask", "brain_volume_ml": 1410.0},
    )
    brains = [Brain(f"sub-{n}", record, picture) for n, record in enumerate(records, start=1)]
    text = page(figures, brains=brains)
    captions = re.findall(r"<figcaption>(Skull strip.*?)</figcaption>", text)
    assert captions == [
        "Skull strip: deepbet (it shows a head); 1504 ml.",
        "Skull strip: mask; 1410 ml.",
    ]
    assert text.count("data:image/jpeg;base64,cGl4ZWxz") == 2
    assert "cut out by deepbet (Fisch et al., 2024)" in text
    assert "cut to the masks that came with them" in text
    assert "@article{fisch2024deepbet" in text


def test_the_page_stands_alone(full: str) -> None:
    found = Page(full)
    policy = found.every("meta")[1]["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not found.every("script")
    assert not found.every("link")
    assert all((a["src"] or "").startswith("data:image/") for a in found.every("img"))
    assert all((a["href"] or "").startswith("#") for a in found.every("a"))
    assert "url(" not in full
    assert "@import" not in full


def test_pictures_have_alternative_texts_and_anchors_exist(full: str) -> None:
    found = Page(full)
    alts = [attributes["alt"] for attributes in found.every("img")]
    assert len(alts) == len(set(alts)) == 11
    assert all(alts)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [(a["href"] or "")[1:] for a in found.every("a")]
    targets += [a["for"] or "" for a in found.every("label")]
    targets += [a["aria-labelledby"] or "" for a in found.every("section")]
    assert set(ids) >= set(targets)


def test_the_flicker_needs_a_pointer_or_a_key_and_no_script(full: str) -> None:
    boxes = [a for a in Page(full).every("div") if "flicker" in (a.get("class") or "")]
    assert [box["tabindex"] for box in boxes] == ["0"]
    for part in (".flicker:hover .over", ".flicker:focus .over", "@keyframes flicker"):
        assert part in full
    calm = full.partition("@media (prefers-reduced-motion: reduce)")[2][:200]
    assert "animation: none" in calm


def test_the_verdict_is_told_in_words_the_worst_first(full: str) -> None:
    listed = re.findall(r'<li><span class="verdict \w+">(. \w+)</span>', full)
    assert listed == ["✕ fail", "! warn", "✓ pass"]
    assert '<strong>Verdict</strong>: <span class="verdict fail">✕ fail</span>' in full
    assert "2 of 3 checks ask for a closer look." in full
    assert "<strong>Folds</strong>: 0 % folded, at most 0.01 %." in full


def test_an_affine_beside_other_methods_is_a_baseline(figures: Path) -> None:
    write(figures, result(NIR, []), [])
    text = page(figures, as_baseline(CHECKS[:1]))
    assert '<span class="verdict baseline">– baseline</span>' in text
    assert "The check was passed." in text


def test_without_a_check_the_verdict_is_doubtful(figures: Path) -> None:
    write(figures, result(NIR, []), [])
    assert "nothing speaks for this registration" in page(figures, [])
    assert "The check was passed." in page(figures, CHECKS[:1])


def test_structures_are_sorted_by_their_dice(full: str) -> None:
    table = full.partition('id="structures"')[2].partition("</table>")[0]
    assert re.findall('<th scope="row">(.*?)</th>', table) == ["putamen", "thalamus", "2"]
    assert re.findall(r"width: ([\d.]+)%", table) == ["30.0", "25.0", "50.0", "90.0"]


def test_metrics_come_with_unit_and_meaning(full: str) -> None:
    assert "<td>0.00031\N{NO-BREAK SPACE}%</td>" in full
    assert "<td>0.02\N{NO-BREAK SPACE}mm</td>" in full
    assert "Share of the fixed brain mask where det J &lt;= 0" in full
    assert "unheard of" in full


def test_without_labels_nothing_speaks_of_them(figures: Path, full: str) -> None:
    assert {'id="structures"', 'id="contours"'} <= set(re.findall('id="[a-z]+"', full))
    contours = figures / "figures" / "contours.png"
    kept = contours.read_bytes()
    contours.unlink()
    write(figures, result(NIR, []), [])
    text = page(figures)
    contours.write_bytes(kept)
    assert not {'id="structures"', 'id="contours"'} & set(re.findall('id="[a-z]+"', text))
    assert "HD95" not in text
    assert ">nan" not in text


def test_clock_and_paths_are_in_the_provenance_alone(full: str) -> None:
    text, mark, provenance = full.partition(PROVENANCE)
    assert mark
    for word in ("snakemake --cores 2", "3.2", "711 MB", "abacus", "phase 0", "elasticity_vox"):
        assert word in provenance, word
    text = re.sub('base64,[^"]*', "", text)
    for word in ("snakemake", "12.5", "711", "abacus"):
        assert word not in text, word


def test_markup_in_names_and_texts_is_escaped(figures: Path) -> None:
    settings = NIR.own_settings | {EVIL: EVIL}
    evil = {"method": EVIL, "warnings": [EVIL], "device": EVIL, "settings": settings}
    evil |= {"machine": {EVIL: EVIL}, "versions": {"nir": EVIL}}
    write(figures, result(NIR, [1], **evil), [f"1\t{EVIL}\t0.1\t0.2\t1\t1\t1\t1"])
    checks = [Check(EVIL, EVIL, "warn", EVIL, 1.0)]
    text = page(figures, checks, fixed=EVIL, moving=EVIL, command=EVIL, cohort=EVIL)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 12
    for tag, attributes in Page(text).tags:
        assert not any(name.startswith("on") for name in attributes), tag


def test_same_input_same_bytes(figures: Path) -> None:
    write(figures, result(NIR, [1, 2, 3]), LABELS)
    assert page(figures) == page(figures)


def test_a_run_is_linked(figures: Path) -> None:
    write(figures, result(NIR, []), [])
    text = page(figures, cohort="trial", cohort_page="../../../report.html")
    assert '<a href="../../../report.html">trial</a>' in text


METHODS = {
    "nir": (NIR, "a search over all displacements of up to 3 voxels along each axis at 4 mm"),
    "neural": (
        Nir.Settings(name="n", engine="nir", preset="neural"),
        "a neural field (displacements of nodes 2.25 mm apart, or a voxel where that is more, read"
        " by cubic B-splines, to which the layers add; 1 hidden layer of 16 units, sine",
    ),
    "paper": (
        Nir.Settings(name="p", engine="nir", preset="paper"),
        "128 Fourier features of scale 1; 4 hidden layers of 256 units, sine",
    ),
    "set": (
        Nir.Settings(name="s", engine="nir", set={"steps": 3}),
        "preset “default” with changes",
    ),
    "syn": (Syn.Settings(name="syn", engine="syn", metric="CC"), "cross-correlation with radius 4"),
    "affine": (
        make_method({"name": "a", "engine": "affine"}),
        "No deformable registration followed.",
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_told_from_the_settings(name: str) -> None:
    method, sentence = METHODS[name]
    found = result(method, [1])
    strip, affine = PreprocessConfig(skull_strip="deepbet", bias_correction=True), AffineConfig()
    text = " ".join(methods_text(found, strip, affine, "genericLabel"))
    assert sentence in text
    assert "at most 200, 100, 50 iterations" in text
    assert "ANTs' label interpolation" in text
    known = (REPORTS / "references.bib").read_text(encoding="utf-8")
    cited = citations(found, strip)
    assert all(f"{{{key}," in known for key in cited)
    assert ("avants2008syn" in cited) == (method.engine != "affine") == ("Avants et al." in text)
    assert {"tustison2021antsx", "tustison2010n4", "fisch2024deepbet"} <= set(cited)


def test_a_registration_without_an_affine_does_not_claim_one() -> None:
    found = result(NIR, [], initial="identity")
    text = " ".join(methods_text(found, PreprocessConfig(), AffineConfig(), "nearest"))
    assert "No linear alignment came first" in text
    assert "ANTs" not in text
    assert "Dice" not in text
    assert "tustison2021antsx" not in citations(found, PreprocessConfig())


def test_a_real_page_is_small(tmp_path: Path, shared_data: Path) -> None:
    fixed, moving = (shared_data / "oasis" / f"sub-{number}" for number in (1000, 1001))
    brain, grid = load_volume(f"{fixed}_T1w.nii.gz")
    other, source = load_volume(f"{moving}_T1w.nii.gz")
    labels, _ = load_labels(f"{fixed}_dseg.nii.gz")
    u_lps = np.zeros((*grid.shape, 3), np.float32)
    there = resample(other / other.max(), source, grid, Affine(np.eye(4)))
    images = PairImages(
        fixed=brain / brain.max(),
        affine=there,
        warped=there,
        mask=brain > 0,
        jacobian=np.random.default_rng(0).normal(1, 0.2, grid.shape),
        u_lps=u_lps,
        grid=grid,
        inverse=(u_lps, grid),
        fixed_labels=labels,
        warped_labels=np.roll(labels, 3, axis=1),
    )
    draw_images(images, tmp_path / "figures")
    write(tmp_path, result(NIR, [1]), [f"{n}\t{LABELS[0][2:]}" for n in range(1, 135)])
    page(tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 3e6


def test_the_result_of_an_older_version_has_a_page(figures: Path) -> None:
    found = result(NIR, [])
    del found["machine"]
    write(figures, found, [])
    assert json.loads((figures / "result.json").read_text())["seed"] == 7
    assert "Machine" not in page(figures)
