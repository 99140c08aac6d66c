"""What a batch of pairs does in each stage: affine, register, evaluate.

A plan looks at the items of each job, too, so only their work loads heavy libraries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nir.cohort.prepared import Prepared
from nir.cohort.settings import GuidanceConfig
from nir.engines.base import EngineSettings, recall
from nir.io.layout import PairFolder, ResultFolder, pair_name
from nir.io.sheets import label_names as read_label_names
from nir.pipeline.batch import Item, keep, known
from nir.pipeline.made import Source, fingerprint, read_record
from nir.preprocess.settings import AffineConfig

VOLUMES = (ResultFolder.warped, ResultFolder.warped_labels, ResultFolder.jacobian)

WARPS = (ResultFolder.forward, ResultFolder.inverse)

Work = Iterator[Item | tuple[str, str]]


@dataclass(frozen=True)
class Batch:
    """Some pairs and where their files are.

    Args:
        pairs: (fixed, moving).
        brains: files of each subject in them, by id.
        root: folder of all pairs' results.
        failed: of the stage before: name of the pair to the reason.
    """

    pairs: Sequence[tuple[str, str]]
    brains: Mapping[str, Prepared]
    root: Path
    failed: Mapping[str, str]

    @classmethod
    def of(cls, params: Any, before: str | None = None) -> Batch:
        """Build from a rule's parameters and the marker of the stage before."""
        content = params.batch
        brains = {name: Prepared.from_json(files) for name, files in content["brains"].items()}
        pairs = [(fixed, moving) for fixed, moving in content["pairs"]]
        failed = read_record(Path(before)).get("failed", {}) if before else {}
        return cls(pairs, brains, Path(content["root"]), failed)

    def folder(self, fixed: str, moving: str) -> PairFolder:
        """Return the folder of a pair."""
        return PairFolder(self.root / pair_name(fixed, moving))


def items_of(job: Any) -> Work:
    """Build the items of a batch's job: one in a plan, or the one whose script runs."""
    stage, params, files = Path(job.output.marker).stem, job.params, job.input
    if stage == "affine":
        config = AffineConfig(**params.settings)
        return affine_items(Batch.of(params), config, params.seed, params.through)
    batch = Batch.of(params, files.register if stage == "evaluate" else files.affine)
    fits = fits_of(batch, params, job.threads)
    if stage == "register":
        return fits
    return evaluate_items(
        batch,
        fits,
        include=params.include,
        exclude=params.exclude,
        guidance=GuidanceConfig(**params.guidance),
        interpolation=params.interpolation,
        label_names=Path(files.label_names[0]) if files.label_names else None,
        truth=Path(files.truth[0]) if files.truth else None,
        kept=params.keep,
    )


def affine_items(
    batch: Batch,
    config: AffineConfig,
    seed: int,
    through: Mapping[str, Sequence[str]] | None = None,
) -> Work:
    """Align each pair; ``through`` has each subject's affine to the template and its record."""
    for fixed, moving in batch.pairs:
        folder = batch.folder(fixed, moving)
        matrix, record = folder.affine, folder.affine_record
        one, other = batch.brains[fixed], batch.brains[moving]
        if through is None:
            work = partial(_align, one, other, config, seed, matrix, record)
            files: list[Path | None] = [one.brain, one.mask, other.brain, other.mask]
        else:
            steps = [through.get(name) for name in (fixed, moving)]
            matrices, records = ([Path(k[n]) if k else None for k in steps] for n in (0, 1))
            work = partial(_align_through_template, matrices, records, matrix, record)
            files = [*matrices, *records]
        source = Source({"settings": config.model_dump(mode="json"), "seed": seed}, files)
        yield Item(pair_name(fixed, moving), "affine", folder.path, source, (matrix, record), work)


def _align(*words: Any) -> None:
    from nir.pair.steps import align

    align(*words)


def _align_through_template(*words: Any) -> None:
    from nir.pair.steps import align_through_template

    align_through_template(*words)


def register_items(
    batch: Batch,
    method: EngineSettings,
    *,
    guidance: GuidanceConfig,
    seed: int,
    device: str,
    threads: int,
    kept: str,
    field: bool,
) -> Work:
    """Register each pair by one method; ``guidance`` is what the engine takes."""
    settings = {"settings": method.acting, "guidance": guidance.model_dump(mode="json")}
    for fixed, moving in batch.pairs:
        name = pair_name(fixed, moving)
        if name in batch.failed:
            yield name, batch.failed[name]
            continue
        folder = batch.folder(fixed, moving)
        one, other = batch.brains[fixed], batch.brains[moving]
        own = folder.results(method.name)
        work = partial(
            _register,
            one,
            other,
            folder.affine,
            method,
            own.path,
            seed=seed,
            device=device,
            threads=threads,
            guidance=guidance,
            save_field=field,
            field_alone=kept == "fields",
            progress=_tell,
        )
        content = settings | {"seed": seed, "device": device}
        read = [path for brain in (one, other) for path in _made_from(brain)]
        files = [own.fit, own.trace]
        if kept == "fields":
            files += [own.field] if method.card.deforms else []
        elif kept != "metrics":
            files += [own.forward, own.inverse]
            files += [own.field] if field and method.card.writes_field else []
        source = Source(content, [folder.affine, *read])
        fleeting = [file for file in (own.forward, own.inverse, own.field) if file not in files]
        yield Item(name, "register", own.path, source, files, work, fleeting)


def _register(*words: Any, **options: Any) -> None:
    from nir.pair.steps import register_pair

    register_pair(*words, **options)


def _made_from(brain: Prepared) -> list[Path | None]:
    """List the files of a brain that a fit may look at."""
    guides = (brain.labels, brain.keypoints, brain.exclude)
    return [brain.brain, brain.mask, *guides, *brain.channels]


def fits_of(batch: Batch, params: Any, threads: int) -> Work:
    """Build the items of a batch's registrations from a rule's parameters."""
    return register_items(
        batch,
        recall(params.method),
        guidance=GuidanceConfig(**params.guidance),
        seed=params.seed,
        device=params.device,
        threads=threads,
        kept=params.keep,
        field=params.field,
    )


def evaluate_items(
    batch: Batch,
    fits: Work,
    *,
    include: tuple[int, ...] | None,
    exclude: tuple[int, ...],
    guidance: GuidanceConfig,
    interpolation: str,
    label_names: Path | None,
    truth: Path | None,
    kept: str,
) -> Work:
    """Warp, measure and draw each pair that was registered.

    Args:
        fits: `register_items` of the same batch: transforms that were not kept are made again.
        kept: ``all``, ``transforms``, ``fields`` or ``metrics``.
    """
    evaluate = partial(
        _evaluate,
        include=include,
        exclude=exclude,
        guidance=guidance,
        interpolation=interpolation,
        label_names=label_names,
        truth=truth,
        kept=kept,
    )
    settings = {
        "labels": include and sorted(set(include)),
        "labels left out": sorted(set(exclude)),
        "interpolation": interpolation,
        "keep": kept,
        "share of guiding keypoints": guidance.keypoints,
    }
    for (fixed, moving), fit in zip(batch.pairs, fits, strict=True):
        if isinstance(fit, tuple):
            yield fit
            continue
        one, other = batch.brains[fixed], batch.brains[moving]
        own = ResultFolder(fit.folder)
        content = settings | {"registration": fingerprint(known(own.path, "register"))}
        files = [f for b in (one, other) for f in (b.image, b.labels, b.keypoints)]
        made = [own.result, own.labels, own.figures]
        if kept == "all":
            made += [own.warped, own.jacobian, *([own.warped_labels] if other.labels else [])]
        source = Source(content, [*files, label_names, truth])
        work = partial(evaluate, fit, one, other)
        yield Item(fit.name, "evaluate", own.path, source, made, work)


def _evaluate(
    fit: Item,
    fixed: Prepared,
    moving: Prepared,
    *,
    include: tuple[int, ...] | None,
    exclude: tuple[int, ...],
    guidance: GuidanceConfig,
    interpolation: str,
    label_names: Path | None,
    truth: Path | None,
    kept: str,
) -> None:
    """Evaluate a pair, fitted again if its transforms were not kept."""
    from nir.pair.evaluate import Options, evaluate_pair
    from nir.pair.registered import Registered
    from nir.pair.steps import draw_pair, warp_pair
    from nir.pipeline.before import before_of

    folder, files = fit.folder, PairFolder(fit.folder.parent)
    own = ResultFolder(folder)
    if own.field in fit.outputs and kept == "fields":
        tidy(folder, kept)  # warps of an earlier run would be read
    elif not own.forward.exists() or not own.inverse.exists():
        fit.work()
        # it is the same fit, though here it is given what it does not look at, too
        keep(fit, known(folder, "register") or fit.source.record())
    pair = Registered.read(
        fixed, moving, files.affine, folder, guidance=guidance, interpolation=interpolation
    )
    warp_pair(pair, moving.scan(), folder)
    names = read_label_names(label_names) if label_names else {}
    options = Options(include, exclude, names, truth)
    before = before_of(pair, options, files, fixed, moving)
    evaluate_pair(pair, files.affine_record, folder, options, before)
    draw_pair(pair, folder)
    tidy(folder, kept)


def tidy(folder: Path, kept: str) -> None:
    """Remove what a level of ``keep`` leaves out."""
    gone = {
        "all": (),
        "transforms": VOLUMES,
        "fields": (*VOLUMES, *WARPS),
        "metrics": (*VOLUMES, *WARPS, ResultFolder.field),
    }
    for file in gone[kept]:
        (folder / file.name).unlink(missing_ok=True)


def _tell(phase: int, step: int, loss: float) -> None:
    print(f"phase {phase} step {step} loss {loss:.5f}")
