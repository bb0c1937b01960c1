"""The paper's tables: counts and sums read from its text by a program."""

from decimal import Decimal

import pytest

from brats_jax.data import modalities
from brats_jax.losses import SEGMENTATION_LOSSES
from brats_jax.reporting.paper.printed_tables import CLASSES, LOSSES, SSL, TABLES

# Read from the paper's text by a program, in reading order v1, v2, ...: the count of numbers
# with a decimal point, their sum, and 1 v1 + 2 v2 + ..., which changes if two are swapped.
READ_BY_MACHINE = {
    "1": (3, "30.724", "62.326"),
    "2": (0, "0", "0"),
    "3": (16, "18.817", "213.481"),
    "4": (16, "17.852", "196.033"),
    "5": (16, "24.232", "274.281"),
    "6": (24, "5.622", "70.443"),
    "A1": (15, "153.633", "1231.076"),
    "A2": (80, "94.124", "3613.564"),
    "A3": (80, "89.000", "3532.331"),
    "A4": (80, "121.107", "5908.662"),
}


@pytest.mark.parametrize("table", READ_BY_MACHINE)
def test_the_typed_numbers_have_the_sums_of_the_paper(table):
    values = [Decimal(c) for row in TABLES[table].rows for c in row if c.replace(".", "").isdigit()]
    if table.startswith("A"):
        values = [v for v in values if v != v.to_integral() or v.as_tuple().exponent < 0]
    weighted = sum(i * value for i, value in enumerate(values, start=1))
    count, total, weighted_total = READ_BY_MACHINE[table]
    assert len(values) == count
    assert sum(values) == Decimal(total)
    assert weighted == Decimal(weighted_total)


def test_every_row_has_a_cell_for_each_column():
    for table in TABLES.values():
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert [len(table.rows) for table in TABLES.values()] == [3, 6, 8, 8, 8, 6, 5, 10, 10, 10, 8]


def test_classes_and_losses_have_the_names_of_the_package():
    assert modalities.CLASSES == CLASSES
    assert set(LOSSES) == set(SEGMENTATION_LOSSES)


def test_baseline_and_ssl_rows_are_distinguished():
    assert {row[0] for row in TABLES["A2"].rows} == {"Baseline", SSL}
    assert TABLES["A4"].rows[8][5] == "0.199" and TABLES["A4"].rows[8][0] == SSL
    assert TABLES["6"].rows[4][1:5] == ("Fully Supervised (No SSL)", "0.188", "0.330", "0.190")
