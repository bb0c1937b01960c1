"""The report of hand-made run folders: whole, partial and broken ones."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from report_examples import write_run
from report_pages import Page, read, table

from brats_jax.errors import BratsError
from brats_jax.evaluation import summary
from brats_jax.experiments import grid_state
from brats_jax.experiments.grid_cells import Axes, enumerate_cells
from brats_jax.reporting import page
from brats_jax.reporting.paper.consistency import find_inconsistencies
from brats_jax.reporting.tables import formats
from brats_jax.reporting.tables import table as tables
from brats_jax.reporting.tables.table import Column
from brats_jax.runtime.files import write_json


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Three losses with and without pretraining, two folds."""
    folder = tmp_path_factory.mktemp("study")
    for loss in ("dice_ce", "dice_focal", "focal"):
        for ssl in (True, False):
            name = f"{loss}-{'ssl' if ssl else 'base'}"
            write_run(folder / name, loss=loss, ssl=ssl, folds=(0, 1))
    return folder


@pytest.fixture(scope="module")
def report(study) -> tuple[Page, str]:
    """The study's page and its words; the tables lie in its folder."""
    return read(study)


def test_one_page_that_needs_nothing_else(report):
    parsed, words = report
    assert not parsed.wrong and not parsed.open
    assert all(source.startswith("data:") for source in parsed.loaded)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.tables >= 10
    # The paper's own numbers stand in it, and where its tables disagree with its folds.
    for printed in ("0.540", "0.484", "37.610", "0.916"):
        assert printed in words, printed
    assert "present only" in words and "by patient" in words


def test_every_table_is_there_in_three_forms(study, report):
    folder = study / "report"
    tables = {path.stem for path in folder.rglob("*.csv")}
    assert len(tables) >= 10
    for suffix in (".md", ".tex"):
        assert {path.stem for path in folder.rglob(f"*{suffix}")} >= tables
    for path in folder.rglob("*.csv"):
        rows = list(csv.reader(path.open()))
        assert len(rows) >= 2, f"{path.name} is empty"
        assert len({len(row) for row in rows}) == 1, f"{path.name} is ragged"
    for path in folder.rglob("*.tex"):
        body = path.read_text().split("\n", 1)[1]  # after a comment
        assert not re.search(r"(?<!\\)[%#]", body), f"{path.name}: not escaped"


@pytest.mark.parametrize("ssl", [True, False])
def test_a_single_run_says_what_is_missing(tmp_path, ssl):
    write_run(tmp_path / "run", ssl=ssl)
    parsed, words = read(tmp_path / "run")
    assert not parsed.wrong and not parsed.open
    assert "no comparison" in words.lower() or "missing" in words.lower()


def test_a_grid_with_a_failed_cell_says_what_is_missing_and_compares_the_rest(tmp_path):
    axes = Axes(losses=("dice_ce", "focal"), percents=(10, 100), folds=(0,))
    write_json(
        tmp_path / "grid.json",
        {
            "schema": grid_state.SCHEMA,
            "version": grid_state.VERSION,
            "axes": [dataclasses.asdict(axes)],
        },
    )
    cells = enumerate_cells([axes])
    failed = next(c for c in cells if c.loss == "focal" and c.ssl and c.percent == 100)
    left = next(c for c in cells if c.loss == "focal" and c.ssl and c.percent == 10)
    for cell in cells:
        record = {"state": "done", "attempts": 1, "seconds": 60.0}
        if cell == failed:
            record = {"state": "failed", "attempts": 2, "error": "RESOURCE_EXHAUSTED: <no> memory"}
        elif cell != left:
            pretrains = cell.stage == "pretrain"
            write_run(
                tmp_path / cell.run,
                loss=cell.loss or "dice_ce",
                ssl=pretrains or cell.ssl,
                fraction=cell.percent / 100,
                stages=("pretrain",) if pretrains else ("segment",),
                error=0.3 if cell.ssl else 0.4,
                patients=6,
                settings={"pretrain.run": str(tmp_path / cell.source.run)} if cell.ssl else {},
            )
        if cell != left:
            write_json(grid_state.record_path(tmp_path, cell), record)
    parsed, words = read(tmp_path)
    assert not parsed.wrong and not parsed.open
    assert f"1 training of the grid failed (of {len(cells)})" in words
    assert f"{failed.name} failed: RESOURCE_EXHAUSTED: <no> memory" in words
    assert "1 training not done yet (left)" in words
    rows = {row["Training"]: row for row in table(tmp_path, "missing_cells")}
    assert {name: row["State"] for name, row in rows.items()} == {
        failed.name: "failed",
        left.name: "left",
    }
    # What is whole is compared all the same, at every share of the labels.
    assert {row["Loss"] for row in table(tmp_path, "primary_comparisons")} == {"Dice + CE"}
    assert {row["Labels"] for row in table(tmp_path, "label_fractions")} == {"0.1", "1"}
    assert (tmp_path / "report" / "figures" / "label_efficiency.svg").exists()


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(BratsError, match=re.escape(str(tmp_path))):
        page.write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_every_contradiction_of_the_paper_is_marked(report):
    _, words = report
    absent = [f.sentence for f in find_inconsistencies() if f.sentence not in words]
    assert not absent


def test_an_evaluation_of_another_version_is_named_and_no_number_of_it_is_shown(tmp_path):
    for fold in (0, 1):
        write_run(tmp_path / "run", folds=(fold,), wanted=(0, 1), error=0.2 + 0.5 * fold)
    path = tmp_path / "run" / "fold_1" / "evaluation.json"
    document = json.loads(path.read_text())
    write_json(path, {**document, "version": document["version"] - 1})
    _, words = read(tmp_path)
    assert "run: fold 2 not evaluated" in words
    assert "fold_1/evaluation.json: written by another version" in words
    assert "give the command that trained again: it evaluates anew, and trains nothing" in words
    assert {
        row["Fold"] for row in table(tmp_path, "appendix_table_4") if row["From"] == "ours"
    } == {"1"}
    # The printed table does not average it either.
    assert [d["fold"] for d in summary.read_evaluations(tmp_path / "run", 5)] == [0]
    path.with_name("evaluation.json").write_text("{")
    assert [d["fold"] for d in summary.read_evaluations(tmp_path / "run", 5)] == [0]
    shutil.copy(path, tmp_path / "run" / "fold_0")
    assert "No evaluation of this version of the program was found" in read(tmp_path)[1]


def test_latex_takes_no_cell_for_the_argument_of_a_command():
    made = tables.make_table(
        "t", "Table 1", "[a] 50 % *", "of <b> & *c*", [Column("A_1", words=True), Column("B")],
        [[tables.text("[1] x"), tables.number(0.5)], [tables.text("*"), tables.number(None)]],
    )  # fmt: skip
    body = formats.to_latex(made)
    assert "\n {}[1] x" in body and "\n {}*" in body and "A\\_1" in body
    assert "[a] 50 \\% *. of \\textless{}b\\textgreater{} \\& *c*" in body
    assert "of &lt;b&gt; &amp; \\*c\\*" in formats.to_markdown(made)


def test_a_grid_that_has_only_been_asked_for_has_a_report(tmp_path):
    write_json(
        tmp_path / "grid.json",
        {
            "schema": grid_state.SCHEMA,
            "version": grid_state.VERSION,
            "axes": [dataclasses.asdict(Axes(losses=("focal",), folds=(0,)))],
        },
    )
    parsed, words = read(tmp_path)
    assert not parsed.wrong and not parsed.open
    assert "Nothing has been evaluated yet" in words and "3 trainings not done yet (left)" in words
    assert "Figure 4 (the data) is not drawn: no run has begun." in words
