"""The columns of one model minus another."""

from brats_jax.reporting.paired_trainings import compare_trainings
from brats_jax.reporting.tables.paired_cells import (
    NO_INTERVAL,
    holm_note,
    interval_cells,
    intervals_note,
    paired_cells,
    paired_columns,
)


def test_cells_stand_under_their_columns():
    a = {f"P{k}": {(0, 0): 0.5 + 0.1 * k} for k in range(4)}
    b = {name: {(0, 0): values[0, 0] - 0.25} for name, values in a.items()}
    result = compare_trainings(a, b, [(0, 0)])
    cells = paired_cells(result, 0.5, "no difference found", strong=False, digits=2)
    names = [column.name for column in paired_columns("new", "old", "Mean", "Gain")]
    row = dict(zip(names, (cell.text for cell in cells), strict=True))
    assert (row["n patients"], row["Trainings"]) == ("4", "1")
    assert (row["Mean new"], row["Mean old"], row["Gain mean"]) == ("0.65", "0.40", "+0.25")
    assert row["Found"] == "no difference found, for this training only"
    few = paired_cells(result, 0.5, "too few patients", strong=False, digits=2)
    assert few[-1].text == "too few patients"


def test_an_interval_of_too_few_patients_is_left_out():
    def result_of(patients):
        a = {f"P{k}": {(0, 0): 0.5 + 0.1 * k} for k in range(patients)}
        b = {name: {(0, 0): 0.1} for name in a}
        return compare_trainings(a, b, [(0, 0)])

    four, six = result_of(4), result_of(6)
    assert four.low > 0  # it would read as a difference
    assert [(c.text, c.exact, c.notes) for c in interval_cells(four, 2)] == [
        ("–", "", (NO_INTERVAL,))
    ] * 2
    assert [c.notes for c in interval_cells(six, 2)] == [(), ()]
    assert interval_cells(six, 2)[0].value == six.low
    assert intervals_note([four, four]) == ""
    assert intervals_note([four, six]).startswith("Intervals of 95 %")


def test_one_test_is_not_corrected():
    assert holm_note(3) == "Holm\u2019s correction over these 3."
    assert holm_note(1) == "One test: no correction."
