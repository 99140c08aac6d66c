"""`nir register`: what it writes, that it repeats, that other tools read it, what it refuses."""

from __future__ import annotations

import html
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import ants
import numpy as np
import pytest
from helpers.synthetic import ball
from helpers.tiny import SHAPE, write_cohort
from typer.testing import CliRunner

from nir.cli import app as cli
from nir.errors import NirError
from nir.io.images import load_volume, save_volume
from nir.io.layout import FIELD, FORWARD, INVERSE
from nir.io.warps import load_displacement
from nir.pair.result import Result
from nir.report.figures.pair import FIGURES

QUICK = [
    "--preset",
    "neural",
    "--set",
    "steps=5",
    "--set",
    "encoding_levels=[8]",
    "--threads",
    "1",
    "--device",
    "cpu",
]
QUICK += ["--set", "resolution_mm=4", "--set", "smoothing_mm=2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_cohort(folder, 2)
    return folder


def register(data: Path, output: Path, *words: str) -> dict[str, object]:
    fixed, moving = data / "s0", data / "s1"
    inputs = [f"{fixed}_T1w.nii.gz", f"{moving}_T1w.nii.gz", "-o", str(output)]
    done = CliRunner().invoke(cli.app, ["register", *inputs, *QUICK, *words])
    if isinstance(done.exception, NirError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads((output / "result.json").read_text())


@pytest.fixture(scope="module")
def result(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    output = tmp_path_factory.mktemp("out") / "pair"
    labels = ["--fixed-labels", str(data / "s0_dseg.nii.gz")]
    labels += ["--moving-labels", str(data / "s1_dseg.nii.gz")]
    for role, point in (("fixed", "18,20,17"), ("moving", "18.5,20,17")):
        table = data / f"{role}.csv"
        table.write_text(f"{point}\n")
        labels += [f"--{role}-keypoints", str(table)]
    lesion = ball(SHAPE, 3)
    save_volume(data / "lesion.nii.gz", lesion, load_volume(data / "s1_T1w.nii.gz")[1])
    labels += ["--moving-exclude", str(data / "lesion.nii.gz")]
    return output, register(data, output, *labels)


def test_writes_what_it_promises(result: tuple[Path, dict]) -> None:
    output, content = result
    names = {p.name for p in output.iterdir()}
    promised = {"warped.nii.gz", "warped_labels.nii.gz", "jacobian.nii.gz", "trace.tsv"}
    promised |= {FORWARD, INVERSE, FIELD, "result.json", "report.html", "figures"}
    assert names == promised
    assert {p.name for p in (output / "figures").iterdir()} == set(FIGURES)
    for key in ("seed", "device", "threads", "versions", "seconds", "peak_mb", "settings"):
        assert content[key]
    assert content["metrics"]["similarity_after"] > content["metrics"]["similarity_before"]
    assert content["metrics"]["inverse_consistency_mean_mm"] < 0.05


def test_what_a_fit_compares_is_reported(data: Path, tmp_path: Path) -> None:
    phase = "{resolution_mm: 4, steps: 5, similarity: {nmi: 1, mind: 2, ngf: 1}}"
    words = ["--set", f"phases=[{phase}]", "--initial", "identity"]
    content = register(data, tmp_path, *words)
    metrics = content["metrics"]
    for name in ("nmi", "mind", "ngf"):
        assert 0 <= metrics[f"{name}_before"] < metrics[f"{name}_after"] <= 1
    assert not any(name in metrics for name in ("mse_after", "ncc_after"))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("nmi after", "Mattes et al., 2003", "MIND-SSC (Heinrich et al., 2013)"):
        assert words in page


def test_the_page_tells_the_command_that_makes_it_again(
    data: Path, result: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (result[0] / "report.html").read_text(encoding="utf-8")
    text, _, provenance = page.partition('<section id="provenance"')
    assert str(data) not in text
    words = shlex.split(
        html.unescape(re.findall("<pre[^>]*>(nir register .*)</pre>", provenance)[0])
    )
    taken: dict[str, object] = {}

    def take(fixed: Path, moving: Path, **options: object) -> Result:
        taken.update(options | {"fixed": fixed, "moving": moving})
        return replace(kept)

    kept = Result(*[None] * 8)
    monkeypatch.setattr("nir.pair.api.register", take)
    monkeypatch.setattr("nir.cli.app.finish", lambda *_: None)
    assert CliRunner().invoke(cli.app, words[1:]).exit_code == 0
    assert taken["fixed"] == data / "s0_T1w.nii.gz"
    assert taken["moving_labels"] == data / "s1_dseg.nii.gz"
    assert taken["moving_mask"] is None
    assert taken["moving_exclude"] == data / "lesion.nii.gz"
    assert taken["fixed_keypoints"] == data / "fixed.csv"
    assert taken["settings"] == {
        "steps": 5,
        "encoding_levels": [8],
        "resolution_mm": 4,
        "smoothing_mm": 2,
    }
    assert [taken[k] for k in ("preset", "seed", "device", "threads", "initial")] == [
        "neural",
        1,
        "cpu",
        1,
        "affine",
    ]


def test_a_page_that_cannot_be_drawn_loses_no_registration(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert (tmp_path / "result.json").exists(), "drawn before the results are in their place"
        raise OSError("no templates here")

    monkeypatch.setattr("nir.pair.result.pair_page", fail)
    words = [f"{data}/s0_T1w.nii.gz", f"{data}/s1_T1w.nii.gz", "-o", str(tmp_path)]
    done = CliRunner().invoke(cli.app, ["register", *words, *QUICK, "--initial", "identity"])
    assert done.exit_code == 1
    assert "no templates here" in done.stderr
    assert load_displacement(tmp_path / FORWARD)[0].any()
    assert {p.name for p in tmp_path.iterdir()} >= {FORWARD, INVERSE, FIELD, "result.json"}
    assert not (tmp_path / "report.html").exists()


def test_ants_gives_our_warped_image_from_our_file(data: Path, result: tuple[Path, dict]) -> None:
    output, _ = result
    warped, _ = load_volume(output / "warped.nii.gz")
    theirs = ants.apply_transforms(
        fixed=ants.image_read(str(data / "s0_T1w.nii.gz")),
        moving=ants.image_read(str(data / "s1_T1w.nii.gz")),
        transformlist=[str(output / FORWARD)],
        interpolator="linear",
    ).numpy()
    inner = (slice(4, -4),) * 3
    assert np.abs(theirs - warped)[inner].max() < 1e-3 * np.ptp(warped)


def test_same_seed_repeats(data: Path, tmp_path: Path) -> None:
    first = register(data, tmp_path / "a", "--seed", "5")["metrics"]
    second = register(data, tmp_path / "b", "--seed", "5")["metrics"]
    for name, value in first.items():
        assert second[name] == pytest.approx(value, abs=1e-6), name
    one, two = (load_displacement(tmp_path / f / FORWARD)[0] for f in "ab")
    assert np.array_equal(one, two)


def test_identity_and_file_as_initial(data: Path, tmp_path: Path) -> None:
    from nir.io.warps import save_affine

    shift = np.eye(4)
    shift[0, 3] = 4.0
    save_affine(tmp_path / "shift.mat", shift)
    still = register(data, tmp_path / "i", "--initial", "identity")
    moved = register(data, tmp_path / "f", "--initial", str(tmp_path / "shift.mat"))
    assert still["seconds"]["affine"] == 0
    before = [r["metrics"]["similarity_before"] for r in (still, moved)]
    assert before[0] != before[1]


@pytest.mark.parametrize(
    ("words", "sign"),
    [
        (["--set", "stesp=3"], "did you mean 'steps'"),
        (["--preset", "papre"], "did you mean 'paper'"),
        (["--set", "steps"], "key=value"),
        (["--set", "steps=["], "no YAML"),
        (["--initial", "nowhere.mat"], "no such file"),
        (["--model", "affine"], "model"),
        (["--set", "lr=-1"], "lr"),
        (["--fixed-keypoints", "a.csv"], "add --moving-keypoints"),
    ],
)
def test_faults_are_sentences_before_any_work(
    data: Path, tmp_path: Path, words: list[str], sign: str
) -> None:
    with pytest.raises(NirError, match=sign):
        register(data, tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_nothing_of_the_user_is_touched(data: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("precious")
    content = register(data, tmp_path, "--initial", "identity")
    assert (tmp_path / "labels.tsv").read_text() == "precious"
    assert content["fixed"].endswith("s0_T1w.nii.gz")
    assert content["initial"] == "identity"
    with pytest.raises(NirError, match="found a file"):
        register(data, tmp_path / "labels.tsv")


def test_labels_on_another_grid_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NirError, match="s1_mask"):
        register(data, tmp_path / "out", "--fixed-mask", str(data / "s1_mask.nii.gz"))


def test_settings_lists_every_key() -> None:
    from nir.fit.settings import FitConfig, Phase

    text = CliRunner().invoke(cli.app, ["settings", "paper"]).output
    for name in {*FitConfig.model_fields, *Phase.model_fields} - {"phases"}:
        assert f"  {name}=" in text, name


def test_main_prints_the_sentence_and_exits_2(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["nir", "register", "a.nii.gz", "b.nii.gz", "-o", "out", "--device", "cpu"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "a.nii.gz: expected a file, found no such file" in capsys.readouterr().err
