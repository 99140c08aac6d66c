"""The steps of one pair, from files to files; the command line and the rules call the same ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nir.cohort.prepared import ImagePair, Prepared, load_pair
from nir.cohort.settings import NO_GUIDANCE, GuidanceConfig
from nir.engines.base import (
    ENGINES,
    Engine,
    EngineSettings,
    Job,
    Progress,
    Registration,
    pick_device,
)
from nir.errors import NirError
from nir.geometry.compiled import compiling, seconds_of
from nir.geometry.grid import Grid
from nir.geometry.image import Image
from nir.geometry.scale import scale_of
from nir.io.files import load_json, save_json
from nir.io.images import save_volume
from nir.io.layout import ResultFolder
from nir.io.tables import save_table
from nir.io.warps import load_affine, save_affine, save_displacement
from nir.pair.noise import noise_alone
from nir.pair.registered import Registered
from nir.preprocess.affine import compose_template_affines, register_affine
from nir.preprocess.settings import AffineConfig
from nir.provenance import machine, peak_mb, versions


def align(
    fixed: Prepared, moving: Prepared, config: AffineConfig, seed: int, matrix: Path, record: Path
) -> None:
    """Run the affine by ANTs and write its ITK file and what is known about it.

    Raises:
        NirError: the preprocessing of one of the two failed, or the affine does.
    """
    fixed.check()
    moving.check()
    result = register_affine(fixed.brain, moving.brain, config, seed, fixed.mask)
    content = {
        "kind": config.kind,
        "similarity_before": result.similarity_before,
        "similarity_after": result.similarity_after,
        "seconds": result.seconds,
        "seed": seed,
        "warnings": result.warnings,
    }
    save_json(record, content)
    save_affine(matrix, result.matrix_lps)


def align_through_template(
    matrices: Sequence[Path | None], records: Sequence[Path | None], matrix: Path, record: Path
) -> None:
    """Chain the affines of fixed and moving subject to the template; None: the template itself.

    Raises:
        NirError: one of them has none.
    """
    known = {path.parent.name: load_json(path) for path in records if path is not None}
    for name, record_of in known.items():
        if why := record_of.get("failed"):
            raise NirError(f"{name} was not aligned to the template: {why}")
    fixed, moving = (np.eye(4) if path is None else load_affine(path) for path in matrices)
    content = {
        "kind": "composed through the template",
        "seconds": sum(r["seconds"] for r in known.values()),
        "warnings": [
            f"{name}, to the template: {w}" for name, r in known.items() for w in r["warnings"]
        ],
    }
    save_json(record, content)
    save_affine(matrix, compose_template_affines(fixed, moving))


def register_pair(
    fixed: Prepared,
    moving: Prepared,
    matrix: Path,
    method: EngineSettings,
    folder: Path,
    *,
    seed: int,
    device: str,
    threads: int,
    guidance: GuidanceConfig = NO_GUIDANCE,
    save_field: bool = False,
    field_alone: bool = False,
    progress: Progress | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Register a pair and write both directions, the trace and ``fit.json`` (last).

    With ``save_field`` the fitted field is written as well, by an engine that has one; with
    ``field_alone`` a neural field is written instead of both directions, by any that deforms.
    """
    pair = load_pair(fixed, moving, matrix, guidance, method.card.guides)
    options: Any = {"seed": seed, "device": device, "threads": threads}
    result, record = run_engine(pair, method, **options, progress=progress, log=log)
    if field_alone and method.card.deforms:
        write_field(folder, pair, result, record, log)
        return
    write_registration(folder, result, (pair.fixed_grid, pair.moving_grid), record, save_field)


def write_registration(
    folder: Path,
    found: Registration,
    grids: tuple[Grid, Grid],
    record: dict[str, Any],
    save_field: bool,
) -> None:
    """Write both directions, the trace and ``fit.json`` (last); ``grids``: fixed and moving."""
    files = ResultFolder(folder)
    save_displacement(files.forward, found.forward, grids[0], rounded=True)
    save_displacement(files.inverse, found.inverse, grids[1], rounded=True)
    save_table(files.trace, pd.DataFrame(found.trace))
    if save_field and found.fitted:
        replace(found.fitted, provenance=record).save(files.field)
    save_json(files.fit, record)


def write_field(
    folder: Path,
    pair: ImagePair,
    found: Registration,
    record: dict[str, Any],
    log: Callable[[str], None],
) -> None:
    """Write a neural field instead of both directions, the trace and ``fit.json`` (last)."""
    from nir.pair.kept import as_field, gaps_mm  # loads PyTorch

    files = ResultFolder(folder)
    field = as_field(pair, found, record["seed"], record["length_scale"])
    gaps = gaps_mm(field, pair, found)
    missed = {"mean": float(gaps.mean()), "p99": float(np.percentile(gaps, 99))}
    log(
        f"the field that is kept leads {missed['mean']:.3f} mm from the registration on average,"
        f" and in 99 % of the brain within {missed['p99']:.3f} mm"
    )
    replace(field, provenance=record).save(files.field)
    save_table(files.trace, pd.DataFrame(found.trace))
    known = {"field_parameters": field.parameters, "field_missed_mm": missed}
    save_json(files.fit, record | known)


def run_engine(
    pair: ImagePair,
    method: EngineSettings,
    *,
    seed: int,
    device: str,
    threads: int,
    progress: Progress | None = None,
    log: Callable[[str], None] = print,
) -> tuple[Registration, dict[str, Any]]:
    """Register a pair in memory; return what the engine found, and the record of how.

    The engine sees a brain of human size (`nir.geometry.scale`): all its millimetres are those of
    a human brain.
    """
    engine = method.card
    chosen = pick_device(device if engine.on_gpu else "cpu")
    start = time.perf_counter()
    scale = scale_of(pair.fixed_mask, pair.fixed_grid)
    if scale != 1:
        log(f"the fixed brain is small: a millimetre of the settings is {scale:.3g} mm of it")
    job = Job(seed, chosen, threads, progress, log)
    with compiling() as compilation:
        result = engine.register(pair.scaled(1 / scale), job).scaled(scale)
    elapsed = time.perf_counter() - start
    compiled = seconds_of(compilation)
    for u_lps, grid in ((result.forward, pair.fixed_grid), (result.inverse, pair.moving_grid)):
        if u_lps.shape != (*grid.shape, 3):
            raise NirError(
                f"the engine '{method.engine}' returned displacements of shape {u_lps.shape},"
                f" expected {(*grid.shape, 3)}; report this to those who made it"
            )
        if broken := u_lps.size - np.count_nonzero(np.isfinite(u_lps)):
            raise NirError(
                f"the engine '{method.engine}' returned displacements with {broken} number(s) that"
                " are NaN or infinite, expected none; look at both images, or choose other settings"
            )
    seconds = result.seconds | {"compiling": compiled, "registration": elapsed - compiled}
    start = time.perf_counter()
    noise = _noise(pair, result, engine, job, scale)
    seconds["noise"] = time.perf_counter() - start
    record = {
        "method": method.name,
        "engine": method.engine,
        "settings": method.own_settings,
        "length_scale": scale,
        "guides": engine.guided_by(pair),
        "seed": seed,
        "device": chosen,
        "threads": threads,
        "versions": versions(engine.libraries),
        "machine": machine(),
        "repaired_folds": result.repaired,
        "field_parameters": result.fitted.parameters if result.fitted else None,
        "noise": noise,
        "seconds": seconds,
        "peak_mb": peak_mb(chosen),
    }
    return result, record


def _noise(
    pair: ImagePair, found: Registration, engine: Engine, job: Job, scale: float
) -> dict[str, float]:
    """Measure what noise alone would move, where a part of the brain tells it."""
    if not (engine.deforms and engine.local()):
        return {}
    quiet = replace(job, progress=None, log=lambda line: None)

    def register(part: ImagePair) -> Registration:
        return engine.register(part.scaled(1 / scale), quiet).scaled(scale)

    try:
        return noise_alone(pair, found, register, job.seed, scale)
    except NirError as error:
        job.log(f"what noise alone would move is not known, as no part can be registered: {error}")
        return {}


def warp_pair(pair: Registered, scan: Image, folder: Path) -> None:
    """Write the moving scan and labels, warped, and det J; a scan of labels is not mixed."""
    files = ResultFolder(folder)
    mode = "nearest" if scan.is_label_map else "linear"
    save_volume(files.warped, pair.warp(scan, mode), pair.grid)
    if pair.moving.labels is not None:
        save_volume(files.warped_labels, pair.warped_labels, pair.grid)
    else:  # of an earlier run, whose moving subject had labels
        files.warped_labels.unlink(missing_ok=True)
    save_volume(files.jacobian, pair.jacobian, pair.grid)


def draw_pair(pair: Registered, folder: Path) -> None:
    """Draw the pictures of a pair that was registered into a folder, into its ``figures/``."""
    from nir.report.figures.pair import LOSSES, draw_images, draw_losses  # loads matplotlib

    files = ResultFolder(folder)
    draw_images(pair.pictured, files.figures)
    settings = load_json(files.fit)["settings"]
    if titles := ENGINES[settings["engine"]].stages(settings):
        trace = pd.read_csv(files.trace, sep="\t")
        draw_losses(trace, titles, files.figures / LOSSES)
