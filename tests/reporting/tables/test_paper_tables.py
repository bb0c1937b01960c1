"""The paper's tables with ours beside them."""

import pytest
from report_examples import write_run

from brats_jax.data.modalities import CLASSES
from brats_jax.reporting.arms import Results, collect
from brats_jax.reporting.averages import mean_over_folds
from brats_jax.reporting.read_runs import discover
from brats_jax.reporting.tables import paper_tables


def cells(table, row):
    names = [column.name for column in table.columns]
    return dict(zip(names, table.rows[row], strict=True))


def test_a_contradicted_number_of_the_paper_has_a_footnote():
    cell = paper_tables.paper_cell("4", 4, 2)
    assert (cell.text, cell.value, cell.paper) == ("0.540", 0.54, True)
    assert "average 0.484: no rounding explains it" in cell.notes[0]
    assert paper_tables.paper_cell("4", 0, 1).notes == ()


def test_table_1_has_our_mean_beside_the_papers(results):
    group = results.evaluated("pretrain")
    table, by_fold = paper_tables.pretraining_tables(group, "")
    mse = cells(table, 0)
    assert (table.number, mse["Quality metric"].text) == ("Table 1", "MSE")
    key = ("slice", "all slices", "slice", "mse", "")
    assert mse["ours"].value == mean_over_folds(group, key)[0]
    assert mse["paper"].text == "0.038"
    # Our two folds beside the paper's five, whose numbers the rows have.
    assert [row[0].text for row in by_fold.rows] == ["1", "2", "3", "4", "5"]
    assert [row[1].text != "–" for row in by_fold.rows] == [True, True, False, False, False]
    assert all(row[2].paper for row in by_fold.rows)
    assert "the row of fold 1 has our fold_0." in by_fold.caption


def test_image_quality_counts_the_slices_that_hold_the_tumour(results):
    table = paper_tables.image_quality_table(results.evaluated("pretrain"))
    counts = {(row[0].text, row[1].text): row[2].count for row in table.rows}
    assert counts == {
        ("slice", "all slices"): 24,
        ("brain", "all slices"): 24,
        ("slice", "tumour slices"): 16,
        ("brain", "tumour slices"): 16,
        ("tumour", "tumour slices"): 16,
    }


def test_the_pretraining_is_scored_over_the_slices_that_it_trained_on(tmp_path):
    run = write_run(tmp_path / "run", settings={"pretrain.slices": "tumour"})
    group = collect(discover(run)).evaluated("pretrain")
    table, by_fold = paper_tables.pretraining_tables(group, "")
    row = cells(table, 0)
    assert (row["ours"].count, row["ours, all slices"].count) == (16, 24)
    assert row["ours"].value == group[0].rows["slice", "tumour slices", "slice", "mse", ""][0]
    assert cells(by_fold, 0)["MSE ours"].value == row["ours"].value
    assert table.caption.startswith("FLAIR predicted from T1 and T1Gd. ")
    assert "over slices with tumour, on which the pretraining trains; beside it" in table.caption


def test_misses_and_a_penalty_stand_beside_every_asd(results):
    means, folds = paper_tables.loss_tables(results, "focal")
    names = [row[0].text for row in means.rows]
    assert names[8:12] == [f"ASD with penalty class {k} ({of})" for k, of in enumerate(CLASSES)]
    assert names[12:] == [
        *(f"Slices missed class {k} ({of})" for k, of in enumerate(CLASSES[1:], 1)),
        *(f"Slices invented class {k} ({of})" for k, of in enumerate(CLASSES[1:], 1)),
    ]
    # 16 slices hold ED and 8 do not, in each of two folds.
    assert means.rows[13][1].text.endswith(" of 32") and means.rows[16][1].text.endswith(" of 16")
    assert cells(folds, 0)["Slices missed, class 2 ED"].text.endswith(" of 16")


def test_the_six_experiments_are_listed_with_their_runs(results):
    table = paper_tables.configuration_table(results)
    assert len(table.rows) == 6
    assert cells(table, 1)["Run folders"].text == "dice_ce-ssl"
    assert cells(table, 1)["Here"].text == "folds 0 and 1"
    nothing = paper_tables.configuration_table(Results())
    assert {row[3].text for row in nothing.rows} == {"not evaluated"}


@pytest.mark.parametrize(
    ("loss", "number"), [("focal", "3"), ("dice_focal", "4"), ("dice_ce", "5")]
)
def test_each_loss_has_its_table_of_means_and_of_folds(results, loss, number):
    means, folds = paper_tables.loss_tables(results, loss)
    assert means.name == f"table_{number}" and folds.number == f"Appendix Table {int(number) - 1}"
    arm = results.main_arm(loss, True)
    key = ("slice", "all slices", "background", "dice", "paper")
    first = cells(means, 0)
    assert first["SSL ours"].value == mean_over_folds(results.arms[arm], key)[0]
    assert first["SSL paper"].paper and not first["SSL ours"].paper
    # Two of our folds and five of the paper's for each start.
    assert len(folds.rows) == 2 * (2 + 5)


def test_table_6_has_a_row_for_each_arm(results):
    table = paper_tables.summary_table(results)
    assert [(row[0].text, row[1].text) for row in table.rows[:2]] == [
        ("Dice + Focal", "baseline"),
        ("Dice + Focal", "SSL"),
    ]
    assert len(table.rows) == 6 and "ASD" not in table.caption


def test_contradictions_of_the_text_are_sentences():
    found = paper_tables.contradictions()
    assert all(sentence.endswith(".") for sentence in found)
    assert any("Section 4.4.1 says 'models are randomly initialized'" in s for s in found)
    # A contradiction between two tables is a footnote instead.
    assert not any(s.startswith("Table 4 prints 0.540") for s in found)
