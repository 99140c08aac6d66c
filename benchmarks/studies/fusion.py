"""What labels fused from several atlases are worth: ``python -m benchmarks.fusion``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.machine import machine
from nir.errors import NirError, fault
from nir.io.files import save_json
from nir.io.layout import RunFolder
from nir.io.tables import read_table, save_table
from nir.pipeline.settings import load_pipeline

CONFIG = Path("config/miccai2012-fusion.yaml")
RESULTS = Path("results/benchmarks/fusion")


def summary(fused: pd.DataFrame, single: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return mean and sd of the Dice of each vote, of single atlases, and of joint less majority.

    Args:
        fused: ``fusion.tsv``, a row a brain and vote.
        single: ``metrics.tsv``, a row for each brain and atlas; None: not known.
    """
    dice = fused.pivot(index="fixed", columns="vote", values="dice")
    found = {vote: dice[vote] for vote in dice}
    if {"joint", "majority"} <= set(dice):
        found["joint - majority"] = dice["joint"] - dice["majority"]
    if single is not None:
        found = {"single atlas": single["dice_after"].dropna()} | found
    rows: list[dict[str, Any]] = [
        {"labels_of": name, "n": len(x), "dice": x.mean(), "dice_sd": x.std()}
        for name, x in found.items()
    ]
    return pd.DataFrame(rows)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="What labels fused of several atlases are worth.")
    parser.add_argument("--config", type=Path, default=CONFIG, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    given = parser.parse_args(words)
    try:
        config = load_pipeline(yaml.safe_load(given.config.read_text(encoding="utf-8")))
        files = RunFolder(config.output)
        source = config.output / "fusion.tsv"
        if not source.exists():
            cure = f"run snakemake --configfile {given.config} first"
            raise NirError(fault(source, "the fused labels' scores", "none", cure))
        fused = read_table(source)
        table = summary(fused, read_table(files.metrics))
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    save_table(given.output / "fusion.tsv", fused)
    save_table(given.output / "table.tsv", table)
    save_json(given.output / "machine.json", machine(config.seed, config.threads))
    print(table.to_markdown(index=False, floatfmt=".4f"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
