"""The cohort: its subjects, the faults of their files, and who is registered to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nir.cohort.check import Progress, check_subjects, file_faults
from nir.cohort.checks import CheckCache, Demands
from nir.cohort.pairs import TEMPLATE, Pair, check_pairs, plan_pairs
from nir.cohort.read import read_subjects
from nir.cohort.subject import Subject
from nir.errors import NirError, fault
from nir.geometry.grid import Grid
from nir.io.frames import lacks_orientation
from nir.io.images import open_image
from nir.io.layout import RunFolder
from nir.io.sheets import label_names
from nir.pipeline.settings import PipelineConfig
from nir.preprocess.settings import TemplateConfig
from nir.preprocess.template import brain_ml


@dataclass(frozen=True)
class Cohort:
    """Who takes part, which (fixed, moving) pairs are registered, and what was left out and why.

    Args:
        imports: files that the pipeline makes first, NIfTI of Analyze, and what they are made of.
        label_names: table of label names, that of the settings or the cohort's own.
        truth: folder of the true deformations, where they are known.
        grid: a nominal one of all subjects, whose files the run builds.
    """

    subjects: tuple[Subject, ...]
    pairs: tuple[Pair, ...]
    left_out: dict[str, list[str]]
    dropped_pairs: tuple[Pair, ...]
    imports: dict[Path, Path] = field(default_factory=dict)
    label_names: Path | None = None
    truth: Path | None = None
    grid: Grid | None = None

    @property
    def scans(self) -> dict[str, Path]:
        """The scan of each subject as it was found, also where another file stands for it."""
        return {s.id: self.imports.get(s.image, s.image) for s in self.subjects}


def load_cohort(
    config: PipelineConfig, cache: Path | None = None, progress: Progress | None = None
) -> Cohort:
    """Find the subjects, check every file and plan the pairs, before any work.

    Pairs are planned over all subjects; with ``on_invalid: skip`` those of a faulty subject are
    dropped and no others take their place. Files that the run builds are not there yet, and are
    checked when they are built.

    Args:
        config: the run.
        cache: JSON file in which checks are remembered; None: check all files.
        progress: called after each subject with its number, how many there are, and its id.

    Raises:
        NirError: lists all faults of the cohort in one message, or says that no pair is left.
    """
    raw = RunFolder(config.output).raw
    reader, faults, unmatched = config.cohort.reader, {}, []
    found = read_subjects(config.cohort, raw)
    subjects = found.subjects
    template = Subject(TEMPLATE, config.output, config.template.labels)
    if not reader.builds:
        needs_mask = config.preprocess.skull_strip == "mask"
        demands = Demands(config.cohort.orientation, found.check_labels, True, _brain_ml(config))
        checks = CheckCache(cache, demands)
        faults = check_subjects(subjects, needs_mask, checks, progress)
        sound = [s for s in subjects if s.id not in faults]
        unmatched = _unknown_labels(config, [*sound, template], checks) if sound else []
    planned, pair_faults = plan_pairs(
        [s.id for s in subjects], config.pairs, [s.id for s in subjects if s.labels], found.pairs
    )
    pairs = tuple(p for p in planned if not faults.keys() & set(p))
    pair_faults += unmatched + _settings_faults(config)
    pair_faults += check_pairs([*subjects, template], pairs, config.guidance)
    if pair_faults or (faults and config.cohort.on_invalid == "stop"):
        raise NirError(_listing(faults, pair_faults))
    if not pairs:
        advice = "No pair is left to register once the faulty subjects are out."
        raise NirError(f"{advice}\n{_listing(faults, [])}")
    sound = [s for s in subjects if s.id not in faults]
    imports: dict[Path, Path] = {}
    if config.cohort.orientation and not reader.builds:
        sound = [_imported(s, raw, imports) for s in sound]
    return Cohort(
        subjects=tuple(sound),
        pairs=pairs,
        left_out={name: [reason] for name, reason in found.dropped.items()} | faults,
        dropped_pairs=tuple(p for p in planned if faults.keys() & set(p)),
        imports=imports,
        label_names=config.cohort.label_names or found.label_names,
        truth=found.truth,
        grid=found.grid,
    )


def _brain_ml(config: PipelineConfig) -> float | None:
    """Return the volume that a brain may have whose head is to be stripped; None: it is not."""
    method = config.preprocess.skull_strip
    if method not in ("deepbet", "template"):
        return None
    try:
        return brain_ml(config.template if method == "template" else TemplateConfig())
    except NirError:  # a fault of the settings, and told among them
        return None


def _imported(subject: Subject, folder: Path, imports: dict[Path, Path]) -> Subject:
    """Let NIfTI files, noted in ``imports``, stand for those without an orientation."""

    def made(source: Path | None, part: str) -> Path | None:
        if source is None or not lacks_orientation(open_image(source)):
            return source
        target = folder / f"{subject.id}_{part}.nii.gz"
        imports[target] = source
        return target

    image = made(subject.image, "image") or subject.image
    return replace(
        subject,
        image=image,
        labels=made(subject.labels, "dseg"),
        mask=made(subject.mask, "mask"),
        exclude=made(subject.exclude, "exclude"),
        channels=tuple(
            made(path, f"channel{number}") or path
            for number, path in enumerate(subject.channels, start=2)
        ),
    )


def _unknown_labels(
    config: PipelineConfig, subjects: Sequence[Subject], checks: CheckCache
) -> list[str]:
    """Find labels that are to be scored, or to guide, and that no label map holds."""
    maps = [subject.labels for subject in subjects if subject.labels]
    known = {0}.union(*(checks.check(path, "labels").labels for path in maps))
    asked = {
        "cohort.labels": config.cohort.labels or (),
        "guidance.structures": config.guidance.structures,
    }
    return [
        fault(
            key,
            "labels that some label map holds",
            ", ".join(str(label) for label in labels if label not in known),
            "correct or remove them" if maps else "give label maps, or remove the key",
        )
        for key, labels in asked.items()
        if not known.issuperset(labels)
    ]


def _settings_faults(config: PipelineConfig) -> list[str]:
    """Find the faults of files that the settings name beside the cohort's table."""
    faults = []
    names = config.cohort.label_names
    if names is not None and not names.exists():
        faults.append(fault(names, "a table of label names", "no such file", "correct the path"))
    elif names is not None:
        try:
            label_names(names)
        except NirError as error:
            faults.append(str(error))
    template = config.template
    if template.image is not None:
        subject = Subject(TEMPLATE, template.image, template.labels, template.mask)
        faults += file_faults(subject, True, CheckCache())
    return faults


def _listing(faults: dict[str, list[str]], pair_faults: list[str]) -> str:
    """Word all faults as one list, grouped by subject."""
    groups = {f"subject {i or '(without id)'}": lines for i, lines in faults.items()}
    if pair_faults:
        groups["the settings and pairs"] = pair_faults
    count = sum(map(len, groups.values()))
    where = f" in {len(faults)} subject(s)" if faults else ""
    text = [f"The cohort has {count} fault(s){where}:"]
    for name, lines in groups.items():
        text += [name, *(f"  - {line}" for line in lines)]
    if faults:
        text.append("Correct them, or set cohort.on_invalid to skip to leave these subjects out.")
    return "\n".join(text)
