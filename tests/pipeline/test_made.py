"""What results were made from, and when they are no longer what they claim to be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nir.engines.base import make_method
from nir.io.files import load_json, save_json
from nir.pipeline.made import UNKNOWN, Record, Source, complete, fingerprint, stamp, why_redo


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii"
    path.write_bytes(b"one scan")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of results: a table with its sidecar, and pictures."""
    folder = tmp_path / "out"
    (folder / "figures").mkdir(parents=True)
    for name in ("metrics.tsv", "metrics.json", "figures/a.svg", "figures/.snakemake_timestamp"):
        (folder / name).write_text(f"content of {name}")
    return folder


def promised(folder: Path) -> list[Path]:
    return [folder / "metrics.tsv", folder / "figures"]


def made(folder: Path, source: Source) -> Record:
    """Return a record as it is read from its file."""
    save_json(folder.parent / "r.json", complete(source.record(), folder, promised(folder)))
    return load_json(folder.parent / "r.json")


def test_what_did_not_change_is_left(folder: Path, scan: Path) -> None:
    source = Source({"seed": 1, "labels": (1, 2), "fit": {"steps": 5}}, [scan, None])
    record = made(folder, source)
    assert why_redo(record, source, folder, promised(folder)) is None
    assert set(record["made"]) == {"metrics.tsv", "metrics.json", "figures/a.svg"}
    moved = shutil.move(folder, folder.parent / "elsewhere")
    other = scan.rename(scan.with_name("renamed.nii"))
    same = Source({"seed": 1, "labels": [1, 2], "fit": {"steps": 5}}, [str(other), None])
    assert why_redo(record, same, moved, promised(moved)) is None


def older(scan: Path) -> None:
    """Another scan of the same size, with the same date: as by ``cp -p`` or ``rsync -t``."""
    state = scan.stat()
    other = scan.with_name("other.nii")
    other.write_bytes(b"two scan")
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(scan)


def touched(scan: Path) -> None:
    os.utime(scan)


@pytest.mark.parametrize(("change", "told"), [(older, "scan.nii changed"), (touched, None)])
def test_content_counts_not_dates(
    folder: Path, scan: Path, change: Callable[[Path], None], told: str | None
) -> None:
    source = Source({}, [scan])
    record = made(folder, source)
    change(scan)
    why = why_redo(record, source, folder, promised(folder))
    assert why == (told and f"{scan.parent}/{told}")


@pytest.mark.parametrize("ends", [(".hdr", ".img"), (".HDR", ".IMG")])
def test_both_halves_of_an_image_count(folder: Path, tmp_path: Path, ends: tuple[str, ...]) -> None:
    halves = [tmp_path / f"scan{end}" for end in ends]
    for half in halves:
        half.write_bytes(b"one half")
    for named, other in (halves, halves[::-1]):
        source = Source({}, [named])
        record = made(folder, source)
        touched(other)
        assert why_redo(record, source, folder, promised(folder)) is None
        older(other)
        assert why_redo(record, source, folder, promised(folder)) == f"{named} changed"
        other.write_bytes(b"one half")


def test_a_folder_counts_by_the_files_in_it(folder: Path) -> None:
    record = made(folder, Source({}, [folder / "figures"]))
    (folder / "figures/.snakemake_timestamp").write_text("later")
    assert why_redo(record, Source({}, [folder / "figures"]), folder, []) is None
    before = stamp(folder / "figures")
    (folder / "figures/a.svg").rename(folder / "figures/b.svg")
    assert before and (after := stamp(folder / "figures"))
    assert before[0] == after[0]
    assert before[-1] != after[-1]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"seed": 2, "fit": list(range(90))}, "its seed is 2, was 1"),
        ({"seed": 1, "fit": list(range(91))}, "its fit changed"),
        ({"seed": 2, "fit": []}, "its seed is 2, was 1, its fit changed"),
        ({"seed": 1}, "its fit changed"),
    ],
)
def test_settings_that_changed_are_named(
    folder: Path, settings: dict[str, object], told: str
) -> None:
    record = made(folder, Source({"seed": 1, "fit": list(range(90))}))
    assert why_redo(record, Source(settings), folder, []) == told


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("metrics.tsv", None, "metrics.tsv is gone"),
        ("metrics.json", None, "metrics.json is gone"),
        ("figures/a.svg", "", "figures/a.svg has 0 bytes, not 24"),
        ("metrics.tsv", "cut", "metrics.tsv has 3 bytes, not 22"),
    ],
)
def test_files_that_are_gone_or_cut_are_named(
    folder: Path, name: str, content: str | None, told: str
) -> None:
    record = made(folder, Source({}))
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    assert why_redo(record, Source({}), folder, promised(folder)) == told
    gone = [folder / name] if content is None else []
    assert (why_redo(record, Source({}), folder, promised(folder), gone) is None) == bool(gone)


def test_without_a_record_nothing_is_taken_for_done(folder: Path) -> None:
    for record in (None, {}, "a key of an earlier version"):
        assert why_redo(record, Source({}), folder, []) == UNKNOWN  # type: ignore[arg-type]
    record = made(folder, Source({})) | {"version": "0.0.9"}
    assert why_redo(record, Source({}), folder, []) == "version 0.0.9 made it"


def test_a_file_that_was_read_may_be_gone_but_not_left_out(folder: Path, scan: Path) -> None:
    record = made(folder, Source({}, [scan, None]))
    scan.unlink()
    assert why_redo(record, Source({}, [scan, None]), folder, []) is None
    for files in ([scan], [scan, scan], [None, None]):
        assert why_redo(record, Source({}, files), folder, []) == "it reads other files now"


def test_a_device_counts_by_what_it_was(folder: Path) -> None:
    auto = made(folder, Source({"device": "auto"}))
    used = auto["settings"]["device"].strip('"')
    assert used in ("cpu", "cuda")
    for device in ("auto", used):
        assert why_redo(auto, Source({"device": device}), folder, []) is None
    other = {"cpu": "cuda", "cuda": "cpu"}[used]
    assert "its device is" in str(why_redo(auto, Source({"device": other}), folder, []))
    assert (
        why_redo(made(folder, Source({"device": other})), Source({"device": "auto"}), folder, [])
        is None
    )


def test_a_default_that_is_spelt_out_is_the_same_method() -> None:
    plain = make_method({"name": "a", "engine": "nir"})
    phases = plain.acting["fit"]["phases"]
    spelt = make_method(
        {"name": "b", "engine": "nir", "preset": "default", "set": {"phases": phases}}
    )
    assert plain.own_settings != spelt.own_settings
    assert plain.acting == spelt.acting
    assert plain.acting != make_method({"name": "a", "engine": "nir", "preset": "fast"}).acting


def test_a_fingerprint_follows_settings_and_content(scan: Path) -> None:
    first = fingerprint(Source({"seed": 1}, [scan]).record())
    touched(scan)
    assert first == fingerprint(Source({"seed": 1}, [scan]).record())
    assert first != fingerprint(Source({"seed": 2}, [scan]).record())
    older(scan)
    assert first != fingerprint(Source({"seed": 1}, [scan]).record())
    assert fingerprint(None) is None
