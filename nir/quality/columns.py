"""What each column of the tables of results means, and how its rows are named."""

from __future__ import annotations

import pandas as pd

from nir.errors import NirError
from nir.io.tables import WARNINGS_JOIN, Column
from nir.quality.measures.base import MEAN_SD, THEMES, Measure, Quantity
from nir.registry import Registry

MEASURES: Registry[Measure] = Registry(
    "measure", "nir.quality.measures", "MEASURE", "nir.measures", Measure
)

ORDER = (
    *("dice", "hd95", "tre", "regularity", "displacement", "inverse_consistency", "similarity"),
    *("brain_overlap", "affine", "field_of_view", "outliers", "labels_outside", "labels_lost"),
    *("noise", "truth_error"),
)
"""Of the measures in the tables of pairs; others follow."""

REGISTRATION = {
    "fixed": Column("Fixed subject", "Subject whose grid the moving image is brought to"),
    "moving": Column("Moving subject", "Subject that is warped"),
    "method": Column("Method", "Name of the method in the configuration"),
    "engine": Column("Engine", "The engine that registers"),
}

COST = {
    "seconds_registration": Quantity(
        "Time",
        "Wall time of the registration, all phases and both directions, without the affine and"
        " without the compilation of kernels, for which the first one on a machine waits",
        "s",
        theme="cost",
        digits=1,
        better=-1,
        told=MEAN_SD,
        axis="time a pair, s",
        listed=True,
        compared=True,
    ),
    "seconds_affine": Quantity(
        "Time, affine",
        "Wall time of the affine",
        "s",
        theme="cost",
        digits=1,
        better=-1,
        told=("mean",),
    ),
    "seconds_total": Quantity(
        "Time, both",
        "The sum of both, which ranks the methods",
        "s",
        theme="cost",
        digits=1,
        better=-1,
        filed=MEAN_SD,
        ranked=True,
    ),
    "peak_mb": Quantity(
        "Peak memory",
        "Largest resident memory of the process",
        "MB",
        theme="cost",
        digits=0,
        better=-1,
        told=("max",),
    ),
}

RUN = {
    "seed": Column("Seed", "Seed of the random numbers"),
    "device": Column("Device", "Device that computed the fit"),
    "threads": Column("Threads", "Threads of the registration"),
    "length_scale": Column(
        "Length scale",
        "Length of a millimetre of the settings in the fixed brain, where that is smaller than any"
        " human one; else 1",
        "1",
    ),
    "labels_scored": Column(
        "Labels scored", "Number of labels that enter the means: those that both images have", "1"
    ),
    "warnings": Column("Warnings", f"Sentences, joined by '{WARNINGS_JOIN}'"),
}


def _measured() -> dict[str, Quantity]:
    """Return the columns of all measures; one that another has already is refused."""
    found: dict[str, Quantity] = {}
    known = dict(MEASURES.sound())
    for measure in (*ORDER, *(name for name in known if name not in ORDER)):
        for name, column in known[measure].columns.items():
            if name in found:
                raise NirError(
                    f"the measure '{measure}' has a column '{name}', as another one has; remove or"
                    " update the package that brings it"
                )
            found[name] = column
    return found


MEASURED: dict[str, Quantity] = _measured()
"""What is measured on a registration."""

METRICS = list(MEASURED)

COLUMNS: dict[str, Column] = {**REGISTRATION, **MEASURED, **COST, **RUN}

QUANTITIES: dict[str, Quantity] = dict(
    sorted({**MEASURED, **COST}.items(), key=lambda item: THEMES.index(item[1].theme))
)
"""What tables and plots for readers choose from, in their order."""

PER_LABEL: dict[str, Column] = {
    name: Column(column.title, column.of_label, column.unit)
    for name, column in MEASURED.items()
    if column.of_label
} | {
    "index": Column("Label", "Value of the label in the label map"),
    "name": Column("Structure", "Name of the label"),
    "voxels_fixed": Column("Voxels, fixed", "Voxels of the label in the fixed image", "1"),
    "voxels_moving": Column("Voxels, moving", "Voxels of the label in the moving image", "1"),
}

KEYS = ["fixed", "moving", "method"]

Key = tuple[str, str, str]
"""Fixed, moving and method: one registration."""


def quantity(name: str) -> Quantity:
    """Return what is known of a column of numbers; one that nobody described has its own name."""
    return QUANTITIES.get(name, Quantity(name.replace("_", " "), ""))


def keys_of(table: pd.DataFrame) -> list[Key]:
    """Return fixed, moving and method of each row."""
    return list(table[KEYS].itertuples(index=False, name=None))


def method_order(metrics: pd.DataFrame) -> list[str]:
    """Methods in the order of the table."""
    return list(dict.fromkeys(metrics["method"]))


def structure_names(labels: pd.DataFrame) -> pd.Series:
    """Name of each row's structure, its index where it has no name; equal names get the index."""
    index = labels["index"].astype(int).astype(str)
    named = labels["name"].where(labels["name"].notna(), index)
    count = labels.assign(named=named).groupby("named")["index"].transform("nunique")
    return named.where(count == 1, named + " (" + index + ")")
