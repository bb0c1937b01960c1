"""Dice under every convention, and the ceiling of the paper's."""

import pytest

from brats_jax.reporting.tables.convention_tables import best, ceiling_table, convention_tables


def test_the_ceiling_is_the_share_of_slices_that_hold_the_region(results):
    rows = {row[0].text: row for row in ceiling_table(results).rows}
    # Four patients of six slices: ED in 4 of 6, NCR/NET in 3 of 6, ET in 2 of 6 but not in the
    # first patient.
    assert rows["ED"][1].value == pytest.approx(4 / 6)
    assert rows["NCR/NET"][1].value == pytest.approx(3 / 6)
    assert rows["ET"][1].value == pytest.approx(3 * 2 / (4 * 6))
    assert rows["ED"][1].count == 24


def test_no_arm_exceeds_the_ceiling_under_the_papers_convention(results):
    for row in ceiling_table(results).rows:
        assert row[2].value <= row[1].value + 1e-9


def test_the_best_arm_has_the_largest_mean(results):
    key = ("slice", "all slices", "ED", "dice", "paper")
    means = [one.rows[key][0] for group in results.arms.values() for one in group]
    assert min(means) <= best(results, key) <= max(means)
    assert best(results, ("slice", "all slices", "ED", "no metric", "")) != best(results, key)


def test_each_loss_has_a_table_of_dice_of_volumes_and_of_slices(results):
    tables = {table.name: table for table in convention_tables(results, "focal")}
    assert list(tables) == ["dice_focal", "volumes_focal", "slices_focal"]
    heads = [column.name for column in tables["dice_focal"].columns]
    assert "by patient, 3D BraTS 2020, 2023" in heads
    assert {row[1].text for row in tables["dice_focal"].rows} == {"SSL", "baseline"}
    assert "within 1 mm of the other" in tables["volumes_focal"].caption


def test_counts_are_shown_only_where_units_are_left_out(results):
    table = next(convention_tables(results, "focal"))
    heads = [column.name for column in table.columns]
    row = next(row for row in table.rows if row[0].text == "ET")
    assert row[heads.index("by slice, all slices paper")].count is None
    assert row[heads.index("by slice, all slices present only")].count < 24
