"""Similarities on pairs of unlike contrasts: the fixed scan T1-weighted, the moving one simulated.

``python -m benchmarks.multimodal``; see README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from benchmarks.cells import check_only, run_plan
from benchmarks.contrasts import DEMO_TISSUES, LOOKS, TISSUE_CODES, simulate, tissue_map
from benchmarks.measures import MEASURES
from benchmarks.plan import Entry, Plan, make_entry
from benchmarks.plots import pictures
from benchmarks.tables import frame, ratio
from benchmarks.timing import BUSY_LIMIT
from benchmarks.verdicts import Scan

from benchmarks.machine import machine
from nir.cohort.phantom import WORLD, Phantom, head_phantom
from nir.cohort.readers.demo import DemoCohort
from nir.cohort.simulate import HEAD_CENTRE, simulate_subjects
from nir.errors import NirError, fault
from nir.fit.settings import fit_config
from nir.geometry.grid import RAS_TO_LPS, Grid, apply_matrix, brain_box
from nir.io.files import save_json, save_text
from nir.io.images import save_volume
from nir.io.sheets import read_rows
from nir.io.tables import save_table
from nir.losses.similarities.base import SIMILARITIES
from nir.pipeline.settings import PipelineConfig, load_pipeline
from nir.preprocess.intensities import normalise

RESULTS = Path("results/benchmarks/multimodal")
DATA = Path("../shared/data/oasis")
PRESET = "multimodal"
REFERENCE = "syn"
LONG = (100, 70, 50, 20)  # iterations of SyN, which by default leaves the finest level out
SEED, THREADS = 1, 2
MARGIN_MM = 12.0  # kept around each brain

PERSONS = (("sub-1006", "sub-1009"),)  # fixed, moving; no setting was chosen on them
DEFORMED = "sub-1002"
UNSCORED = (15, 42, 43, 63, 64, 74)  # labels that are absent or a handful of voxels

SHOWN = ("truth_mm", "dice", "folds_percent", "seconds")
COLUMNS = {  # of a table: heading and digits
    **{name: (MEASURES[name].heading, MEASURES[name].digits) for name in SHOWN},
    f"truth_mm_over_{REFERENCE}": ("error / SyN's", 2),
    f"seconds_over_{REFERENCE}": ("seconds / SyN's", 2),
}
NOTES = """\
Means over the pairs. Error: mean distance to the true deformation inside the brain. Folds: det J <=
0 inside the brain. Seconds: from two images in memory to both transforms, without the affine, which
all methods share. SyN: antspyx, Mattes mutual information; syn-long: 100x70x50x20 iterations."""


@dataclass(frozen=True)
class Source:
    """Scans with labels, from which pairs of unlike contrasts are made.

    Args:
        folder: holds ID_T1w, ID_dseg and ID_mask (.nii.gz).
        pairs: ids, fixed and moving; no subject is both.
        tissues: tissue of each label.
        unscored: labels left out of the Dice.
        truth: folder of the true deformations; None: two persons have none.
        every: each similarity is tried on them, not the preset's alone.
    """

    folder: Path
    pairs: tuple[tuple[str, str], ...]
    tissues: Mapping[int, int]
    unscored: tuple[int, ...] = ()
    truth: Path | None = None
    every: bool = False


def demo(work: Path, data: Path) -> Source:
    """Simulate heads of the ICBM152 brain at 2 mm."""
    folder = work / "demo"
    simulate_once(DemoCohort(subjects=5), head_phantom, folder)
    pairs = (("sub-01", "sub-03"), ("sub-04", "sub-05"))
    return Source(folder, pairs, DEMO_TISSUES, truth=folder / "truth", every=True)


def deformed(work: Path, data: Path) -> Source:
    """Deform one real brain at random, at 1.5 mm."""
    folder = work / "deformed"
    cohort = DemoCohort(subjects=3, spacing_mm=1.5)
    simulate_once(cohort, lambda: real_phantom(Scan.load(data, DEFORMED)), folder)
    pairs = (("sub-01", "sub-03"),)
    return Source(folder, pairs, real_tissues(data), UNSCORED, folder / "truth")


def persons(work: Path, data: Path) -> Source:
    """Take two real brains at 1 mm."""
    return Source(data, PERSONS, real_tissues(data), UNSCORED)


BRAINS: dict[str, Callable[[Path, Path], Source]] = {
    "demo": demo,
    "deformed": deformed,
    "persons": persons,
}


def simulate_once(cohort: DemoCohort, head: Callable[[], Phantom], folder: Path) -> None:
    """Write simulated subjects, unless they are there from the same settings."""
    note = folder / "cohort.json"
    if not note.exists():
        simulate_subjects(cohort, head(), folder)
        save_json(note, cohort.model_dump(mode="json"))


def real_phantom(scan: Scan) -> Phantom:
    """Place a stripped brain in the middle of the template's space, with nothing around it."""
    brain, _ = normalise(scan.image, scan.mask)
    middle = apply_matrix(scan.grid.affine, np.argwhere(scan.mask).mean(0))
    moved = scan.grid.affine.copy()
    moved[:3, 3] += apply_matrix(RAS_TO_LPS, HEAD_CENTRE) - middle
    grid = Grid(scan.grid.shape, moved)
    return Phantom(grid, brain, scan.mask > 0, scan.labels, np.zeros(WORLD.shape, np.float32))


def real_tissues(data: Path) -> dict[int, int]:
    """Read the tissue of each label of the real brains."""
    rows = read_rows(data / "labels.tsv", ("index", "tissue"))
    return {
        int(row["index"]): TISSUE_CODES[row["tissue"]]
        for row in rows
        if row["tissue"] in TISSUE_CODES
    }


def moving_scan(scan: Scan, contrast: str, tissues: Mapping[int, int], name: str) -> Scan:
    """Return a scan in another contrast; each subject's bias field and noise are its own."""
    rng = np.random.default_rng([SEED, *f"{contrast} {name}".encode()])
    tissue = tissue_map(scan.labels, scan.mask, tissues)
    return replace(scan, image=simulate(contrast, scan.image, tissue, scan.grid.spacing, rng))


def load_scan(folder: Path, name: str) -> Scan:
    """Read a scan, strip it and crop it around its brain."""
    scan = Scan.load(folder, name)
    stripped = replace(scan, image=scan.image * (scan.mask > 0))
    return stripped.cut(brain_box(scan.mask, scan.grid, MARGIN_MM))


def write_cohort(source: Source, contrast: str, folder: Path) -> PipelineConfig:
    """Write the scans of a contrast's pairs; return the settings of their cohort."""
    rows = []
    for pair in source.pairs:
        for name, moves in zip(pair, (False, True), strict=True):
            scan = load_scan(source.folder, name)
            if moves:
                scan = moving_scan(scan, contrast, source.tissues, name)
            for part in ("image", "labels", "mask"):
                save_volume(folder / f"{name}_{part}.nii.gz", getattr(scan, part), scan.grid)
            rows.append(
                "\t".join([name, *(f"{name}_{p}.nii.gz" for p in ("image", "labels", "mask"))])
            )
    save_text(folder / "subjects.tsv", "\n".join(["id\timage\tlabels\tmask", *rows]) + "\n")
    pairs = "".join(f"{fixed}\t{moving}\n" for fixed, moving in source.pairs)
    save_text(folder / "pairs.tsv", "fixed\tmoving\n" + pairs)
    content = {
        "seed": SEED,
        "threads": THREADS,
        "device": "cpu",
        "cohort": {"table": str(folder / "subjects.tsv"), "labels_exclude": source.unscored},
        "pairs": {"mode": "table", "table": str(folder / "pairs.tsv")},
        "preprocess": {"skull_strip": "mask"},
        "methods": [{"name": "affine", "engine": "affine"}],
    }
    return load_pipeline(content)


def own_similarity(name: str) -> dict[str, str]:
    """Return what gives a similarity to all phases of the preset whose solver knows it."""
    found = {}
    for number in range(len(fit_config(PRESET).phases)):
        key = f"phases.{number}.similarity"
        try:
            fit_config(PRESET, {key: name})
        except NirError:
            continue
        found[key] = name
    return found


def entries(every: bool) -> tuple[Entry, ...]:
    """Return the methods: affine, SyN, the preset, and if asked that with every similarity."""
    similarities = SIMILARITIES.names if every else ()
    nir = {"engine": "nir", "preset": PRESET}
    methods: list[dict[str, Any]] = [
        {"name": "affine", "engine": "affine"},
        {"name": REFERENCE, "engine": "syn"},
        {"name": f"{REFERENCE}-long", "engine": "syn", "iterations": LONG},
        {"name": PRESET, **nir},
        *({"name": name, **nir, "set": own_similarity(name)} for name in similarities),
    ]
    return tuple(make_entry(method) for method in methods)


def run(
    output: Path, data: Path, brains: Sequence[str], only: Sequence[str] = ()
) -> tuple[pd.DataFrame, tuple[Entry, ...]]:
    """Run the cells that are not there yet, and draw the contrasts.

    Args:
        output: folder of the comparison; ``work/`` in it keeps scans, affines and cells.
        data: folder of the real scans.
        brains: keys of `BRAINS`.
        only: names of methods to run; the rows of others are returned if they are there.

    Returns:
        One row a cell, with columns ``brains`` and ``contrast``; and the methods.

    Raises:
        NirError: the real scans are not there, or a method is unknown.
    """
    if set(brains) - {"demo"} and not data.is_dir():
        cure = "give --data FOLDER, or run --brains demo"
        raise NirError(fault(data, "the folder of the real scans", "none", cure))
    work, methods, parts, shown = output / "work", entries(every=True), [], {}
    check_only(only, methods)
    for title in brains:
        source = BRAINS[title](work / "scans", data)
        own = entries(source.every)
        wanted = [method.name for method in own if method.name in only]
        if only and not wanted:
            continue
        shown[title] = looks(source)
        for contrast in LOOKS:
            folder = work / f"{title}-{contrast}"
            config = write_cohort(source, contrast, folder / "scans")
            plan = Plan(folder.name, config, own, truth=source.truth)
            rows = frame(run_plan(plan, folder, wanted).rows)
            parts.append(rows.assign(brains=title, contrast=contrast))
    if not parts:
        raise NirError("--only: none of these methods runs on these brains; add --brains demo")
    pictures(output / "contrasts.png", shown)
    return pd.concat(parts, ignore_index=True), methods


def looks(source: Source) -> dict[str, np.ndarray]:
    """Return the middle axial plane of the first moving scan in each contrast."""
    name = source.pairs[0][1]
    scan = load_scan(source.folder, name)
    scans = {c: moving_scan(scan, c, source.tissues, name) for c in LOOKS}
    return {title: axial(one) for title, one in {"T1-weighted": scan, **scans}.items()}


def axial(scan: Scan) -> np.ndarray:
    """Return the axial plane through the middle of a brain, in [0, 1], anterior up."""
    brain, _ = normalise(scan.image, scan.mask)
    turned = nib.apply_orientation(brain, nib.io_orientation(scan.grid.affine))
    plane: np.ndarray = np.rot90(turned[..., turned.shape[2] // 2])
    return plane


def summary(cells: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the means of each method on each kind of pairs, and their ratios to SyN's."""
    rows = []
    for (title, contrast), part in cells.groupby(["brains", "contrast"], sort=False):
        for name in names:
            own = part[(part["method"] == name) & part["error"].isna()]
            if own.empty:
                continue
            row = {"brains": title, "contrast": contrast, "method": name, "pairs": len(own)}
            for column in SHOWN:
                row[column] = own[column].mean()
            for column in ("truth_mm", "seconds"):
                row[f"{column}_over_{REFERENCE}"], _ = ratio(part, name, REFERENCE, column)
            row["busy_cells"] = int((own["busy_elsewhere"] > BUSY_LIMIT).sum())
            rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Write the summary for readers: a table for each kind of pairs, and what failed."""
    lines = []
    for (title, contrast), part in table.groupby(["brains", "contrast"], sort=False):
        shown = pd.DataFrame({"method": part["method"], "pairs": part["pairs"].astype(str)})
        for column, (heading, digits) in COLUMNS.items():
            if part[column].notna().any():
                shown[heading] = [f"{value:.{digits}f}" for value in part[column]]
        shown["seconds"] += np.where(part["busy_cells"] > 0, "†", "")
        lines += [f"## {title}, {contrast}", ""]
        lines += [shown.to_markdown(index=False, disable_numparse=True), ""]
    lines += [NOTES, "", kept()]
    if table["busy_cells"].any():
        lines += ["", f"† Other processes kept more than {BUSY_LIMIT:g} cores busy meanwhile."]
    for cell in cells[cells["error"].notna()].to_dict("records"):
        where = f"{cell['brains']}, {cell['contrast']}, {cell['fixed']}, {cell['moving']}"
        lines += ["", f"{cell['method']} failed on {where}: {cell['error']}"]
    return "\n".join(lines) + "\n"


def kept() -> str:
    """Word which phases keep the preset's similarity, because their solver knows no other."""
    phases = fit_config(PRESET).phases
    words = [f"`{PRESET}` is the preset; the others are its phases with another similarity."]
    for name in SIMILARITIES.names:
        changed = own_similarity(name)
        left = [n for n in range(len(phases)) if f"phases.{n}.similarity" not in changed]
        if left:
            told = ", ".join(f"{n} ({phases[n].solver})" for n in left)
            words.append(f"With `{name}` phase {told} keeps the preset's similarity.")
    return "\n".join(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Compare similarities on unlike contrasts.")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=DATA, help="real scans (default: %(default)s)")
    parser.add_argument("--brains", nargs="+", choices=BRAINS, default=list(BRAINS))
    parser.add_argument("--only", default="", metavar="METHOD,...", help="run these methods only")
    given = parser.parse_args(words)
    try:
        only = [name for name in given.only.split(",") if name]
        cells, methods = run(given.output, given.data, given.brains, only)
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    table = summary(cells, [method.name for method in methods])
    save_table(given.output / "pairs.tsv", cells)
    save_table(given.output / "table.tsv", table)
    save_text(given.output / "table.md", markdown(table, cells))
    settings = {method.name: method.own for method in methods}
    save_json(given.output / "machine.json", machine(SEED, THREADS) | {"methods": settings})
    print((given.output / "table.md").read_text(encoding="utf-8"))
    return int(cells["error"].notna().any())


if __name__ == "__main__":
    sys.exit(main())
