"""The patients with the lowest Dice."""

import pytest

from brats_jax.reporting.arms import Arm, Results
from brats_jax.reporting.tables.worst_cases import dice, worst_case_table, worst_cases


class OneModel:
    """An evaluation with the voxel counts of one patient."""

    def __init__(self, **counts):
        self.voxel_counts = {("A", of): c for of, c in counts.items()}


def errors_of(*models):
    arm = Arm("focal", 1.0, "", "", False)
    return worst_cases(Results({arm: list(models)}), 1)[0]


def test_dice_by_hand():
    assert dice(tp=4, fp=2, fn=2) == pytest.approx(8 / 12)
    assert dice(0, 0, 0) == 1 and dice(0, 3, 0) == 0


@pytest.mark.parametrize(
    ("counts", "error"),
    [
        ((0, 0, 5), "ET missed"),
        ((0, 5, 0), "ET invented"),
        ((2, 0, 3), "ET: less than half found"),
        ((2, 3, 0), "ET: more than half of it wrong"),
    ],
)
def test_an_error_is_named_by_its_kind(counts, error):
    assert errors_of(OneModel(ET=counts)).errors == f"{error} (1 of 1)"


def test_the_most_frequent_error_comes_first():
    case = errors_of(OneModel(WT=(5, 0, 0), ET=(0, 0, 5)), OneModel(WT=(2, 0, 3), ET=(0, 0, 5)))
    assert case.errors == "ET missed (2 of 2); WT: less than half found (1 of 2)"
    assert errors_of(OneModel(WT=(5, 0, 0))).errors == "no large error"


def test_patients_are_ordered_by_their_mean_dice(results):
    cases = worst_cases(results, 10)
    assert [case.patient for case in cases] != [] and len(cases) == 4
    assert [c.overall for c in cases] == sorted(c.overall for c in cases)
    table = worst_case_table(results, count=2)
    assert [row[0].text for row in table.rows] == [case.patient for case in cases[:2]]
    assert "over the patient's volume" in table.caption
