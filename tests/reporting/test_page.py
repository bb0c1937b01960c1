"""The page and the files of a report, of whole, partial and damaged run folders."""

import csv
import re

import pytest
from document_examples import grid_of, record_of
from report_examples import write_run
from report_pages import Page, read, table

from brats_jax.errors import BratsError
from brats_jax.reporting import page
from brats_jax.reporting.paper.consistency import find_inconsistencies
from brats_jax.runs.axes import Axes
from brats_jax.runs.folder import GridFolder
from brats_jax.runs.grid import enumerate_cells


@pytest.fixture(scope="module")
def report(study_folder) -> tuple[Page, str]:
    """The page of the study, parsed, and its words."""
    return read(study_folder)


def test_the_page_loads_nothing_from_elsewhere(report):
    parsed, words = report
    assert not parsed.wrong and not parsed.open
    assert all(source.startswith("data:") for source in parsed.loaded)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.tables >= 10
    # Numbers of the paper, among them some that its folds contradict.
    for printed in ("0.540", "0.484", "37.610", "0.916"):
        assert printed in words, printed
    assert "present only" in words and "by patient" in words


def test_every_table_is_written_in_three_forms(study_folder, report):
    folder = study_folder / "report"
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
def test_the_page_of_a_single_run_names_missing_results(tmp_path, ssl):
    write_run(tmp_path / "run", ssl=ssl)
    parsed, words = read(tmp_path / "run")
    assert not parsed.wrong and not parsed.open
    assert "no comparison" in words.lower() or "missing" in words.lower()


@pytest.mark.usefixtures("empty_figures")
def test_the_terminal_is_told_what_is_not_evaluated(tmp_path, capsys):
    one, two = (write_run(tmp_path / name, ssl=False, wanted=(0, 1)) for name in "ab")
    (one / "fold_0" / "evaluation.json").unlink()
    lines = ["note: a: fold_0 not evaluated; fold_1 not begun.", "note: b: fold_1 not begun."]
    page.write_report(tmp_path)
    assert capsys.readouterr().out.splitlines() == lines
    (two / "fold_0" / "evaluation.json").unlink()
    page.write_report(tmp_path)
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == "note: nothing is evaluated yet: the tables have the paper's numbers alone"


@pytest.mark.usefixtures("empty_figures")
def test_a_grid_with_a_failed_cell_names_it_and_compares_the_rest(tmp_path):
    axes = Axes(losses=("dice_ce", "focal"), percents=(10, 100), folds=(0,))
    grid = GridFolder(tmp_path)
    grid_of(axes).write(grid.grid_json)
    cells = enumerate_cells([axes])
    failed = next(c for c in cells if c.loss == "focal" and c.ssl and c.percent == 100)
    left = next(c for c in cells if c.loss == "focal" and c.ssl and c.percent == 10)
    for cell in cells:
        record = record_of(cell.name, seconds=60.0)
        if cell == failed:
            error = "RESOURCE_EXHAUSTED: <no> memory"
            record = record_of(cell.name, "failed", attempts=2, error=error)
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
            record.write(grid.cell_json(cell.name))
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
    # The complete pairs are compared at every share of the labels.
    assert {row["Loss"] for row in table(tmp_path, "primary_comparisons")} == {"Dice + CE"}
    assert {row["Labels"] for row in table(tmp_path, "label_fractions")} == {"0.1", "1"}
    assert (tmp_path / "report" / "figures" / "label_efficiency.svg").exists()


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(BratsError, match=re.escape(str(tmp_path))):
        page.write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_every_contradiction_of_the_paper_is_on_the_page(report):
    _, words = report
    absent = [f.sentence for f in find_inconsistencies() if f.sentence not in words]
    assert not absent


def test_a_grid_without_a_training_has_a_report(tmp_path):
    grid_of(Axes(losses=("focal",), folds=(0,))).write(GridFolder(tmp_path).grid_json)
    parsed, words = read(tmp_path)
    assert not parsed.wrong and not parsed.open
    assert "Nothing has been evaluated yet" in words and "3 trainings not done yet (left)" in words
    assert "Figure 4 (the data) is not drawn: no run has begun." in words
