"""The means over folds of an evaluation from every subset of the modalities."""

import csv

import pytest
from subset_examples import document_of

from brats_jax.evaluation.subset_summary import format_subsets, summarise_subsets
from brats_jax.runs.documents import EvaluatedCheckpoint
from brats_jax.runs.documents.subsets import SubsetFiles, SubsetSummary
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document


def test_the_summary_has_the_mean_over_subsets_and_the_drop_from_all(tmp_path):
    folds = [document_of(), document_of(fold=1, checkpoint=EvaluatedCheckpoint(9, 1, 0.5))]
    for one in folds:
        path = tmp_path / f"fold_{one.fold}"
        path.mkdir()
        one.write(SubsetFiles(path).json)
    summary = summarise_subsets(RunFolder(tmp_path), 5)
    assert read_document(SubsetFiles(tmp_path).json, SubsetSummary) == summary
    rows = {(row.modalities, row.of): row for row in summary.rows}
    t1, flair, both = (4 / 6 + 4 / 16) / 2, (2 / 4 + 2 / 14) / 2, (0.8 + 0.4) / 2
    assert rows[("flair", "t1"), "TC"].mean == pytest.approx(both)
    assert rows[("flair",), "WT"].drop == pytest.approx(both - flair)
    assert rows[(), "WT"].mean == pytest.approx((t1 + flair + both) / 3)
    assert rows[(), "WT"].sd_over_folds == pytest.approx(0)
    assert (rows[(), "ET"].folds, rows[(), "ET"].patients) == (2, 2)
    text = format_subsets(summary)
    assert "zeros in their place" in text and "mean of the 3" in text and "●● FLAIR, T1" in text
    with SubsetFiles(tmp_path).csv.open() as file:
        table = list(csv.DictReader(file))
    assert [row["modalities"] for row in table[:4]] == ["t1", "flair", "flair+t1", "mean"]


def test_folds_that_were_evaluated_otherwise_are_named_and_left_out(tmp_path, capsys):
    for one in (document_of(), document_of(fold=2, tta=True)):
        path = tmp_path / f"fold_{one.fold}"
        path.mkdir()
        one.write(SubsetFiles(path).json)
    assert summarise_subsets(RunFolder(tmp_path), 5).folds == (0,)
    assert "fold 2 evaluated in another way" in capsys.readouterr().out
