"""A run over a BIDS dataset as BIDS derivatives: links to the results, under BIDS names."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nir import __version__
from nir.cohort.pairs import TEMPLATE
from nir.cohort.prepared import failure
from nir.io.files import atomic, load_json, save_json, save_text
from nir.io.layout import PairFolder, ResultFolder, SubjectFolder, pair_name
from nir.io.tables import save_table
from nir.pipeline.failures import failures

BIDS_VERSION = "1.9.0"

ICBM = "MNI152NLin2009aSym"  # the brain that nilearn ships

REGIONS = ("anat", "func", "dwi")  # kinds of data that may have masks and label maps

IGNORED = "*_xfm.*\n*.html\nlogs/\nfigures/\n"

CODE = "https://doi.org/10.1016/j.media.2024.103249"


@dataclass(frozen=True)
class Scan:
    """What the path of a raw scan tells of the names of its derivatives.

    Args:
        id: of the subject: ``sub-01`` or ``sub-01_ses-1``.
        kind: folder of the data, such as ``anat``.
        suffix: such as ``T2w``.
    """

    id: str
    kind: str
    suffix: str

    @classmethod
    def of(cls, name: str, path: Path) -> Scan:
        """Read the path of a scan in a BIDS dataset."""
        return cls(name, path.parent.name, path.name.split(".")[0].rpartition("_")[2])

    @property
    def stem(self) -> str:
        """How the paths of its images begin: ``sub-01/ses-1/anat/sub-01_ses-1``."""
        return "/".join([*self.id.split("_"), self.kind, self.id])

    @property
    def region_stem(self) -> str:
        """How those of its masks and label maps do, which BIDS does not allow everywhere."""
        return (self if self.kind in REGIONS else replace(self, kind="anat")).stem

    @property
    def prepared(self) -> str:
        """The path of the prepared scan, without ``.nii.gz``."""
        return f"{self.stem}_desc-preproc_{self.suffix}"


def write_derivatives(
    folder: Path,
    evaluated: Iterable[tuple[str, str, Sequence[tuple[str, str]]]],
    root: Path,
    subjects: Path,
    *,
    scans: Mapping[str, str],
    name: str,
    own_template: bool,
    label_names: dict[int, str],
) -> None:
    """Write the dataset; ``dataset_description.json`` comes last.

    Args:
        evaluated: marker, method and pairs (fixed, moving) of each batch; those that failed are
            left out.
        root, subjects: folders of the pairs' results and of the prepared subjects.
        scans: path of each subject's raw scan.
        name: of the run.
        own_template: the template is not the one that nilearn ships.
        label_names: names of labels, for ``dseg.tsv``.
    """
    shutil.rmtree(folder, ignore_errors=True)  # links alone: nothing is lost
    known = {name: Scan.of(name, Path(path)) for name, path in scans.items()}
    seen: set[str] = set()
    for marker, method, pairs in evaluated:
        failed = failures(marker)
        for fixed, moving in pairs:
            seen |= {fixed, moving}
            if pair_name(fixed, moving) not in failed:
                prepared = load_json(SubjectFolder(subjects / moving).record)
                results = PairFolder(root / pair_name(fixed, moving)).results(method)
                _link_pair(
                    folder,
                    results,
                    known.get(fixed),
                    known[moving],
                    method,
                    TEMPLATE if own_template else ICBM,
                    prepared["skull_strip"] == "none",
                )
    for subject in sorted(seen - {TEMPLATE}):
        files = SubjectFolder(subjects / subject)
        if failure(files.record):
            continue
        regions, prepared = folder / known[subject].region_stem, folder / known[subject].prepared
        _link(files.brain, f"{prepared}.nii.gz")
        save_json(f"{prepared}.json", {"SkullStripped": True})
        _link(files.mask, f"{regions}_desc-brain_mask.nii.gz")
        save_json(f"{regions}_desc-brain_mask.json", {"Type": "Brain"})
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
    fixed: Scan | None,
    moving: Scan,
    method: str,
    template: str,
    stripped: bool,
) -> None:
    """Link what was kept of a registration to names of the moving subject; None: the template."""
    space = _label(fixed.id) if fixed else template
    by = f"desc-{_label(method)}"
    where = {} if space == ICBM else {"SpatialReference": "the template of this run"}
    if fixed:
        where["SpatialReference"] = f"bids::{fixed.prepared}.nii.gz"
    stripped_too: dict[str, Any] = where | {"SkullStripped": stripped}
    for source, stem, suffix, facts in (
        (results.warped, moving.stem, moving.suffix, stripped_too),
        (results.warped_labels, moving.region_stem, "dseg", where),
    ):
        target = folder / f"{stem}_space-{space}_{by}_{suffix}"
        if _link(source, f"{target}.nii.gz"):
            save_json(f"{target}.json", facts)
    own, end = moving.suffix, f"mode-image_{by}_xfm.nii.gz"
    for source, way in (
        (results.forward, f"from-{own}_to-{space}"),
        (results.inverse, f"from-{space}_to-{own}"),
    ):
        _link(source, f"{folder / moving.stem}_{way}_{end}")
    whole = f"{folder / moving.stem}_from-{own}_to-{space}_mode-image_{by}_xfm.safetensors"
    _link(results.field, whole)


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
