"""Templates built from a cohort, and fused labels, through Snakemake."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from helpers.runs import run
from helpers.tiny import FAST_FIT, copy_workflow, settings, write_cohort, write_settings

from benchmarks import groupwise
from nir.field.fitted import FittedField
from nir.io.files import load_json


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(ROOT, tmp_path_factory.mktemp("groups") / "pipeline")
    write_cohort(folder / "data", 3)
    return folder


METHODS = [{"name": "nir", "engine": "nir", "set": {"phases": [dict(FAST_FIT)]}}]


def configure(workplace: Path, name: str, **changes: object) -> Path:
    content = settings(workplace / "data/subjects.tsv", workplace / name, **changes)
    return write_settings(workplace / f"{name}.yaml", content)


def built(workplace: Path) -> dict[str, object]:
    start = {k: str(workplace / f"data/s0_{v}.nii.gz") for k, v in
             (("image", "T1w"), ("mask", "mask"))}  # fmt: skip
    return {
        "template": start | {"build": {"method": "nir", "rounds": 1}},
        "pairs": {"mode": "to-template"},
        "methods": METHODS,
    }


def test_a_template_is_built_and_everyone_registered_to_it(workplace: Path) -> None:
    config = configure(workplace, "built", **built(workplace))
    done = run(workplace, "--configfile", config, "--until", "round_average")
    assert done.returncode == 0, done.stderr
    out = workplace / "built"
    assert load_json(out / "template/round-0/round.json")["round"] == 0
    assert not (out / "template/round-1/round.json").exists()
    kept = (out / "template/round-0/brain.nii.gz").stat().st_mtime_ns
    done = run(workplace, "--configfile", config)  # goes on where it was
    assert done.returncode == 0, done.stderr
    assert (out / "template/round-0/brain.nii.gz").stat().st_mtime_ns == kept
    table = pd.read_csv(out / "subjects/template/convergence.tsv", sep="\t")
    assert list(table["round"]) == [0, 1]
    assert (out / "subjects/template/convergence.png").exists()
    for subject in ("s0", "s1", "s2"):
        folder = out / f"pairs/template__{subject}/nir"
        assert (folder / "from-moving_to-fixed_mode-image_xfm.nii.gz").exists()
        assert load_json(folder / "result.json")["metrics"]["similarity_after"] > 0
    assert not list(out.glob("template/round-*/s*/*_xfm.nii.gz"))  # of the rounds: not kept
    again = run(workplace, "--configfile", config)
    assert "Nothing to be done" in again.stderr

    (workplace / "direct.tsv").write_text(
        "method\tfixed\tmoving\tdice\terror\nnir\ts0\ts1\t0.5\tn/a\nnir\ts9\ts1\t0.1\tn/a\n"
    )
    words = ["--config", str(config), "--direct", str(workplace / "direct.tsv")]
    words += ["--output", str(out)]
    assert groupwise.main([*words, "--direct-method", "nir"]) == 0
    told = (out / "groupwise.md").read_text()
    assert "affine mean" in told
    assert "over all 3 pairs" in told
    assert "The 1 pairs of the comparison" in told
    assert "0.5000 by direct registration" in told


def test_the_worth_of_a_template_that_is_not_built(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(workplace, "unbuilt", **built(workplace))
    assert groupwise.main(["--config", str(config)]) == 2
    assert "no template yet" in capsys.readouterr().err


def test_a_builder_that_is_no_method_is_refused(workplace: Path) -> None:
    changes = built(workplace)
    changes["template"]["build"]["method"] = "syn"  # type: ignore[index]
    done = run(workplace, "-n", "--configfile", configure(workplace, "wrong", **changes))
    assert done.returncode != 0
    assert "expected one of the methods (nir), found 'syn'" in done.stderr


def test_labels_are_fused_and_scored(workplace: Path) -> None:
    (workplace / "two.csv").write_text("fixed,moving\ns2,s0\ns2,s1\ns0,s1\n")
    config = configure(
        workplace,
        "fused",
        pairs={"mode": "table", "table": str(workplace / "two.csv")},
        fusion=["majority", "joint"],
        save_fields=True,
        methods=METHODS,
    )
    done = run(workplace, "--configfile", config)
    assert done.returncode == 0, done.stderr
    out = workplace / "fused"
    assert {p.name for p in (out / "fusion").iterdir()} == {"s2"}  # s0 has one atlas only
    for vote in ("majority", "joint"):
        assert (out / f"fusion/s2/nir/{vote}.nii.gz").exists()
    rows = pd.read_csv(out / "fusion.tsv", sep="\t")
    assert set(rows["atlases"]) == {2}
    assert (rows["dice"] > 0.3).all()
    assert (rows["labels_scored"] == 6).all()
    page = (out / "report.html").read_text()
    assert "Labels fused from several atlases" in page
    assert "joint" in page
    field = FittedField.load(out / "pairs/s2__s0/nir/field.safetensors")
    assert field.provenance["method"] == "nir"


def test_labelled_subjects_label_the_others(workplace: Path) -> None:
    text = (workplace / "data/subjects.tsv").read_text().replace("s2_dseg.nii.gz", "")
    (workplace / "data/some.tsv").write_text(text)
    config = configure(
        workplace,
        "from",
        cohort={"table": str(workplace / "data/some.tsv")},
        pairs={"mode": "from-labelled"},
        fusion=["majority"],
        batch=1,
    )
    done = run(workplace, "-n", "--configfile", config)
    assert "4 register nir" in done.stderr  # s0 <- s1, s1 <- s0, s2 <- s0, s2 <- s1
    assert "2 fuse" in done.stderr  # s2 by both methods


@pytest.mark.parametrize(
    ("table", "mode", "sentence"),
    [("some.tsv", "all", "from-labelled"), ("subjects.tsv", "consecutive", "two moving subjects")],
)
def test_nothing_to_fuse_is_refused(workplace: Path, table: str, mode: str, sentence: str) -> None:
    text = (workplace / "data/subjects.tsv").read_text().replace("s2_dseg.nii.gz", "")
    (workplace / "data/some.tsv").write_text(text)
    config = configure(
        workplace,
        f"refused-{mode}",
        cohort={"table": str(workplace / "data" / table)},
        pairs={"mode": mode},
        fusion=["majority"],
    )
    done = run(workplace, "-n", "--configfile", config)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
