"""The comparisons: cells, resuming, ratios, relations, and the adapters of rivals."""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from benchmarks.cells import collect, sources
from benchmarks.compare import compare, exit_code
from benchmarks.heads import Head, simulated_pair
from benchmarks.plan import load_plan
from benchmarks.relations import Claim, Relation, examine, page, verdict
from benchmarks.tables import frame, headline, markdown, ratio, summary
from conftest import ROOT
from helpers.synthetic import OBLIQUE, make_grid, texture
from helpers.tiny import FAST_FIT, settings, write_cohort
from scipy.spatial.transform import Rotation

from benchmarks import atrophy, gpu, growth, inference, pace, reports, trust, voxels
from benchmarks.machine import command_line, version_of
from benchmarks.rivals import ConvexAdam, Dipy, Fireants, Greedy
from benchmarks.rivals.base import Rival, to_sitk
from nir.cohort.prepared import ImagePair
from nir.engines.base import Job, Registration
from nir.engines.nir import Nir
from nir.errors import NirError
from nir.fit.presets import PRESETS
from nir.geometry.grid import RAS_TO_LPS, Array, apply_matrix
from nir.geometry.maps import Affine, Composite, DisplacementField
from nir.geometry.resample import resample
from nir.io.files import load_json
from nir.io.tables import read_table
from nir.quality.metrics import inverse_consistency

CPU = torch.device("cpu")
QUICK = [FAST_FIT | {"steps": 2}]


def needs(card: type[Rival]) -> pytest.MarkDecorator:
    why = card.missing()
    return pytest.mark.skipif(why is not None, reason=str(why))


def write_plan(
    folder: Path,
    methods: list[dict[str, Any]],
    subjects: int = 2,
    groups: Sequence[str] = (),
    **more: Any,
) -> Path:
    """Write a comparison of a tiny cohort, a pair for each group if there are any; return its YAML.

    Args:
        groups: of the first pairs, each subject with the next.
    """
    table = folder / "cohort" / "subjects.tsv"
    if not table.exists():
        write_cohort(folder / "cohort", subjects)
    content = settings(table, folder / "unused")
    if groups:
        names = [f"s{n % subjects}" for n in range(len(groups) + 1)]
        rows = [f"{a},{b},{g}" for (a, b), g in zip(pairwise(names), groups, strict=True)]
        (folder / "pairs.csv").write_text("\n".join(["fixed,moving,group", *rows]) + "\n")
        content["pairs"] = {"mode": "table", "table": str(folder / "pairs.csv")}
    pipeline = folder / "pipeline.yaml"
    pipeline.write_text(yaml.safe_dump(content))
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"pipeline": str(pipeline), "methods": methods, **more}))
    return path


class TestCompare:
    methods: tuple[dict[str, Any], ...] = (
        {"name": "affine", "engine": "affine"},
        {"name": "nir", "engine": "nir", "set": {"phases": QUICK}},
    )

    def test_runs_once_and_goes_on_after_a_fault(self, tmp_path: Path) -> None:
        output = tmp_path / "out"
        path = write_plan(tmp_path, list(self.methods))
        _, first, _ = compare(path, output)
        assert first.ran == 2
        assert exit_code(first) == 0
        assert [row["method"] for row in first.rows] == ["affine", "nir"]
        affine, nir = first.rows
        assert affine["startup_s"] is None and nir["startup_s"] > 0
        assert affine["folds_percent"] == 0
        assert 0.5 < affine["dice"] <= 1
        assert 0 < nir["forward_s"] < nir["seconds"]
        assert nir["peak_mb"] > 100
        for name in ("table.md", "table.tsv", "pairs.tsv", "machine.json", "dice-seconds.png"):
            assert (output / name).stat().st_size > 0
        noted = load_json(output / "machine.json")
        assert set(noted) >= {"commit", "clean", "command", "versions", "methods"}
        _, second, _ = compare(path, output)
        assert second.ran == 0
        assert second.rows == first.rows

        coarse = {"phases": [FAST_FIT | {"resolution_mm": 40.0}]}
        faulty = {"name": "faulty", "engine": "nir", "set": coarse}
        later = {
            "name": "later",
            "engine": "nir",
            "needs": "no_such_key",
            "set": {"no_such_key": 1},
        }
        drawn = [method | {"line": "all"} for method in self.methods]
        path = write_plan(tmp_path, [faulty, later, *drawn])
        _, third, _ = compare(path, output)
        assert third.ran == 1
        assert exit_code(third) == 1
        assert "set a finer resolution_mm" in third.rows[0]["error"]
        text = (output / "table.md").read_text()
        assert "faulty failed on s0, s1: phase 0 of the fit: a level of 40.0 mm" in text
        assert "later is not in the table: this version has no setting 'no_such_key'" in text
        assert (output / "front.png").stat().st_size > 0
        for name in ("table.md", "pairs.tsv", "machine.json"):
            assert str(tmp_path) not in (output / name).read_text()
        assert not list(output.glob("work/cells/**/*.nii.gz"))

    def test_groups_of_pairs_run_apart_and_in_parts(self, tmp_path: Path) -> None:
        """As the comparison of real brains is run: what was tuned on apart from the rest."""
        slow = {"name": "slow", "engine": "affine", "groups": ["held out"], "pairs": 1}
        path = write_plan(
            tmp_path,
            [
                *self.methods,
                slow,
            ],
            subjects=4,
            groups=["held out: a", "held out: a", "held out: b", "chosen on"],
        )
        output = tmp_path / "out"
        with pytest.raises(NirError, match="--groups: expected groups of the pairs: held out: a, "):
            compare(path, output, groups=["held on"])
        _, part, _ = compare(path, output, ["affine"], groups=["chosen on"])
        assert [(row["method"], row["group"]) for row in part.rows] == [("affine", "chosen on")]
        _, first, _ = compare(path, output, ["affine", "slow"], 1)
        assert first.ran == 2 + 2  # the first pair of each group; one cell was there already
        _, rest, _ = compare(path, output, ["affine", "slow"])
        assert rest.ran == 1
        found = read_table(output / "table.tsv").set_index(["group", "method"])["pairs"]
        assert list(found.items()) == [
            *((("held out", "affine"), 3), (("held out", "slow"), 2)),
            *((("held out: a", "affine"), 2), (("held out: a", "slow"), 1)),
            *((("held out: b", "affine"), 1), (("held out: b", "slow"), 1)),
            (("chosen on", "affine"), 1),
        ]
        text = (output / "table.md").read_text()
        assert text.startswith("## held out\n\n| method | n | Dice |")

    def test_only_a_known_method(self, tmp_path: Path) -> None:
        with pytest.raises(NirError, match="unknown nri; known are affine, nir"):
            compare(write_plan(tmp_path, list(self.methods)), tmp_path / "out", ["nri"])


class TestPlan:
    @pytest.mark.parametrize("name", ["ablation", "front", "longitudinal", "miccai2012", "trust"])
    def test_shipped_plans_are_valid(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        plan = load_plan(Path(f"benchmarks/comparison/{name}.yaml"))
        assert plan.entries

    def test_all_presets_are_compared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        entries = load_plan(Path("benchmarks/comparison/miccai2012.yaml")).entries
        found = {entry.settings["preset"] for entry in entries if entry.engine == "nir"}
        assert found == set(PRESETS)

    def test_a_wrong_key_is_named(self, tmp_path: Path) -> None:
        path = write_plan(tmp_path, [{"name": "g", "engine": "greedy", "metrik": "SSD"}])
        with pytest.raises(NirError, match=r"'g': metrik: .*did you mean 'metric'"):
            load_plan(path)

    def test_relations_speak_of_methods_that_are_there(self, tmp_path: Path) -> None:
        claim = {"metric": "dice", "left": "affine", "sign": "above", "right": "gone"}
        relation = {"says": "x", "claims": [claim]}
        path = write_plan(tmp_path, [{"name": "affine", "engine": "affine"}], relations=[relation])
        with pytest.raises(NirError, match="found gone"):
            load_plan(path)

    def test_the_sources_of_a_method_include_what_is_imported_late(self) -> None:
        found: set[Path] = set()
        collect("nir.engines.nir", found)
        late = {"box.py", "pair.py", "fluid.py", "search.py", "network.py", "reconcile.py"}
        assert late <= {path.name for path in found}
        methods = [
            Nir.Settings(name="x", engine="nir", set={"similarity": s}) for s in ("lncc", "mse")
        ]
        one, other, again = (sources(methods[n].own_settings) for n in (0, 1, 0))
        assert one == again
        assert len(set(one) & set(other)) == 1  # of the engine; the similarities differ


def row(method: str, moving: str, dice: float, seconds: float, **more: Any) -> dict[str, Any]:
    measures = {"folds_percent": 0.0, "busy_elsewhere": 0.0, "error": None}
    found = {"method": method, "engine": "nir", "fixed": "a", "moving": moving}
    return found | {"dice": dice, "seconds": seconds} | measures | more


class TestTables:
    rows = (
        row("greedy", "b", 0.60, 10.0),
        row("greedy", "c", 0.50, 40.0),
        row("nir", "b", 0.65, 5.0),
        row("nir", "c", 0.53, 10.0, busy_elsewhere=0.3),
        row("nir", "d", 0.90, 7.0),
    )

    def test_ratios_are_means_of_ratios_on_common_pairs(self) -> None:
        assert ratio(frame(list(self.rows)), "nir", "greedy") == (0.375, 2)

    def test_differences_are_paired(self) -> None:
        table = summary(frame(list(self.rows)), ["greedy", "nir"]).set_index("method")
        assert table.loc["nir", "dice_minus_greedy"] == pytest.approx(0.04)
        assert table.loc["nir", "dice_minus_greedy_sd"] == pytest.approx(0.01 * math.sqrt(2))
        assert table.loc["nir", "dice"] == pytest.approx((0.65 + 0.53 + 0.90) / 3)
        assert table.loc["nir", "busy_cells"] == 1

    def test_seconds_of_a_busy_machine_are_marked(self) -> None:
        cells = frame(list(self.rows))
        text = markdown(summary(cells, ["greedy", "nir"]), cells, [])
        assert re.search(r"\| nir \| 3 \|.* 7\.3 ± 2\.5† \|", text)
        assert re.search(r"\| greedy \| 2 \|.* 25\.0 ± 21\.2 \|", text)
        assert "† Other processes" in text and "nir 1 of 3" in text
        assert "| nir | +0.0400 [-0.0871, +0.1671] (2) |" in text  # Student's t of two

    def test_tuned_and_held_out_pairs_are_told_apart(self) -> None:
        groups = dict(zip("bcd", ("held out: old", "held out: young", "chosen on"), strict=True))
        cells = frame([r | {"group": groups[r["moving"]]} for r in self.rows])
        title, first = headline(cells)
        assert (title, set(first["moving"])) == ("held out", {"b", "c"})
        table = summary(cells, ["greedy", "nir"])
        text = markdown(table, cells, [])
        parts = ["held out", "held out: old", "held out: young", "chosen on"]
        assert re.findall(r"^## (.*)$", text, re.M) == parts
        assert f"| method | {' | '.join(parts)} |" in text
        assert "| nir | +0.0400 [-0.0871, +0.1671] (2) | +0.0500 (1) | +0.0300 (1) |  |" in text
        assert "nir 1 of 1 (held out: young)" in text

    def test_a_record_names_its_commit(self, tmp_path: Path) -> None:
        assert version_of(tmp_path / "gone") == {"commit": None, "clean": None}

        def git(*words: str) -> None:
            own = ["-c", "user.name=a", "-c", "user.email=a@b"]
            subprocess.run(["git", "-C", str(tmp_path), *own, *words], check=True)

        git("init", "-q")
        (tmp_path / "a").write_text("1")
        git("add", "a")
        git("commit", "-q", "-m", "a")
        found = version_of(tmp_path)
        assert len(found["commit"]) == 40 and found["clean"]
        (tmp_path / "b").write_text("results")
        assert version_of(tmp_path)["clean"]
        (tmp_path / "a").write_text("2")
        assert version_of(tmp_path) == found | {"clean": False}

    def test_commands_have_no_absolute_paths(self) -> None:
        words = [
            "/x/benchmarks/compare.py",
            "--output",
            f"{Path.cwd()}/out",
            "--config",
            "/y/z.yaml",
        ]
        told = "python -m benchmarks.compare --output out --config z.yaml"
        assert command_line(words) == told


class TestRelations:
    rows = (
        row("fast", "b", 0.60, 10.0),
        row("fast", "c", 0.50, 12.0),
        row("slow", "b", 0.58, 30.0),
        row("slow", "c", 0.51, 30.0),
    )

    def claim(self, metric: str, sign: str, factor: float = 1.0) -> Claim:
        content = {
            "metric": metric,
            "left": "fast",
            "sign": sign,
            "right": "slow",
            "factor": factor,
        }
        return Claim.model_validate(content)

    def test_one_that_holds_and_one_that_does_not(self) -> None:
        found = examine(self.claim("dice", "above"), list(self.rows), 0.1)
        assert found.holds
        assert (found.mean, found.sd) == pytest.approx((0.005, 0.015 * math.sqrt(2)))
        assert (found.agree, found.pairs) == (1, 2)
        half = examine(self.claim("seconds", "below", 0.3), list(self.rows), 0.1)
        assert half.holds is False
        assert half.mean == pytest.approx(2.0)
        assert verdict([found]) == "HOLDS"
        assert verdict([found, half]) == "DOES NOT HOLD"

    def test_without_common_pairs_nothing_is_known(self) -> None:
        found = examine(self.claim("dice", "above"), list(self.rows[:2]), 0.1)
        assert found.holds is None
        assert verdict([found]) == "NOT KNOWN"

    def test_the_page_tells_verdict_and_figures(self) -> None:
        claims = (self.claim("seconds", "below"), self.claim("dice", "at-least"))
        busy = [r | {"busy_elsewhere": 0.5} for r in self.rows]
        text = page((Relation(says="fast is better", claims=claims),), busy, 0.1)
        assert "1. fast is better: **HOLDS**" in text
        assert "seconds: fast < slow: holds, -19 ± 1.41 s, 2 of 2 pairs agree; the machine" in text
        assert "dice: fast ≥ slow: holds, +0.005 ± 0.0212, 1 of 2 pairs agree\n" in text


CENTRE = np.array([-6.0, 15.0, 4.0])
AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_euler("zx", (25, 10), degrees=True).as_matrix() * 1.05
AFFINE[:3, 3] = CENTRE - AFFINE[:3, :3] @ CENTRE + np.array([4.0, -3.0, 3.0])


def oblique_pair() -> ImagePair:
    """A bent texture on two oblique, flipped grids; its true map is affine after a bend."""
    fixed_grid = make_grid((36, 34, 38), (1.5, 1.6, 1.4), OBLIQUE, (0,), (6.0, -15.0, 4.0))
    moving_grid = make_grid((40, 36, 36), (1.5, 1.6, 1.7), (-8, 5, 12), (1, 2), (3.0, -12.0, 7.0))
    source = make_grid((48, 48, 48), (1.6, 1.6, 1.6), centre=(6.0, -15.0, 4.0))
    image = texture(source.shape, 2.2)

    def bend(points: Array) -> Array:
        offset = (points - CENTRE) / 20
        fade = np.exp(-(offset**2).sum(-1, keepdims=True))
        return points + 3 * fade * np.sin(offset[..., [1, 2, 0]] + 0.5)

    def brain(points: Array) -> np.ndarray:
        return (np.linalg.norm(points - CENTRE, axis=-1) < 22).astype(np.float32)

    back = np.linalg.inv(AFFINE)
    points = fixed_grid.points_lps()
    bent = DisplacementField(bend(points) - points, fixed_grid)
    fixed = resample(image, source, fixed_grid, bent)
    moving = resample(image, source, moving_grid, Affine(back))
    fixed *= brain(bend(fixed_grid.points_lps()))
    moving *= brain(apply_matrix(back, moving_grid.points_lps()))
    mask = (fixed > 0).astype(np.uint8)
    return ImagePair(fixed, fixed_grid, mask, moving, moving_grid, AFFINE)


PAIR = oblique_pair()


def gap(warped: np.ndarray) -> float:
    """Mean difference from the fixed image inside its mask."""
    return float(np.abs(warped - PAIR.fixed)[PAIR.fixed_mask > 0].mean())


def check_registration(found: Registration, share: float = 0.6) -> None:
    """Both directions undo each other, and the images differ by a share of what the affine left."""
    warp = DisplacementField(found.forward, PAIR.fixed_grid)
    warped = resample(PAIR.moving, PAIR.moving_grid, PAIR.fixed_grid, warp)
    plain = resample(PAIR.moving, PAIR.moving_grid, PAIR.fixed_grid, Affine(AFFINE))
    assert gap(warped) < share * gap(plain)
    core = PAIR.fixed_mask > 0
    grids = (PAIR.fixed_grid, PAIR.moving_grid)
    mean, _, _ = inverse_consistency(found.forward, grids[0], found.inverse, grids[1], core)
    assert mean < 0.2


@needs(Greedy)
class TestGreedy:
    def test_a_pair_is_registered(self) -> None:
        quick = Greedy.Settings(
            name="quick", engine="greedy", iterations="40x20", smoothing="2mm 0.7mm"
        )
        check_registration(quick.card.register(PAIR, Job(1, CPU)))

    def test_frames_are_those_of_greedy_itself(self, tmp_path: Path) -> None:
        """Its matrix is RAS, its warp LPS: our reader resamples as its own reslicing does."""
        from picsl_greedy import Greedy3D
        from SimpleITK import GetArrayFromImage

        tool = Greedy3D()
        np.savetxt(tmp_path / "a.mat", RAS_TO_LPS @ AFFINE @ RAS_TO_LPS)
        tool.execute(
            f"-i fixed moving -it {tmp_path}/a.mat -m WNCC 2x2x2 -n 20x10 -s 2mm 0.7mm -seed 1"
            " -threads 1 -wp 0 -o warp",
            fixed=to_sitk(PAIR.fixed, PAIR.fixed_grid),
            moving=to_sitk(PAIR.moving, PAIR.moving_grid),
            warp=None,
        )
        tool.execute(f"-rf fixed -rm moving resliced -r warp {tmp_path}/a.mat", resliced=None)
        theirs = GetArrayFromImage(tool["resliced"]).T
        warp = GetArrayFromImage(tool["warp"]).transpose(2, 1, 0, 3)
        assert np.abs(warp).max() > 1.0

        def ours(sign: Array) -> np.ndarray:
            bent = DisplacementField(warp * sign, PAIR.fixed_grid)
            mapping = Composite((bent, Affine(AFFINE)))
            return resample(PAIR.moving, PAIR.moving_grid, PAIR.fixed_grid, mapping)

        inner = (slice(2, -2),) * 3
        assert np.abs(ours(np.array([1.0, 1, 1])) - theirs)[inner].max() < 1e-3
        assert np.abs(ours(np.array([-1.0, -1, 1])) - theirs)[inner].max() > 0.1


@pytest.mark.parametrize(
    ("card", "quick", "share"),
    [
        pytest.param(card, quick, share, marks=needs(card), id=card.__name__)
        for card, quick, share in (
            (ConvexAdam, {}, 0.75),
            (Dipy, {"iterations": (40, 20, 10)}, 0.6),
            (Fireants, {"scales": (1,), "iterations": (40,)}, 0.6),
        )
    ],
)
def test_a_rival_registers_a_pair(card: type[Rival], quick: dict[str, Any], share: float) -> None:
    method = card.Settings.model_validate({"name": "x", "engine": card.__name__.lower()} | quick)
    check_registration(method.card.register(PAIR, Job(1, CPU)), share)


def small_head() -> Head:
    labels = (texture((40, 44, 42), 4.0) * 4).astype(np.int32) + 1
    index = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in labels.shape], indexing="ij"))
    inside = (index**2).sum(0) < 0.8
    return Head((0.2 + 0.2 * labels) * inside, labels * inside)


def test_an_affine_depends_on_nothing_that_should_not_matter(tmp_path: Path) -> None:
    path = write_plan(tmp_path, list(TestCompare.methods), groups=["chosen on"])
    words = ["--config", str(path), "--output", str(tmp_path / "out")]
    assert trust.main(words) == 0
    rows = read_table(tmp_path / "out/trust.tsv").set_index("method")
    assert set(trust.COLUMNS) < set(rows.columns)
    apart = [name for name in trust.COLUMNS if name.endswith("_mm")]
    assert (rows.loc["affine", apart] < 1e-3).all()
    changed = [name for name in apart if "there" not in name and name != "told_mm"]
    assert np.isnan(rows.loc["nir", "told_mm"])  # of a neural field no part tells
    assert (rows.loc["nir", changed] > 0).all()  # each of the changes is one to a fit


def test_what_is_planted_is_a_change_of_volume() -> None:
    grid = make_grid((44, 40, 30), (1.0, 1.2, 1.5), degrees=(10.0, 5.0, 0))
    labels = np.zeros(grid.shape, np.int16)
    for label, x in ((1, 8), (2, 22), (3, 36)):
        labels[x - 3 : x + 3, 16:24, 12:18] = label
    image = np.where(labels > 0, np.float32(0.8), np.float32(0.2))
    pair = ImagePair(image, grid, np.ones(grid.shape, np.float32), image, grid, np.eye(4))
    rates = {1: np.log(0.9), 2: np.log(1.1), 3: 0.0}
    case = atrophy.Case(pair, pair.fixed_mask, None)  # type: ignore[arg-type]
    first, second = atrophy.scanned_twice(case, labels, rates)
    changes = first.changes(first.u_lps)
    assert changes == pytest.approx({1: -10.0, 2: 10.0, 3: 0.0}, abs=1.5)  # small: borders are soft
    for x, change in zip((8, 22, 36), changes.values(), strict=True):
        bright = [(scan.image[x - 6 : x + 6, 12:28, 8:22] - 0.2).sum() for scan in (first, second)]
        assert bright[1] / bright[0] == pytest.approx(1 + change / 100, abs=0.02)
    sharp = [scan.image[5:-5, 5:-5, 5:-5].std() for scan in (first, second)]
    assert sharp[0] == pytest.approx(sharp[1], rel=0.03)  # neither is blurred more
    with pytest.raises(NirError, match="structure 9 in the brain, found no voxel"):
        atrophy.planted(labels, grid, {9: 0.1})


def test_an_affine_tells_no_change_of_volume(tmp_path: Path) -> None:
    path = write_plan(tmp_path, list(TestCompare.methods), groups=["chosen on"])
    words = ["--config", str(path), "--output", str(tmp_path / "out"), "--structures", "1,3,4"]
    assert atrophy.main([*words, "--only", "affine"]) == 0
    rows = read_table(tmp_path / "out/atrophy.tsv")
    assert len(rows) == 3 * len(atrophy.PERCENT)
    assert rows[["forwards", "backwards"]].abs().max().max() < 1e-3
    off = rows[["true_forwards", "true_backwards"]].abs().max().max()
    assert off > 3
    assert f"affine: at most {off:.2f} percentage points off" in (
        tmp_path / "out/atrophy.md"
    ).read_text(encoding="utf-8")


def test_other_voxels_hold_the_same_brain() -> None:
    grid = make_grid((40, 36, 30), (1.0, 1.2, 1.0), degrees=(10.0, 5.0, 0), centre=(3.0, 2.0, 1.0))
    target = voxels.with_voxels(grid, voxels.size_of("0.8x1.2x1.5"))
    assert target.shape == (50, 36, 20)
    np.testing.assert_allclose(target.spacing, (0.8, 1.2, 1.5))
    ends = [g.points_lps().reshape(-1, 3).mean(0) for g in (grid, target)]
    np.testing.assert_allclose(*ends, atol=1e-9)
    ramp = grid.points_lps() @ np.array([1.0, 2.0, 3.0]) + 300
    read = voxels.measured_at(ramp.astype(np.float32), grid, target)
    expected = target.points_lps() @ np.array([1.0, 2.0, 3.0]) + 300
    core = (slice(5, -5),) * 3
    np.testing.assert_allclose(read[core], expected[core], atol=0.3)
    with pytest.raises(NirError, match="expected three lengths in mm"):
        voxels.size_of("1x1")


def test_a_head_fills_the_same_share_at_every_size() -> None:
    shares = []
    for shape in ((24, 24, 24), (48, 48, 48)):
        case = simulated_pair(small_head(), shape)
        assert case.pair.fixed.shape == case.fixed_labels.shape == shape
        shares.append(case.pair.fixed_mask.mean())
    assert shares[0] == pytest.approx(shares[1], rel=0.05)
    assert 0.1 < shares[0] < 0.6


def test_growth_finds_the_exponent() -> None:
    voxels = np.array([1e6, 2e6, 8e6])
    assert growth.exponent(voxels, 3e-5 * voxels**1.2) == pytest.approx(1.2)
    assert growth.line(voxels, 5 + 2e-6 * voxels) == pytest.approx((5, 2e-6))


def test_two_commits_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"

    @contextmanager
    def checkout(revision: str, folder: Path) -> Iterator[Path]:
        (other / "benchmarks").mkdir(parents=True)
        (other / "benchmarks" / "__init__.py").touch()
        (other / "benchmarks" / "cell.py").write_text('raise SystemExit("its own fault")')
        yield other if revision == "faulty" else ROOT

    plan = write_plan(tmp_path, list(TestCompare.methods[:1]))
    words = ["--config", str(plan), "--only", "affine", "--repeat", "1"]
    words += ["--output", str(tmp_path / "out")]
    assert pace.main([*words, "--against", "no-such-commit"]) == 2
    assert "git knows no 'no-such-commit'" in capsys.readouterr().err
    monkeypatch.setattr(pace, "checkout", checkout)
    assert pace.main([*words, "--against", "faulty"]) == 2
    assert "its own fault" in capsys.readouterr().err
    shutil.rmtree(other)
    assert pace.main([*words, "--against", "sound"]) == 0
    rows = read_table(tmp_path / "out/pace.tsv")
    assert list(rows["commit"]) == ["sound", "this commit"]
    table = rows.assign(seconds=[2.0, 3.0])
    given = argparse.Namespace(only="affine", repeat=1, against="sound")
    assert "1.50 |" in pace.page(table, given)


def test_effects_of_subjects_mislead_what_takes_pairs_for_values(tmp_path: Path) -> None:
    for draw in inference.EFFECTS.values():
        values = draw(np.random.default_rng(0), *np.arange(20_000).reshape(2, -1), 20_000)
        assert abs(values.mean()) < 0.05
    found = inference.rates(inference.DESIGNS["all ordered pairs of 7"], inference._both, 30)
    assert found["false"] < 20 < found["pairs_false"]
    assert found["pairs_held"] < 70 < found["held"]
    assert inference.main(["--repeats", "1", "--output", str(tmp_path)]) == 0
    assert "| all ordered pairs of 12 " in (tmp_path / "inference.md").read_text()


def test_gpu_command_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "load_head", lambda path: small_head())
    words = ["--device", "cpu", "--shape", "36x40x38", "--spacing", "4", "--series", "2"]
    quick = ["--set", json.dumps({"phases": QUICK}), "--fireants-iterations", "2", "2", "2"]
    assert gpu.main([*words, *quick, "--output", str(tmp_path)]) == 0
    found = load_json(tmp_path / "gpu.json")
    assert [r["method"] for r in found["rows"]][:4] == ["affine"] * 2 + ["default"] * 2
    assert found["device"] == "cpu"
    assert found["startup_s"] > 0
    assert all(0 < r["dice"] <= 1 for r in found["rows"])
    assert "| default |" in (tmp_path / "gpu.md").read_text()


def test_the_report_of_a_made_up_cohort_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "CHROMIUM", None)  # tests/report/test_browser.py opens pages
    found = reports.measure(tmp_path, 3)
    assert found["pairs"] == 6
    assert 0 < found["gather, s"] < found["rebuild, s"]
    assert len(list(tmp_path.glob("pairs/*/*/report.html"))) == 12
    text = (tmp_path / "report.html").read_text()
    assert text.count("<tr data-verdict") == 12
