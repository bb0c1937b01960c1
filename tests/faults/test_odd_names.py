"""Names of cases with line ends, escape sequences, formulas or bytes that are no UTF-8."""

import csv
import dataclasses
import os
import shutil

import numpy as np
import prediction_examples as examples
import pytest
from report_examples import write_run
from tally_examples import tally_of, two_patients

from brats_jax.data.splits import Splits
from brats_jax.data.store.layout import Manifest
from brats_jax.data.store.reader import Store
from brats_jax.data.store.summary import summary_table
from brats_jax.errors import BratsError
from brats_jax.evaluation import rows
from brats_jax.evaluation.conventions import scores_of
from brats_jax.reporting.arms import collect
from brats_jax.reporting.read_runs import discover
from brats_jax.runs.folder import FoldFolder, PredictionFolder, RunFolder
from brats_jax.runtime.console import print_line, print_notice
from brats_jax.runtime.document import read_document

LATIN = os.fsdecode(b"M\xfcnchen")
FORMULA = os.fsdecode(b"a$^{\xfc$\nend")  # also of Matplotlib's


def test_a_line_stays_a_line_whatever_is_in_a_name(capsys):
    print_line("line\nend\t\x1b[2J: kept")
    print_notice("line\nend: note")
    printed = capsys.readouterr()
    assert printed.out == "line\\nend\\t\\x1b[2J: kept\n" and printed.err == "line\\nend: note\n"
    assert str(BratsError("line\nend\r: bad")) == "line\\nend\\r: bad"


def test_notes_on_cases_are_one_line_each_in_the_table_of_a_store(example_runs):
    store = Store.open(example_runs["slice"] / "store")
    assert isinstance(store.manifest, Manifest)
    manifest = dataclasses.replace(
        store.manifest, notes={"a\nb": ("of a\nb",)}, skipped={"c\nd": "c\nd: bad"}
    )
    lines = summary_table(store.path, manifest).splitlines()
    assert "  a\\nb: of a\\nb" in lines and "  c\\nd: c\\nd: bad" in lines


def test_two_names_are_two_names_in_the_tables_of_an_evaluation(tmp_path):
    prediction, truth, sizes = two_patients()
    tally = tally_of(prediction, truth, sizes)
    slices = dataclasses.replace(tally.slices, patients=np.array([LATIN, "line\nend"]))
    fold = FoldFolder(tmp_path)
    tally = dataclasses.replace(tally, slices=slices)
    rows.write_unit_tables(fold, "segment", tally, scores_of(tally))
    with fold.patients_csv("segment").open(newline="", encoding="utf-8") as file:
        assert [row["patient"] for row in csv.DictReader(file)] == [r"M\udcfcnchen", r"line\nend"]


def test_the_report_reads_splits_of_such_names(tmp_path):
    run = RunFolder(write_run(tmp_path / "run", folds=(0,)))
    splits = read_document(run.splits_json, Splits)
    dataclasses.replace(splits, test=(LATIN, FORMULA)).write(run.splits_json)
    study = discover(run.path)
    assert study.problems == [] and study.runs[0].splits.test == (LATIN, FORMULA)
    assert collect(study)


@pytest.mark.usefixtures("shallow")
def test_a_case_of_such_a_name_is_predicted_with_picture_and_page(example_runs, tmp_path, capsys):
    from brats_jax import inference

    source = example_runs["volume"] / "cases" / examples.CASES[0]
    for path in source.iterdir():
        (tmp_path / "in").mkdir(exist_ok=True)
        name = path.name.replace(examples.CASES[0], FORMULA)
        shutil.copy(path, tmp_path / "in" / name)
    model = inference.load(example_runs["volume"] / "run" / "fold_0")
    outcome, _ = examples.run_on(model, tmp_path / "in", tmp_path / "out", picture=True, page=True)
    assert outcome.failed == {}
    folder = PredictionFolder(tmp_path / "out")
    for path in (folder.segmentation(FORMULA), folder.picture(FORMULA), folder.page(FORMULA)):
        assert path.stat().st_size > 100
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(r"a$^{\udcfc$\nend: WT ") for line in lines)
    assert len(folder.volumes_csv.read_text(encoding="utf-8").splitlines()) == 2
