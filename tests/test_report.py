"""The report of hand-made run folders: whole, partial and broken ones."""

import csv
import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_examples import write_run

from brats_jax import grid_state, results
from brats_jax.cells import Axes, enumerate_cells
from brats_jax.errors import BratsError
from brats_jax.files import write_json
from brats_jax.reference.consistency import find_inconsistencies
from brats_jax.reporting import page, tables
from brats_jax.reporting.tables import Column

VOID = {"meta", "link", "img", "br", "hr", "input", "col", "path", "use", "rect"}


class Page(HTMLParser):
    """Text, what is loaded from elsewhere, and tags that are closed out of turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.loaded, self.ids = [], [], []
        self.open, self.wrong = [], []
        self.tables = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tables += tag == "table"
        if "id" in given:
            self.ids.append(given["id"])
        if "src" in given:
            self.loaded.append(given["src"])
        if tag == "link":
            self.loaded.append(given.get("href"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


def read(workdir: Path) -> tuple[Page, str]:
    html = page.write_report(workdir).read_text()
    parsed = Page(html)
    return parsed, " ".join(" ".join(parsed.words).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Three losses with and without pretraining, two folds."""
    folder = tmp_path_factory.mktemp("study")
    for loss in ("dice_ce", "dice_focal", "focal"):
        for ssl in (True, False):
            name = f"{loss}-{'ssl' if ssl else 'base'}"
            write_run(folder / name, loss=loss, ssl=ssl, folds=(0, 1))
    return folder


def test_one_page_that_needs_nothing_else(study):
    parsed, words = read(study)
    assert not parsed.wrong and not parsed.open
    assert all(source.startswith("data:") for source in parsed.loaded)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.tables >= 10
    # The paper's own numbers stand in it, and where its tables disagree with its folds.
    for printed in ("0.540", "0.484", "37.610", "0.916"):
        assert printed in words, printed
    assert "present only" in words and "by patient" in words


def test_every_table_is_there_in_three_forms(study):
    page.write_report(study)
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


def table(workdir: Path, name: str) -> list[dict[str, str]]:
    with (workdir / "report" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def write_both(folder: Path, **more) -> Path:
    """A run with pretraining and one without, worse, in a folder of their own."""
    for ssl in (True, False):
        name = "ssl" if ssl else "base"
        write_run(folder / name, ssl=ssl, error=0.2 if ssl else 0.3, patients=6, **more)
    return folder


def test_a_split_by_slice_is_told_wherever_a_number_stands(tmp_path):
    parsed, words = read(write_both(tmp_path, split_by="slice"))
    assert not parsed.wrong and not parsed.open
    assert "every test score is too good" in words
    captions = re.findall(r"(?:Ours|Our baseline|Ours with SSL): test set of [^;]*;", words)
    assert len(captions) > 5
    told = "split by slice, the same patients in training and test"
    assert all(told in caption for caption in captions), captions
    # The audit names the leak; what needs whole volumes is said to be missing, not shown.
    audit = table(tmp_path, "splits")
    assert [row["Audit"] for row in audit] == ["LEAKS"]
    assert audit[0]["Patients in both training, test"] == "6"
    assert "No volumes in 3D" in words and "3D Dice" not in words
    assert "by patient, 3D" not in words
    assert {row["Quantity"] for row in table(tmp_path, "primary_comparisons")} == {
        "slice Dice of WT", "slice Dice of TC", "slice Dice of ET",
    }  # fmt: skip


def test_tumour_slices_alone_are_not_passed_off_as_the_papers_average(tmp_path):
    parsed, words = read(write_both(tmp_path, slices="tumour"))
    assert not parsed.wrong and not parsed.open
    # Four of six slices of each patient hold tumour.
    assert "6 patients, 24 slices with tumour, split by patient" in words
    assert "Only slices with tumour were evaluated" in words
    assert "OURS AVERAGED OVER SLICES WITH TUMOUR ONLY" in words
    # Neither a ceiling over all slices nor volumes can be known.
    assert not (tmp_path / "report" / "ceiling.csv").exists()
    assert not list((tmp_path / "report").glob("volumes_*"))
    heads = table(tmp_path, "dice_dice_ce")[0]
    assert not any("all slices" in head or "3D" in head for head in heads), heads
    assert not any("paper" in row["Quantity"] for row in _secondary(tmp_path))


def _secondary(workdir: Path) -> list[dict[str, str]]:
    found = (workdir / "report" / "secondary_comparisons.csv").exists()
    return table(workdir, "secondary_comparisons") if found else []


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


def test_arms_of_different_folds_are_not_compared_and_that_is_said(tmp_path):
    write_run(tmp_path / "ssl", ssl=True, folds=(0,))
    write_run(tmp_path / "base", ssl=False, folds=(1,))
    _, words = read(tmp_path)
    assert "Not compared: Dice + CE, SSL, and its baseline" in words
    assert not (tmp_path / "report" / "primary_comparisons.csv").exists()


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(BratsError, match=re.escape(str(tmp_path))):
        page.write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_every_contradiction_of_the_paper_is_marked(study):
    _, words = read(study)
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
    assert "fold_1/evaluation.json: of another version" in words
    assert "give the command that trained again: it evaluates anew, and trains nothing" in words
    assert {
        row["Fold"] for row in table(tmp_path, "appendix_table_4") if row["From"] == "ours"
    } == {"1"}
    # The printed table does not average it either.
    assert [d["fold"] for d in results.read_evaluations(tmp_path / "run", 5)] == [0]
    path.with_name("evaluation.json").write_text("{")
    assert [d["fold"] for d in results.read_evaluations(tmp_path / "run", 5)] == [0]
    shutil.copy(path, tmp_path / "run" / "fold_0")
    assert "Nothing was found that this version of the program has evaluated" in read(tmp_path)[1]


def test_a_comparison_that_old_tallies_prevent_says_so(tmp_path):
    for tally in write_both(tmp_path).glob("*/fold_0/tally_segment.npz"):
        tally.write_bytes(b"PK")
    _, words = read(tmp_path)
    assert "not compared: the numbers by patient of 2 evaluated trainings cannot be read" in words
    assert "remove it, and give the command that trained again" in words


def test_patients_that_are_left_out_of_a_comparison_are_counted(tmp_path):
    write_both(tmp_path)
    _, words = read(tmp_path)
    # The first patient has no ET, and its ASD is not defined.
    rows = {row["Quantity"]: row["n patients"] for row in _secondary(tmp_path)}
    assert rows["3D ASD of ET (mm)"] == "5" and rows["3D ASD of WT (mm)"] == "6"
    sentence = words[words.index("Dice + CE: 3D ASD of ET:") :].split("sign-flip")[0]
    assert "n = 5 patients, 1 without both values left out" in sentence
    sentence = words[words.index("Dice + CE: 3D ASD of WT:") :].split("sign-flip")[0]
    assert "n = 6 patients;" in sentence


def test_runs_that_only_one_arm_has_are_not_compared_and_that_is_said(tmp_path):
    write_run(tmp_path / "ssl", ssl=True, folds=(0, 1, 2), patients=6)
    write_run(tmp_path / "base", ssl=False, folds=(0, 2), patients=6)
    _, words = read(tmp_path)
    assert (
        "Dice + CE, SSL, and its baseline are compared in the 2 of 3 folds and seeds that" in words
    )
    start = words.index("chosen beforehand.")
    assert words[start:].startswith(
        "chosen beforehand. Ours: test set of 6 patients, 36 slices, split by patient; mean over "
        "folds 1 and 3."
    )


def test_what_was_evaluated_over_other_slices_is_not_compared(tmp_path):
    """--mode=evaluate may ask for other slices than the settings that the run was started with."""
    write_run(tmp_path / "ssl", ssl=True, patients=6)
    write_run(tmp_path / "base", ssl=False, patients=6, slices="tumour")
    path = tmp_path / "base" / "config.json"
    document = json.loads(path.read_text())
    document["config"]["evaluation"]["slices"] = "all"
    write_json(path, document)
    _, words = read(tmp_path)
    assert not (tmp_path / "report" / "primary_comparisons.csv").exists()
    assert "evaluation.slices = tumour" in words


def test_latex_takes_no_cell_for_the_argument_of_a_command():
    made = tables.make_table(
        "t", "Table 1", "[a] 50 % *", "of <b> & *c*", [Column("A_1", words=True), Column("B")],
        [[tables.text("[1] x"), tables.number(0.5)], [tables.text("*"), tables.number(None)]],
    )  # fmt: skip
    body = tables.to_latex(made)
    assert "\n {}[1] x" in body and "\n {}*" in body and "A\\_1" in body
    assert "[a] 50 \\% *. of \\textless{}b\\textgreater{} \\& *c*" in body
    assert "of &lt;b&gt; &amp; \\*c\\*" in tables.to_markdown(made)


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


def test_one_patient_is_not_tested_and_what_no_patient_has_is_said(tmp_path):
    for ssl in (True, False):  # the only patient has no ET
        write_run(tmp_path / ("ssl" if ssl else "base"), ssl=ssl, patients=1)
    _, words = read(tmp_path)
    assert "of 3 comparisons too few patients have values for a test in all." in words
    assert "3D Dice of WT: not tested, as there is one patient only" in words
    assert "3D ASD of ET: not compared, as no patient has a value under both SSL and the" in words
    row = next(r for r in _secondary(tmp_path) if r["Quantity"] == "3D ASD of ET (mm)")
    assert (row["n patients"], row["Found"], row["p (Holm)"]) == ("0", "not tested", "")
