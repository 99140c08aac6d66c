"""One method on one pair, alone in its process: ``python -m benchmarks.cell SPEC.json``.

Only the way from two images in memory to both transforms is timed. Reading, imports, compilation
at first use, and measuring are not.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.heads import tiny_pair
from benchmarks.measures import MEASURES
from benchmarks.timing import Timing, timed

from benchmarks.rivals.base import BOTH
from nir.cohort.prepared import ImagePair, Prepared, load_pair
from nir.engines.base import ENGINES, Job, Registration, make_method, pick_device
from nir.errors import NirError
from nir.field.fitted import FittedField
from nir.geometry.kernels import set_threads
from nir.geometry.maps import Affine, DisplacementField
from nir.io.files import load_json, save_json
from nir.io.layout import FIELD
from nir.io.warps import round_displacement
from nir.pair.evaluate import Measured, Options, measure_pair
from nir.pair.kept import gaps_mm
from nir.pair.registered import Registered, Side

NOT_FIT = ("transforms", "inverse")  # parts of Registration.seconds that are no forward fit

APART_MM = 0.02  # a sample further off its field than that does not agree with it

Run = Callable[[ImagePair], Registration]


def engine_call(spec: dict[str, Any], device: str, quick: bool = False) -> Run:
    """Return the registration that a cell's specification asks for.

    Args:
        quick: two steps a phase only: enough for all that happens once in a process.
    """
    settings = dict(spec["settings"])
    if quick and "set" in ENGINES[spec["engine"]].Settings.model_fields:
        settings["set"] = settings.get("set", {}) | {"steps": 2}
    card, job = make_method(settings).card, Job(spec["seed"], device, spec["threads"])
    return lambda pair: card.register(pair, job)


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Run a cell's registration and measure it; return its record, ready for JSON."""
    set_threads(spec["threads"])
    device = pick_device(spec["device"])
    fixed, moving = (Prepared.from_json(spec[role]) for role in ("fixed", "moving"))
    startup = None
    on_gpu = ENGINES[spec["engine"]].on_gpu
    if on_gpu:  # such an engine loads and compiles at its first registration, on a CPU, too
        _, warm = timed(lambda: engine_call(spec, device, quick=True)(tiny_pair()), device)
        startup = warm.seconds
    pair, run = load_pair(fixed, moving, Path(spec["matrix"])), engine_call(spec, device)
    result, timing = timed(lambda: run(pair), device)
    truth = Path(spec["truth"]) if spec["truth"] else None
    options = Options(spec["labels"], tuple(spec["labels_exclude"]), truth=truth)
    found = evaluate(result, pair, fixed, moving, options)
    fitting = sum(v for part, v in result.seconds.items() if part not in NOT_FIT)
    return {
        "seconds": timing.seconds,
        "forward_s": fitting if fitting and BOTH not in result.seconds else None,
        "startup_s": startup,
        "parts_s": result.seconds,
        **_resources(timing),
        **_field(result, pair),
        "device": device if on_gpu else "cpu",
        **{name: found.metrics.get(m.metric) for name, m in MEASURES.items() if m.metric},
        "labels_scored": len(found.labels_scored),
    }


def _resources(timing: Timing) -> dict[str, float | None]:
    return {
        "busy_elsewhere": timing.busy_elsewhere,
        "peak_mb": timing.peak_mb,
        "gpu_mb": timing.gpu_mb,
    }


def _field(result: Registration, pair: ImagePair) -> dict[str, float]:
    """Measure the file of the field that was fitted, and how far the samples of its map lie off."""
    if result.fitted is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FIELD
        result.fitted.save(path)
        megabytes, field = path.stat().st_size / 1e6, FittedField.load(path)
    gap_mm = gaps_mm(field, pair, result)
    return {
        "repaired": float(result.repaired),
        "field_mb": megabytes,
        "field_apart_mm": float(gap_mm.mean()),
        "field_apart_percent": 100 * float((gap_mm > APART_MM).mean()),
    }


def evaluate(
    result: Registration, pair: ImagePair, fixed: Prepared, moving: Prepared, options: Options
) -> Measured:
    """Measure a result, rounded as it would be written, by what measures all methods."""
    registered = Registered(
        Side.read(fixed),
        Side.read(moving),
        Affine(pair.affine_lps),
        *(
            DisplacementField(round_displacement(u_lps, grid), grid)
            for u_lps, grid in (
                (result.forward, pair.fixed_grid),
                (result.inverse, pair.moving_grid),
            )
        ),
    )
    return measure_pair(registered, options)


if __name__ == "__main__":
    given = load_json(sys.argv[1])
    try:
        save_json(given["answer"], measure(given))
    except NirError as error:
        sys.exit(f"nir: {error}")
