"""A run over a BIDS dataset as BIDS derivatives: links to the results, under BIDS names."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nir import __version__
from nir.cohort.pairs import TEMPLATE
from nir.cohort.prepared import failure
from nir.io.files import atomic, save_json, save_text
from nir.io.layout import PairFolder, ResultFolder, SubjectFolder, pair_name
from nir.io.tables import save_table
from nir.pipeline.failures import failures

BIDS_VERSION = "1.9.0"

ICBM = "MNI152NLin2009aSym"  # the brain that nilearn ships

IGNORED = "*_xfm.*\n*.html\nlogs/\nfigures/\n"

CODE = "https://doi.org/10.1016/j.media.2024.103249"


def write_derivatives(
    folder: Path,
    evaluated: Iterable[tuple[str, str, Sequence[tuple[str, str]]]],
    root: Path,
    subjects: Path,
    *,
    name: str,
    own_template: bool,
    label_names: dict[int, str],
    stripped: bool,
) -> None:
    """Write the dataset; ``dataset_description.json`` comes last.

    Args:
        evaluated: marker, method and pairs (fixed, moving) of each batch; those that failed are
            left out.
        root, subjects: folders of the pairs' results and of the prepared subjects.
        name: of the run.
        own_template: the template is not the one that nilearn ships.
        label_names: names of labels, for ``dseg.tsv``.
        stripped: the scans came without skull.
    """
    shutil.rmtree(folder, ignore_errors=True)  # links alone: nothing is lost
    seen: set[str] = set()
    for marker, method, pairs in evaluated:
        failed = failures(marker)
        for fixed, moving in pairs:
            seen |= {fixed, moving}
            if pair_name(fixed, moving) not in failed:
                results = PairFolder(root / pair_name(fixed, moving)).results(method)
                _link_pair(folder, results, fixed, moving, method, own_template, stripped)
    for subject in sorted(seen - {TEMPLATE}):
        files = SubjectFolder(subjects / subject)
        if failure(files.record):
            continue
        stem = _stem(folder, subject)
        _link(files.brain, f"{stem}_desc-preproc_T1w.nii.gz")
        save_json(f"{stem}_desc-preproc_T1w.json", {"SkullStripped": True})
        _link(files.mask, f"{stem}_desc-brain_mask.nii.gz")
        save_json(f"{stem}_desc-brain_mask.json", {"Type": "Brain"})
    names = pd.DataFrame(sorted(label_names.items()), columns=["index", "name"])
    save_table(folder / "dseg.tsv", names)
    save_text(folder / ".bidsignore", IGNORED)
    save_text(
        folder / "README.md", f"Registrations of the run {name}, made by NIR {__version__}.\n"
    )
    about: dict[str, Any] = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "NIR", "Version": __version__, "CodeURL": CODE}],
    }
    save_json(folder / "dataset_description.json", about)


def _link_pair(
    folder: Path,
    results: ResultFolder,
    fixed: str,
    moving: str,
    method: str,
    own_template: bool,
    stripped: bool,
) -> None:
    """Link what was kept of a registration to names of the moving subject."""
    space = TEMPLATE if fixed == TEMPLATE else _label(fixed)
    if fixed == TEMPLATE and not own_template:
        space = ICBM
    stem, by = _stem(folder, moving), f"desc-{_label(method)}"
    reference = f"bids::{_relative(fixed)}_desc-preproc_T1w.nii.gz"
    if fixed == TEMPLATE:
        reference = "the template of this run"
    about: dict[str, Any] = {"SkullStripped": stripped}
    if space != ICBM:
        about["SpatialReference"] = reference
    for source, suffix in ((results.warped, "T1w"), (results.warped_labels, "dseg")):
        target = f"{stem}_space-{space}_{by}_{suffix}"
        if _link(source, f"{target}.nii.gz"):
            facts = {k: v for k, v in about.items() if suffix == "T1w" or k != "SkullStripped"}
            save_json(f"{target}.json", facts)
    _link(results.forward, f"{stem}_from-T1w_to-{space}_mode-image_{by}_xfm.nii.gz")
    _link(results.inverse, f"{stem}_from-{space}_to-T1w_mode-image_{by}_xfm.nii.gz")


def _relative(subject: str) -> str:
    """Return how the paths of a subject's files begin: ``sub-01/ses-1/anat/sub-01_ses-1``."""
    return "/".join([*subject.split("_"), "anat", subject])


def _stem(folder: Path, subject: str) -> str:
    return str(folder / _relative(subject))


def _label(text: str) -> str:
    """Return what BIDS allows in a label."""
    return re.sub("[^A-Za-z0-9]", "", text)


def _link(source: Path, target: str) -> bool:
    """Link a file, or copy it where links cannot be made; False: it was not kept."""
    if not source.exists():
        return False
    with atomic(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
    return True
