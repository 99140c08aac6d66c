"""What goes wrong in the middle of a run: full disks, killed workers. The next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from helpers.runs import SNAKEMAKE, metrics_of, run
from helpers.tiny import copy_workflow, settings, write_cohort, write_settings

OF_BATCHES = ("affine", "register", "evaluate")
SCRIPTS = ("preprocess", *OF_BATCHES, "gather", "report")


def configure(workplace: Path, output: Path, scans: str = "data") -> Path:
    """Write the settings of a run with one method."""
    content = settings(workplace / scans / "subjects.tsv", output)
    content["methods"] = content["methods"][1:]  # type: ignore[index]
    return write_settings(workplace / f"{output.name}.yaml", content)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(ROOT, tmp_path_factory.mktemp("faults") / "pipeline")
    write_cohort(folder / "data", 3)
    return folder


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    states = {str(p): p.stat() for p in sorted(folder.rglob("*"))}
    return {name: (state.st_size, state.st_mtime_ns) for name, state in states.items()}


@pytest.fixture(scope="module")
def finished(workplace: Path) -> Path:
    """A run that nothing disturbed, in the plainest of locales, on links to the scans."""
    links = workplace / "links"
    links.mkdir()
    for path in (workplace / "data").iterdir():
        (links / path.name).symlink_to(path)
    before = listing(workplace / "data")
    config = configure(workplace, workplace / "whole", "links")
    done = subprocess.run(
        [str(SNAKEMAKE), "--configfile", str(config)],
        cwd=workplace,
        capture_output=True,
        check=False,
        env=os.environ | {"LC_ALL": "C", "TZ": "Pacific/Kiritimati"},
    )
    assert done.returncode == 0, done.stderr.decode()
    assert listing(workplace / "data") == before
    return workplace / "whole"


def worker(config: Path, script: str) -> int | None:
    """Find the process of a rule's script that the run of a configuration started."""
    found = subprocess.run(["pgrep", "-f", rf"\.{script}\.py$"], capture_output=True, check=False)
    for pid in map(int, found.stdout.split()):
        try:
            inside = Path(f"/proc/{pid}/cwd").readlink() == config.parent
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
        except OSError:
            continue
        if inside and b"python" in command:
            return pid
    return None


def start(workplace: Path, config: Path) -> subprocess.Popen[bytes]:
    with config.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [str(SNAKEMAKE), "--configfile", str(config), "--cores", "1"],
            cwd=workplace,
            stdout=log,
            stderr=log,
        )


def test_a_worker_killed_at_each_rule(workplace: Path, finished: Path) -> None:
    config = configure(workplace, workplace / "killed")
    process = start(workplace, config)
    for script in SCRIPTS:
        pid = None
        while pid is None and process.poll() is None:
            pid = worker(config, script)
            time.sleep(0.02)
        assert pid, f"{script} did not run: {(workplace / 'killed.log').read_text()}"
        os.kill(pid, signal.SIGKILL)
        if script in OF_BATCHES:
            continue  # the run does it again by itself
        assert process.wait() != 0
        told = (workplace / "killed.log").read_text()
        assert "FAILED" in told
        if script == "gather":
            assert all(f"FAILED  {r}" in told for r in ("affine", "register nir", "evaluate"))
        assert "start" in told.rpartition("Not all is done")[2]
        process = start(workplace, config)
    assert process.wait() == 0, (workplace / "killed.log").read_text()
    assert metrics_of(workplace / "killed") == metrics_of(finished)


def test_a_pair_that_kills_its_process_is_listed_and_the_cohort_goes_on(tmp_path: Path) -> None:
    folder = copy_workflow(ROOT, tmp_path / "pipeline")
    write_cohort(folder / "data", 3)
    script = folder / "workflow/scripts/register.py"
    whole = "marker = items_of(snakemake), Path(snakemake.output.marker)"
    deadly = (
        f"{whole}\n"
        "    import dataclasses, os\n"
        "    items = (\n"
        "        dataclasses.replace(i, work=lambda: os._exit(9)) if 's0' in i.name else i\n"
        "        for i in items\n"
        "    )"
    )
    assert whole in script.read_text()
    script.write_text(script.read_text().replace(whole, deadly))
    config = configure(folder, folder / "deadly")
    done = run(folder, "--configfile", config)
    assert done.returncode != 0
    assert done.stderr.count("FAILED  register nir") == done.stderr.count("Trying to restart") == 3
    assert "1 of the registrations failed" in done.stderr
    failed = pd.read_csv(folder / "deadly/failed.tsv", sep="\t")
    assert list(failed["fixed"]) == ["s0"]
    assert failed["reason"][0].startswith("register: its process was killed")
    assert list(metrics_of(folder / "deadly")) == [("s1__s2", "nir")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte; skipped where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(workplace: Path, finished: Path, small_disk: Path) -> None:
    config = configure(workplace, small_disk / "full")
    done = run(workplace, "--configfile", config)
    assert done.returncode != 0
    assert "No space left" in done.stderr
    assert not (small_disk / "full/report.html").exists()
    words = ["mount", "-o", "remount,size=50m", str(small_disk)]
    subprocess.run(words, check=True)
    done = run(workplace, "--configfile", config)
    assert done.returncode == 0, done.stderr
    assert metrics_of(small_disk / "full") == metrics_of(finished)
    hidden = {p.name for p in small_disk.rglob(".*")}
    assert hidden == {".nir.lock", ".snakemake_timestamp"}  # nothing half written
