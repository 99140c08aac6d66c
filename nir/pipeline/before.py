"""What is measured on a pair after its affine alone: once, for all of its methods."""

from __future__ import annotations

from dataclasses import asdict

from nir.cohort.prepared import Prepared
from nir.io.files import save_json
from nir.io.layout import PairFolder
from nir.pair.evaluate import Before, Options, measure_affine
from nir.pair.registered import Registered
from nir.pipeline.made import Source, fingerprint, read_record
from nir.quality.columns import MEASURES


def before_of(
    pair: Registered, options: Options, files: PairFolder, fixed: Prepared, moving: Prepared
) -> Before:
    """Return what is known of a pair, or measure it and keep it in its folder.

    Two jobs that come at once both measure, and keep the same.
    """
    settings = {
        "labels": options.include and sorted(set(options.include)),
        "labels left out": sorted(set(options.exclude)),
        "interpolation": pair.interpolation,
        "keypoints": None if pair.keypoints is None else pair.keypoints.tolist(),
        "measures": [name for name, _ in MEASURES.sound()],
    }
    read = [path for side in (fixed, moving) for path in (side.brain, side.mask, side.labels)]
    key = fingerprint(Source(settings, [files.affine, *read, options.truth]).record())
    known = read_record(files.before)
    if known.get("key") == key:
        return Before.from_json(known)
    before = measure_affine(pair, options)
    save_json(files.before, {"key": key, **asdict(before)})
    return before
