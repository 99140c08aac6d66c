"""Paths, progress lines, and the files that must agree with each other."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from helpers.tiny import settings, write_cohort

from nir.fit.settings import FitConfig
from nir.pipeline.progress import StepLines
from nir.pipeline.run import plan_run
from nir.pipeline.settings import PipelineConfig


def requirements() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


@pytest.mark.parametrize(("name", "build"), [("nir", "cpu"), ("nir-cuda", "gpu")])
def test_conda_environments_agree_with_pyproject(name: str, build: str) -> None:
    parts = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())["dependencies"]
    torch = next(item.removeprefix("torch") for item in requirements() if "torch" in item)
    assert f"pytorch-{build} {torch}" in parts
    assert sorted([*parts[-1]["pip"], f"torch{torch}"]) == sorted(requirements())
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert f"python {content['project']['requires-python']}" in parts


@pytest.mark.parametrize("name", ["Dockerfile", "nir.def"])
def test_containers_agree_with_the_makefile_and_pyproject(name: str) -> None:
    recipe = (ROOT / "envs" / name).read_text()
    torch = re.search(r"TORCH \?= (\S+)", (ROOT / "Makefile").read_text())
    assert torch
    assert torch[1] in recipe
    assert "--constraint envs/constraints.txt" in recipe
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = re.search(r'"\.\[(.*)\]"', recipe)
    assert wanted
    assert set(wanted[1].split(",")) <= set(project["optional-dependencies"])
    image = re.search(r"python:3\.(\d+)-slim", recipe)
    assert image
    assert 11 <= int(image[1]) < 14
    assert project["requires-python"] == ">=3.11,<3.14"


def test_every_dependency_is_bounded_and_constrained() -> None:
    known = (ROOT / "envs/constraints.txt").read_text().lower()
    for item in requirements():
        assert "==" in item or "<" in item, item
        name = item.split("[")[0].split(">")[0].split("=")[0].lower()
        assert f"{name}==" in known, name


def test_schema_is_in_step_with_the_settings() -> None:
    import json

    written = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert written == PipelineConfig.model_json_schema(), "run `make schema`"


def test_every_setting_is_explained() -> None:
    page = (ROOT / "config/README.md").read_text()
    schemas = [m.model_json_schema() for m in (PipelineConfig, FitConfig)]
    parts = [part for s in schemas for part in (s, *s["$defs"].values())]
    for part in parts:
        for key in part.get("properties", {}):
            assert f"`{key}`" in page, key


@pytest.mark.parametrize("name", [p.name for p in (ROOT / "config").glob("*.yaml")])
def test_shipped_settings_are_valid(name: str) -> None:
    from nir.pipeline.settings import load_pipeline

    load_pipeline(yaml.safe_load((ROOT / "config" / name).read_text()))


def test_nothing_imports_a_gpu_library_or_ants_for_a_plan() -> None:
    code = (
        "import sys, nir.pipeline.run, nir.fit.memory, nir.losses.similarities.base as base;"
        "from nir.engines.base import ENGINES;"
        "[cards[name] for cards in (base.SIMILARITIES, ENGINES) for name in cards.names];"
        "print([m for m in ('torch', 'ants', 'triton', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_paths_and_sizes(tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "data", 2)
    run = plan_run(settings(table, tmp_path / "out"))
    own = run.files.pair("s0", "s1").results("nir")
    assert own.warped == tmp_path / "out/pairs/s0__s1/nir/warped.nii.gz"
    assert run.megavoxels(["s0", "s1"]) == pytest.approx(36 * 40 * 34 / 1e6)


def record(event: str | None, level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": fields.pop("msg", ""), "levelno": level})
    vars(made).update(fields)
    if event:
        made.event = event
    return made


def test_progress_says_each_step_failures_and_silence(tmp_path: Path) -> None:
    stream = io.StringIO()
    lines = StepLines(stream, quiet_seconds=0.2)
    lines.follow(record("run_info", stats={"warp": 2, "all": 1, "total": 3}))
    for number, name in enumerate(("s0", "s1")):
        lines.follow(record("job_info", jobid=number, rule_name="warp", wildcards={"id": name}))
    lines.follow(record("job_finished", job_id=0))
    time.sleep(0.6)
    log = tmp_path / "x.log"
    log.write_text("the cause\n")
    lines.follow(record("job_error", jobid=1, rule_name="warp", log=[str(log)]))
    lines.follow(record(None, logging.WARNING, msg="mind this"))
    lines.follow(record(None, msg="chatter"))
    text = stream.getvalue()
    assert "[##########----------]   1 of 2  warp  s0" in text
    assert "running: warp  s1" in text
    assert "FAILED  warp  s1" in text
    assert "| the cause" in text
    assert "mind this" in text
    assert "chatter" not in text
