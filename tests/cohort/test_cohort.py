"""Planted faults, one message; tables, pairs and the memory of checks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nir.cohort import check as cohort_check
from nir.cohort import checks
from nir.cohort import subject as cohort_subject
from nir.cohort.pairs import plan_pairs
from nir.cohort.readers.table import read_table
from nir.cohort.settings import PairsConfig
from nir.errors import NirError
from nir.io import sheets as cohort_sheets
from nir.pipeline import cohort
from nir.pipeline.settings import PipelineConfig

SHAPE = (10, 9, 8)
AFFINE = np.array([[-1.5, 0, 0, 9], [0, 1.5, 0, -8], [0, 0, 2.0, 3], [0, 0, 0, 1]])
RNG = np.random.default_rng(11)


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> nib.Nifti1Image:
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return image


def brain(dtype: type = np.int16) -> np.ndarray:
    return (RNG.random(SHAPE) * 900).astype(dtype)


def labels() -> np.ndarray:
    return RNG.integers(0, 5, SHAPE).astype(np.uint8)


def mask() -> np.ndarray:
    volume = np.zeros(SHAPE, dtype=np.uint8)
    volume[2:8, 2:7, 2:6] = 1
    return volume


def make_subject(folder: Path, name: str) -> cohort_subject.Subject:
    parts = {"image": brain(), "labels": labels(), "mask": mask()}
    paths = {kind: folder / f"{name}_{kind}.nii.gz" for kind in parts}
    for kind, voxels in parts.items():
        write(paths[kind], voxels)
    return cohort_subject.Subject(name, **paths)


def write_table(path: Path, subjects: list[cohort_subject.Subject]) -> Path:
    rows = [f"{s.id},{s.image.name},{s.labels and s.labels.name},{s.mask.name}" for s in subjects]
    path.write_text("\n".join(["id,image,labels,mask", *rows]) + "\n", encoding="utf-8")
    return path


def config(table: Path, **changes: object) -> PipelineConfig:
    raw = {
        "cohort": {"table": table},
        "methods": [{"name": "affine", "engine": "affine"}],
        "preprocess": {"skull_strip": "mask"},
        **changes,
    }
    return PipelineConfig.model_validate(raw)


def faults_of(subject: cohort_subject.Subject, needs_mask: bool = False) -> list[str]:
    return cohort_check.check_subjects([subject], needs_mask).get(subject.id, [])


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A cohort of two sound subjects and nine with a fault each."""
    names = [f"s{i:02d}" for i in range(1, 11)]
    subjects = {name: make_subject(tmp_path, name) for name in names}
    subjects["s03"].image.unlink()
    write(subjects["s04"].image, RNG.random((*SHAPE, 3)))
    holes = brain(np.float32)
    holes[3, 3, 3:5] = np.nan
    write(subjects["s05"].image, holes)
    write(subjects["s06"].image, np.full(SHAPE, 7, dtype=np.int16))
    shifted = AFFINE.copy()
    shifted[0, 3] += 3
    write(subjects["s07"].labels, labels(), shifted)
    write(subjects["s08"].labels, labels() + np.float32(0.25))
    image = write(subjects["s09"].image, brain())
    image.set_qform(shifted, 1)
    nib.save(image, subjects["s09"].image)
    write(subjects["s10"].mask, np.zeros(SHAPE, dtype=np.uint8))
    return write_table(tmp_path / "subjects.csv", [*subjects.values(), subjects["s02"]])


PLANTED = {
    "s02": "an id that occurs once, found 2 rows",
    "s03": "s03_image.nii.gz: expected a file, found no such file",
    "s04": "s04_image.nii.gz: expected a 3-D image, found shape (10, 9, 8, 3)",
    "s05": "s05_image.nii.gz: expected finite values, found 2 voxel(s)",
    "s06": "s06_image.nii.gz: expected an image with contrast, found 7 everywhere",
    "s07": "s07_labels.nii.gz: expected the image's grid, shape (10, 9, 8), found the same shape,"
    " but voxels up to 3 mm away",
    "s08": "s08_labels.nii.gz: expected whole-number labels, found fractions such as",
    "s09": "s09_image.nii.gz: expected qform and sform that agree, found forms that place voxels"
    " up to 3 mm apart",
    "s10": "s10_mask.nii.gz: expected a brain mask with voxels above 0, found an empty mask",
}


def test_all_planted_faults_come_in_one_message(planted: Path) -> None:
    with pytest.raises(NirError) as caught:
        cohort.load_cohort(config(planted))
    lines = str(caught.value).splitlines()
    assert lines[0] == "The cohort has 9 fault(s) in 9 subject(s):"
    for name, expected in PLANTED.items():
        start = lines.index(f"subject {name}") + 1
        assert expected in lines[start]
        assert "; " in lines[start]  # the cure
    assert len(lines) == 1 + 2 * 9 + 1
    assert "on_invalid" in lines[-1]


def test_skip_leaves_out_faulty_subjects_and_their_pairs(planted: Path) -> None:
    pairs = planted.with_name("pairs.csv")
    table = planted.read_text() + "s11,s01_image.nii.gz,,s01_mask.nii.gz\n"
    planted.write_text(table)
    pairs.write_text("fixed,moving\ns01,s03\ns11,s01\ns02,s01\n")
    settings = config(
        planted,
        cohort={"table": planted, "on_invalid": "skip"},
        pairs={"mode": "table", "table": pairs},
    )
    found = cohort.load_cohort(settings)
    assert [s.id for s in found.subjects] == ["s01", "s11"]
    assert found.pairs == (("s11", "s01"),)
    assert found.dropped_pairs == (("s01", "s03"), ("s02", "s01"))
    assert set(found.left_out) == set(PLANTED)


def test_skip_with_no_pair_left_is_an_error(planted: Path) -> None:
    settings = config(planted, cohort={"table": planted, "on_invalid": "skip"})
    with pytest.raises(NirError, match=r"No pair is left(.|\n)*s03_image"):
        cohort.load_cohort(settings)


def test_faults_of_pairs_join_those_of_subjects(planted: Path) -> None:
    pairs = planted.with_name("pairs.tsv")
    pairs.write_text("fixed\tmoving\ns01\ts99\n")
    with pytest.raises(NirError) as caught:
        cohort.load_cohort(config(planted, pairs={"mode": "table", "table": pairs}))
    assert "The cohort has 10 fault(s)" in str(caught.value)
    assert "'s99'" in str(caught.value)


def test_sound_cohort(tmp_path: Path) -> None:
    subjects = [make_subject(tmp_path, name) for name in ("a", "b", "c")]
    seen: list[tuple[int, int, str]] = []
    table = write_table(tmp_path / "t.csv", subjects)
    found = cohort.load_cohort(config(table), progress=lambda *step: seen.append(step))
    assert found.subjects == tuple(subjects)
    assert found.pairs == (("a", "b"), ("b", "c"))
    assert (found.left_out, found.dropped_pairs) == ({}, ())
    assert seen == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]


def test_labels_that_no_map_holds(tmp_path: Path) -> None:
    subjects = [make_subject(tmp_path, name) for name in ("a", "b")]
    table, cache = write_table(tmp_path / "t.csv", subjects), tmp_path / "checks.json"
    held = sorted({int(n) for n in np.unique(labels()) if n})
    sound = config(table, cohort={"table": table, "labels": [0, *held]})
    assert len(cohort.load_cohort(sound, cache).pairs) == 1
    wrong = {"table": table, "labels": [*held, 98, 99]}
    for _ in range(2):  # read, then remembered
        with pytest.raises(NirError, match=r"cohort\.labels: .*map holds, found 98, 99"):
            cohort.load_cohort(config(table, cohort=wrong), cache)
    with pytest.raises(NirError, match=r"guidance\.structures: .*map holds, found 77"):
        cohort.load_cohort(config(table, guidance={"structures": [77]}), cache)


def test_demo_cohort_is_known_before_its_files_are() -> None:
    settings = config(Path("unused"), cohort={"kind": "demo"}, output="out")
    found = cohort.load_cohort(settings)
    assert [s.id for s in found.subjects] == [f"sub-0{i}" for i in range(1, 6)]
    assert found.subjects[1].mask == Path("out/cohort/raw/sub-02_mask.nii.gz")
    assert len(found.pairs) == 4
    assert found.label_names == Path("out/cohort/raw/labels.tsv")
    assert found.truth == Path("out/cohort/raw/truth")
    assert found.grid is not None
    assert found.grid.shape == (105, 126, 106)


def test_every_fault_of_one_subject_is_listed(tmp_path: Path) -> None:
    subject = make_subject(tmp_path, "x")
    bad = brain(np.float32)
    bad[0, 0, 0] = np.inf
    write(subject.image, bad, np.diag([20.0, 20, 20, 1]))
    write(subject.labels, np.zeros(SHAPE, np.uint8))
    subject.mask.write_bytes(b"")
    found = faults_of(
        cohort_subject.Subject("bad__id", subject.image, subject.labels, subject.mask)
    )
    for part in ("single '_'", "20 x 20 x 20 mm", "1 voxel(s)", "at least one label", "0 bytes"):
        assert sum(part in line for line in found) == 1, part
    assert len(found) == 5


@pytest.mark.parametrize("name", ["", "a b", "_a", "a_", "a__b", "ä", "a/b", "template", "-a"])
def test_ids_that_cannot_be_file_names(tmp_path: Path, name: str) -> None:
    subject = make_subject(tmp_path, "x")
    assert len(faults_of(cohort_subject.Subject(name, subject.image))) == 1


@pytest.mark.parametrize("name", ["a", "0001", "sub-01_ses-2", "OASIS_OAS1_0001_MR1"])
def test_sound_ids(tmp_path: Path, name: str) -> None:
    assert faults_of(cohort_subject.Subject(name, make_subject(tmp_path, "x").image)) == []


def test_missing_mask_is_a_fault_only_where_needed(tmp_path: Path) -> None:
    subject = cohort_subject.Subject("a", make_subject(tmp_path, "a").image)
    assert faults_of(subject) == []
    assert "brain mask" in faults_of(subject, needs_mask=True)[0]


def damaged(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind in ("flipped", "checksum"):
        at = len(content) // 2 if kind == "flipped" else len(content) - 8
        path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    else:
        path.write_bytes(b"no image at all")


@pytest.mark.parametrize("kind", ["truncated", "flipped", "checksum", "text"])
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    subject = make_subject(tmp_path, "a")
    damaged(subject.labels, kind)
    found = faults_of(subject)
    assert len(found) == 1
    expected = "a NIfTI image, found a text file" if kind == "text" else "a complete NIfTI image"
    assert f"a_labels.nii.gz: expected {expected}" in found[0]


def test_uncompressed_truncated_file(tmp_path: Path) -> None:
    write(tmp_path / "a.nii", brain())
    damaged(tmp_path / "a.nii", "truncated")
    assert "damaged or incomplete" in faults_of(cohort_subject.Subject("a", tmp_path / "a.nii"))[0]


def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "a folder" in faults_of(cohort_subject.Subject("a", tmp_path))[0]
    (tmp_path / "link.nii").symlink_to("nowhere")
    assert "a link to nowhere" in faults_of(cohort_subject.Subject("a", tmp_path / "link.nii"))[0]
    subject = make_subject(tmp_path, "b")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "no permission" in faults_of(cohort_subject.Subject("b", subject.image))[0]


@pytest.mark.parametrize(
    ("affine", "expected"),
    [
        (np.diag([1.0, 1, 0, 1]), "singular"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
        (np.array([[1.0, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "sheared"),
        (np.diag([0.001, 0.001, 0.001, 1]), "0.001 x 0.001 x 0.001 mm"),
        (np.diag([0.5, 0.5, 6.0, 1]), "0.5 x 0.5 x 6 mm"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path: Path, affine: np.ndarray, expected: str) -> None:
    image = nib.Nifti1Image(brain(), None)
    image.header.set_sform(affine, 1)
    image.header["sform_code"] = 1
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    image.header.set_zooms(np.where(edges > 0, edges, 1))
    nib.save(nib.Nifti1Image(image.dataobj, None, image.header), tmp_path / "a.nii")
    found = faults_of(cohort_subject.Subject("a", tmp_path / "a.nii"))
    assert len(found) == 1
    assert expected in found[0]


def test_labels_of_another_shape_and_a_2d_image(tmp_path: Path) -> None:
    subject = make_subject(tmp_path, "a")
    write(subject.labels, labels()[:-1])
    assert "found shape (9, 9, 8)" in faults_of(subject)[0]
    write(subject.image, brain()[:, :, 0])
    assert "found shape (10, 9)" in faults_of(cohort_subject.Subject("a", subject.image))[0]


def test_harmless_things_are_no_faults(tmp_path: Path) -> None:
    subject = make_subject(tmp_path, "a")
    write(subject.image, brain()[..., None])
    write(subject.labels, labels().astype(np.float64))
    nudged = AFFINE.copy()
    nudged[:3, 3] += 0.01
    image = nib.Nifti1Image(mask(), nudged)
    image.set_qform(nudged, 1)
    image.set_sform(None, 0)
    nib.save(image, subject.mask)
    assert faults_of(subject) == []


def test_qform_of_an_oblique_grid_agrees(tmp_path: Path) -> None:
    c, s = np.cos(0.4), np.sin(0.4)
    affine = np.array([[-c, -s, 0, 90], [-s, c, 0, -120], [0, 0, 1.2, -70], [0, 0, 0, 1.0]])
    write(tmp_path / "a.nii.gz", RNG.random((60, 60, 60)), affine)
    assert faults_of(cohort_subject.Subject("a", tmp_path / "a.nii.gz")) == []


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    read: list[Path] = []
    real = checks.check_file

    def counted(path: Path, kind: checks.Kind, demands: checks.Demands) -> checks.FileReport:
        read.append(path)
        return real(path, kind, demands)

    monkeypatch.setattr(checks, "check_file", counted)
    return read


def test_cache_reads_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = [make_subject(tmp_path, name) for name in ("a", "b")]
    write(subjects[0].labels, labels()[1:])
    damaged(subjects[1].mask, "truncated")
    path = tmp_path / "out" / "checks.json"
    read = count_reads(monkeypatch)
    first = cohort_check.check_subjects(subjects, True, checks.CheckCache(path))
    assert len(read) == 6
    read.clear()
    assert cohort_check.check_subjects(subjects, True, checks.CheckCache(path)) == first
    assert read == [subjects[1].mask]  # what could not be read is tried again
    read.clear()
    write(subjects[1].mask, mask())
    write(subjects[0].labels, labels())
    stamp = subjects[0].image.stat()
    os.utime(subjects[0].image, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert cohort_check.check_subjects(subjects, True, checks.CheckCache(path)) == {}
    assert read == [subjects[0].image, subjects[0].labels, subjects[1].mask]
    subjects[0].image.unlink()
    assert list(cohort_check.check_subjects(subjects, True, checks.CheckCache(path))) == ["a"]


def test_cache_holds_for_one_kind_of_file(tmp_path: Path) -> None:
    write(tmp_path / "m.nii.gz", np.ones(SHAPE, np.uint8))
    cache = checks.CheckCache(tmp_path / "checks.json")
    assert cache.check(tmp_path / "m.nii.gz", "mask").faults == ()
    assert cache.check(tmp_path / "m.nii.gz", "image").faults


@pytest.mark.parametrize("damage", ["", "{", "[1]", "null", '{"version": 1}', "entry"])
def test_damaged_cache_is_ignored(tmp_path: Path, damage: str) -> None:
    subject = make_subject(tmp_path, "a")
    write(subject.labels, labels()[1:])
    path = tmp_path / "checks.json"
    first = cohort_check.check_subjects([subject], True, checks.CheckCache(path))
    content = json.loads(path.read_text())
    for entry in content["files"].values():
        entry["grid"] = {"shape": [1, 2], "affine": "none"}
    path.write_text(json.dumps(content) if damage == "entry" else damage)
    assert cohort_check.check_subjects([subject], True, checks.CheckCache(path)) == first
    assert len(json.loads(path.read_text())["files"]) == 3


def test_cache_sees_the_other_half_of_a_pair_of_files(tmp_path: Path) -> None:
    header, voxels = tmp_path / "a.hdr", tmp_path / "a.img"
    nib.save(nib.Nifti1Pair(brain(), AFFINE), voxels)
    cache = checks.CheckCache()
    assert cache.check(header, "image").faults == ()
    voxels.write_bytes(bytes(voxels.stat().st_size - 1) + b"\0\0")
    assert cache.check(header, "image").faults


def test_table_with_bom_spaces_and_unknown_columns(tmp_path: Path) -> None:
    folder = tmp_path / "Köpfe 1"
    text = "\ufeffid, image ,age,mask\n001, kopf ä.nii.gz ,23,n/a\n\n002,/abs/b.nii,,m,\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    first, second = read_table(tmp_path / "t.csv", folder)
    assert first == cohort_subject.Subject("001", folder / "kopf ä.nii.gz")
    assert second == cohort_subject.Subject("002", Path("/abs/b.nii"), None, folder / "m")
    (tmp_path / "t.tsv").write_text('id\timage\na\t"b, c.nii"\n', encoding="utf-8")
    assert read_table(tmp_path / "t.tsv")[0].image == tmp_path / "b, c.nii"
    text = "sep=;\r\n# a, comment\r\nid;image;note;\r\n007;b.nii;x, y, z;\r\n;;;\r\n"
    (tmp_path / "s.csv").write_text(text, encoding="utf-8")
    [subject] = read_table(tmp_path / "s.csv")
    assert (subject.id, subject.image) == ("007", tmp_path / "b.nii")


def test_a_tilde_in_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    (tmp_path / "t.csv").write_text("id,image,mask\na,~/a.nii,b/~\n")
    [subject] = read_table(tmp_path / "t.csv")
    assert (subject.image, subject.mask) == (Path("/home/ann/a.nii"), tmp_path / "b/~")


def test_empty_image_cell_is_a_fault_of_the_subject(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,image\na,\n")
    assert "a folder" in faults_of(read_table(tmp_path / "t.csv")[0])[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "an empty file"),
        (b"id,image\n", "a header alone"),
        (b"participant_id,image\na,b\n", "found columns participant_id, image; add or rename: id"),
        (b"id,id,image\na,b,c\n", "one column each"),
        (
            b"#x\n\nid,image,\na,b,c\nd,e,\n\n'f',\"g,h\",,i",
            "2 cells a row, found more in line 4, 7",
        ),
        (b"id,image,mask,mask\na,b,c,d\n", "each column once, found mask twice"),
        (b'id,image\na,"b\nc,d\n', "in the row that begins in line 2; close each quote"),
        (b"id,image\na,b\nK\xf6pfe,c\n", "not UTF-8 in line 3"),
        (
            "id,image\nä,b\n".encode("utf-16"),
            "text in UTF-16, or no text; save it as plain text in UTF-8",
        ),
        (None, "found no such file"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NirError) as caught:
        read_table(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_label_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.tsv"
    path.write_text("index\tname\ttissue\n4\t3rd Ventricle\tCSF\n11\t4th Ventricle\tCSF\n")
    assert cohort_sheets.label_names(path) == {4: "3rd Ventricle", 11: "4th Ventricle"}
    path.write_text("index\tname\n4.5\tx\n")
    with pytest.raises(NirError, match=r"whole numbers, found '4\.5' in line 2"):
        cohort_sheets.label_names(path)
    path.write_text("# by hand\n\nindex;name;\n010;a\n10;b\n")
    with pytest.raises(NirError, match=r"one name of label 10, found 'a' and, in line 5, 'b'"):
        cohort_sheets.label_names(path)
    lookup = path.with_suffix(".txt")
    lookup.write_text('# ITK-SNAP\n0 0 0 0 0 0 0 "Clear"\n17 255 0 0 1 1 1 "Left 3"\n')
    assert cohort_sheets.label_names(lookup) == {0: "Clear", 17: "Left 3"}
    lookup.write_text("17 Left 255 0 0 0\n17 Right 0 0 0 0\n")
    with pytest.raises(NirError, match="in line 2, 'Right'"):
        cohort_sheets.label_names(lookup)


IDS = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mode": "consecutive"}, ["ab", "bc"]),
        ({"mode": "all"}, ["ab", "ac", "ba", "bc", "ca", "cb"]),
        ({"mode": "to-subject", "subject": "b"}, ["ba", "bc"]),
    ],
)
def test_pairs_by_rule(settings: dict, expected: list[str]) -> None:
    expected_pairs = [tuple(pair) for pair in expected]
    assert plan_pairs(IDS, PairsConfig(**settings)) == (expected_pairs, [])


def test_pairs_to_template() -> None:
    pairs = plan_pairs(["a"], PairsConfig(mode="to-template"))
    assert pairs == ([("template", "a")], [])


def test_pairs_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("fixed,moving\nc,a\na,c\n")
    settings = PairsConfig(mode="table", table=path)
    assert plan_pairs(IDS, settings) == ([("c", "a"), ("a", "c")], [])


def test_all_faults_of_a_pair_table(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("fixed,moving\na,b\n\n# the same\na,b\nc,c\nsub-x,a\n")
    _, faults = plan_pairs([*IDS, "sub-xy"], PairsConfig(mode="table", table=path))
    assert len(faults) == 3
    text = "\n".join(faults)
    twice = "a,b 2 times, in line 2, 5"
    for part in (twice, "two different subjects, found c,c in line 6", "did you mean 'sub-xy'"):
        assert part in text


def test_pairs_need_two_subjects_and_a_known_target() -> None:
    [fault] = plan_pairs(["a", "a"], PairsConfig(mode="all"))[1]
    assert "two subjects or more, found 1" in fault
    [fault] = plan_pairs(IDS, PairsConfig(mode="to-subject", subject="z"))[1]
    assert "pairs.subject" in fault
    assert "'z'" in fault


def test_real_scans_are_sound(shared_data: Path) -> None:
    table = shared_data / "oasis" / "sub-1000_{}.nii.gz"
    image, label, brain_mask = (Path(str(table).format(p)) for p in ("T1w", "dseg", "mask"))
    assert faults_of(cohort_subject.Subject("sub-1000", image, label, brain_mask), True) == []
