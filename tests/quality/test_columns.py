"""What the columns of results say of themselves, and that tables and pages ask them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from helpers.pages import page, tables
from helpers.toys.nir_toys import measure as newness

from nir.io.tables import Column
from nir.quality.columns import COLUMNS, MEASURED, MEASURES, ORDER, QUANTITIES, quantity
from nir.quality.measures.base import HIGH, LOW, MEAN_SD, THEMES
from nir.quality.ranking import RANKED
from nir.quality.stats import COMPARED


def test_every_measure_has_its_place_and_no_column_is_told_twice() -> None:
    assert sorted(ORDER) == sorted(MEASURES.names)
    names = [name for measure in MEASURES.names for name in MEASURES[measure].columns]
    assert sorted(names) == sorted(MEASURED)
    assert set(QUANTITIES) < set(COLUMNS)


def test_what_methods_are_compared_in_knows_its_better_side() -> None:
    for name in {*COMPARED, *RANKED} - {"dice_30"}:
        assert QUANTITIES[name].better in (-1, 1)


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_column_is_told_in_known_words(name: str) -> None:
    column = QUANTITIES[name]
    assert column.theme in THEMES
    assert set(column.statistics) <= {*MEAN_SD, "min", "max", LOW, HIGH}


def test_a_unit_is_written_as_a_sign() -> None:
    assert Column("Folds", "", "percent").name == "Folds, %"
    assert Column("Dice", "", "1").name == "Dice"
    assert Column("HD95", "", "mm").name == "HD95, mm"


def test_a_column_that_nobody_described_has_its_own_name() -> None:
    assert quantity("unheard_of").name == "unheard of"


def test_a_new_measure_is_told_by_tables_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUANTITIES, "new_mm", newness.COLUMNS["new_mm"])
    metrics, labels = tables(tmp_path)
    text = page(tmp_path, metrics.assign(new_mm=0.123), labels)
    assert text.count('<th scope="col">Newness, mm</th>') == 1  # mean and deviation
    assert '<th scope="col" data-sort="number">Newness, mm</th>' in text
    assert '<th scope="col">Newness, max, mm</th>' in text
    assert "<td>0.1</td>" in text
    assert ">Newness by method<" in text
    assert (tmp_path / "figures" / "new-mm.svg").exists()
    methods = pd.read_csv(tmp_path / "methods.tsv", sep="\t")
    assert list(methods["new_mm_max"]) == [0.123] * 3
