"""The paper's numbers as records with a meaning."""

import pytest

from brats_jax.reporting.paper.printed_numbers import printed_numbers
from brats_jax.reporting.paper.printed_tables import TABLES

NUMBERS = list(printed_numbers())
# Numbers with a decimal point in each table.
COUNTS = {
    "1": 3, "2": 0, "3": 16, "4": 16, "5": 16, "6": 24, "A1": 15, "A2": 80, "A3": 80, "A4": 80,
}  # fmt: skip


def test_no_two_numbers_of_a_table_have_the_same_meaning():
    for table, count in COUNTS.items():
        meanings = [n.meaning for n in NUMBERS if n.table == table]
        assert len(meanings) == len(set(meanings)) == count
    assert len([n for n in NUMBERS if n.table == "text"]) == 12
    for n in NUMBERS:
        assert TABLES[n.table].rows[n.row][n.column] == n.printed


@pytest.mark.parametrize(
    ("meaning", "printed"),
    [
        (("dice", "ED", "dice_ce", False, 5), ["0.33"]),
        (("asd_mm", "NCR/NET", "dice_ce", True, 4), ["37.610", "37.610"]),
        (("asd_mm", "ED", "dice_ce", False, None), ["2.70"]),
        (("asd_mm", "background", "dice_focal", True, None), ["0.540"]),
        (("dice", "ET", "dice_ce", False, None), ["0.198", "0.190"]),
        (("dice", "ED", "dice_focal", False, None), ["0.322", "0.323", "0.3228"]),
        (("dice", "mean foreground", "focal", True, None), ["0.230", "0.2305"]),
        (("asd_mm", "ED", "focal", False, None), ["4.280", "4.28"]),
        (("psnr_db", "", "", None, 3), ["29.290"]),
        (("mse", "", "", None, None), ["0.038", "0.0381"]),
        (("dice", "ET", "focal", False, 5), ["0.191"]),
        (("asd_mm", "ET", "dice_focal", False, 1), ["1.830"]),
    ],
)
def test_some_numbers_by_meaning(meaning, printed):
    assert [n.printed for n in NUMBERS if n.meaning == meaning] == printed
