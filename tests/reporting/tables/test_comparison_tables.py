"""The table of comparisons."""

from report_examples import write_run

from brats_jax.reporting import comparisons
from brats_jax.reporting.arms import collect
from brats_jax.reporting.read_runs import discover
from brats_jax.reporting.tables.comparison_tables import comparison_table


def rows_of(found):
    table = comparison_table(found, "name", "Title", "Caption", detail=False)
    names = [column.name for column in table.columns]
    return [dict(zip(names, (cell.text for cell in row), strict=True)) for row in table.rows]


def test_a_row_has_the_numbers_of_its_comparison(results):
    first = comparisons.primary(results)[0]
    row = rows_of([first])[0]
    assert row["Quantity"] == first.quantity.name == "3D Dice of WT"
    assert row["Mean SSL"] == f"{first.result.mean_a:.3f}"
    assert row["Mean baseline"] == f"{first.result.mean_b:.3f}"
    assert row["SSL minus baseline mean"] == f"{first.result.mean_difference:+.3f}"
    assert row["n patients"] == "4" and row["Found"] == first.verdict
    # Four patients are too few: an interval clear of 0 would read as a difference.
    assert row["SSL minus baseline low"] == row["SSL minus baseline high"] == "–"


def test_patients_are_counted_as_better_where_a_distance_is_smaller(results):
    distances = [c for c in comparisons.secondary(results) if "ASD of WT" in c.quantity.name]
    row, result = rows_of(distances)[0], distances[0].result
    assert row["Patients with SSL better"] == str(result.smaller)
    assert row["Patients with SSL worse"] == str(result.larger)
    assert row["Quantity"] == "3D ASD of WT (mm)"


def test_the_share_of_labels_is_a_column_only_if_it_differs(results):
    assert "Labels" not in rows_of(comparisons.primary(results))[0]


def test_two_pretexts_against_one_baseline_are_told_apart(tmp_path):
    for name, ssl, task in (("base", False, None), ("a", True, "masked"), ("b", True, "shuffled")):
        settings = {"pretrain.task": task} if task else {}
        write_run(tmp_path / name, ssl=ssl, settings=settings)
    found = comparisons.primary(collect(discover(tmp_path)))
    rows = rows_of(found)
    assert {row["SSL with"] for row in rows} == {"masked", "shuffled"}
    assert len({c.sentence.split(":")[0] for c in found}) == 2
    assert "masked" in found[0].sentence + found[-1].sentence
