"""The cohort's page from a finished run: reads the tables and records, says what was used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nir.cohort.readers.base import READERS
from nir.io.files import load_json
from nir.io.layout import RunFolder
from nir.io.tables import read_table
from nir.preprocess.settings import AffineConfig, PreprocessConfig
from nir.provenance import machine, versions
from nir.quality.columns import Key
from nir.quality.thresholds import VerdictConfig
from nir.quality.verdict import Check
from nir.report.cohort_page import ReportContext, cohort_report
from nir.report.gather import read_tables
from nir.report.pair_page import Brain, PairContext, pair_page
from nir.report.ratings import outdated_note, read_ratings
from nir.report.tables import judge_all


def write_cohort_page(
    page: Path,
    config: dict[str, Any],
    *,
    prepared: Sequence[Path],
    pairs: Sequence[tuple[str, str]],
    methods: Sequence[str],
    left_out: dict[str, list[str]],
    dropped_pairs: Sequence[tuple[str, str]],
    command: str,
    templates: Path,
    fusion: Path | None = None,
    ratings: Path | None = None,
) -> list[Path]:
    """Write ``report.html`` and the tables and plots it shows; return the pages of all pairs.

    Args:
        page: the HTML file, in the folder of the results.
        config: the settings of the run, complete.
        prepared: ``preprocess.json`` of each subject, for its warnings.
        pairs: fixed and moving ids.
        left_out: faults of each subject that was left out.
        command: makes the run again.
        templates: folder of the page's templates.
        fusion: table of the labels fused from several atlases, if there are any.
        ratings: table of what readers think of the registrations, if some are rated.
    """
    files = RunFolder(page.parent)
    metrics, labels = read_tables(files.path)
    short = _shortener(page.parent, config["cohort"])
    left_out = {name: [short(fault) for fault in faults] for name, faults in left_out.items()}
    failed: Any = read_table(files.failed).to_dict("records")
    failed = [row | {"reason": short(row["reason"])} for row in failed]
    records = {path.parent.name: load_json(path) for path in prepared}
    notes = [(name, short(t)) for name, record in records.items() for t in record["warnings"]]
    rated = None
    if ratings is not None:
        rated, outdated = read_ratings(ratings, metrics)
        notes += outdated_note(outdated)
    context = ReportContext(
        name=config["name"],
        notice=READERS[config["cohort"]["kind"]].notice,
        config_yaml=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        command=command,
        versions=versions(),
        machine=machine(),
        seed=config["seed"],
        subjects=len([r for r in records.values() if "failed" not in r]),
        left_out=left_out,
        dropped_pairs=[(f, m, _reason(f, m, left_out)) for f, m in dropped_pairs],
        figures={(f, m, k): _pictures(f, m, k) for f, m in pairs for k in methods},
        checks=judge_all(metrics, VerdictConfig.model_validate(config["verdict"])),
        ratings=rated,
        notes=notes,
        failed=failed,
        resources=read_table(files.resources),
        fusion=None if fusion is None else read_table(fusion),
    )
    cohort_report(page, metrics, labels, context, templates)
    return _write_pair_pages(page, config, context.checks, command, templates, records)


def _write_pair_pages(
    cohort_page: Path,
    config: dict[str, Any],
    checks: Mapping[Key, Sequence[Check]],
    command: str,
    templates: Path,
    records: Mapping[str, dict[str, Any]],
) -> list[Path]:
    """Write the page of each registration beside its results; ``records``: of all subjects."""
    files = RunFolder(cohort_page.parent)
    brains = {
        name: Brain(name, record, files.subject(name).picture)
        for name, record in records.items()
        if files.subject(name).picture.exists()  # not of earlier versions
    }
    pages = []
    preprocess = PreprocessConfig.model_validate(config["preprocess"])
    affine = AffineConfig.model_validate(config["affine"])
    for (fixed, moving, method), found in checks.items():
        folder = RunFolder(cohort_page.parent).pair(fixed, moving).results(method)
        context = PairContext(
            fixed=fixed,
            moving=moving,
            command=command,
            preprocess=preprocess,
            affine=affine,
            label_interpolation=config["label_interpolation"],
            brains=[brains[name] for name in (fixed, moving) if name in brains],
            cohort=config["name"],
            cohort_page=f"../../../{cohort_page.name}",
        )
        pair_page(folder.path, folder.page, found, context, templates)
        pages.append(folder.page)
    return pages


def _pictures(fixed: str, moving: str, method: str) -> tuple[str, str]:
    """Return thumbnail and page of a registration, relative to the page of the cohort."""
    folder = RunFolder(Path()).pair(fixed, moving).results(method)
    return folder.thumbnail.as_posix(), folder.page.as_posix()


def _shortener(results: Path, cohort: dict[str, Any]) -> Callable[[str], str]:
    """Return what names files from the cohort's or the results' folder on.

    Where these lie is told under provenance and nowhere else.
    """
    table = cohort.get("table")
    given = (results, cohort.get("data"), cohort.get("root"), table and Path(table).parent)
    folders = [Path(folder) for folder in given if folder]
    forms = dict.fromkeys(f"{form}/" for f in folders for form in (f.resolve(), f) if form.name)

    def short(text: str) -> str:
        for form in forms:
            text = text.replace(form, "")
        return text

    return short


def _reason(fixed: str, moving: str, left_out: dict[str, list[str]]) -> str:
    names = [name for name in (fixed, moving) if name in left_out]
    return f"{' and '.join(names)} left out"
