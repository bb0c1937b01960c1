"""Cells of means over trainings."""

import math

from brats_jax.reporting.tables.average_cells import absence_cells, average_cell

KEY = ("patient", "volumes", "ET", "asd_mm", "both_present")


class Evaluated:
    """An evaluation of eight patients."""

    def __init__(self, fold, asd, count):
        self.fold, self.seed = fold, 0
        self.rows = {(*KEY[:3], "dice", "brats2020"): (0.5, 8), KEY: (asd, count)}
        self.rows[*KEY[:3], "missed", "truth_present"] = (0.25, 4)
        self.rows[*KEY[:3], "invented", "truth_empty"] = (0.0, 4)


def test_a_cell_shows_the_units_and_names_the_trainings_left_out():
    cell = average_cell([Evaluated(0, math.nan, 0), Evaluated(1, 45.3, 4)], KEY, 2)
    assert (cell.text, cell.counted, cell.trainings) == ("45.30", "0 to 4 of 8", (1, 2))
    assert cell.notes == ("Mean over 1 of 2 trainings: no value in fold 0.",)


def test_a_mean_that_no_training_has_shows_its_count():
    cell = average_cell([Evaluated(0, math.nan, 0)], KEY, 2)
    assert (cell.text, cell.counted, cell.notes) == ("–", "0 of 8", ())


def test_a_count_may_be_shown_only_where_units_are_left_out():
    whole, some = Evaluated(0, 1.0, 8), Evaluated(0, 1.0, 5)
    assert average_cell([whole], KEY, 2, counted=False).counted == ""
    assert average_cell([some], KEY, 2, counted=False).counted == "5 of 8"


def test_misses_and_inventions_have_a_cell_each():
    cells = absence_cells([Evaluated(0, 1.0, 3), Evaluated(1, 1.0, 3)], KEY)
    assert [cell.text for cell in cells] == ["2 of 8", "0 of 8"]
    old = Evaluated(0, 1.0, 3)
    old.rows = {}
    assert [cell.text for cell in absence_cells([old], KEY)] == ["–", "–"]
