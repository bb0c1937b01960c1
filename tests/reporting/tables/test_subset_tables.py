"""The tables on missing modalities."""

import pytest
from subset_examples import write_study

from brats_jax.reporting import subsets
from brats_jax.reporting.arms import collect
from brats_jax.reporting.read_runs import discover
from brats_jax.reporting.tables import formats
from brats_jax.reporting.tables.subset_tables import drop_table, gain_table, subset_table


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    return subsets.arms_of(collect(discover(write_study(tmp_path_factory.mktemp("subsets")))))


def test_columns_are_subsets_as_dots_and_the_last_is_their_mean(arms):
    table = subset_table(arms)
    titles = [column.title for column in table.columns]
    assert titles[3:5] == ["○○○●", "○○●○"] and titles[-2:] == ["●●●●", "Mean"]
    rows = {(row[1].text, row[2].text): row for row in table.rows}
    assert set(rows) == {(m, of) for m in ("zeros", "trained for it") for of in ("WT", "TC", "ET")}
    assert rows["zeros", "WT"][-2].text == "0.885" and rows["zeros", "WT"][3].text == "0.285"
    assert "FLAIR, T1, T1Gd, T2" in table.caption and "zeros that it has not seen" in table.caption
    assert "Given ---x" in formats.to_latex(table)  # plain LaTeX has no dots


def test_drops_stand_beside_their_intervals(arms):
    table = drop_table(arms)
    assert len(table.rows) == 30  # 14 subsets and the mean, of two arms
    zeros = [row for row in table.rows if row[1].text == "zeros" and row[3].text == "FLAIR, T2"]
    assert [cell.text for cell in zeros[0][6:9]] == ["+0.400", "–", "–"]  # of 4 patients
    assert zeros[0][4].text == "4"


def test_gains_have_a_row_for_all_modalities_and_for_the_mean(arms):
    table = gain_table(subsets.gains(arms))
    assert [row[2].text for row in table.rows] == ["all modalities"] * 4 + [
        "mean of the 15 subsets"
    ] * 4
    assert gain_table([]) is None
