"""Tables of runs, trainings, splits and unfinished trainings."""

import dataclasses

import pytest
from report_examples import write_run

from brats_jax.data.audit import Audit
from brats_jax.reporting.read_runs import GridCell, Study, discover
from brats_jax.reporting.tables import provenance_tables
from brats_jax.runs.documents import StageTraining
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document


def column(table, name):
    names = [column.name for column in table.columns]
    return [row[names.index(name)].text for row in table.rows]


def test_each_run_has_its_settings_devices_and_versions(study):
    table = provenance_tables.run_table(study)
    assert column(table, "Run folder")[:2] == ["dice_ce-base", "dice_ce-ssl"]
    assert set(column(table, "Folds evaluated")) == {"2 of 2"}
    assert set(column(table, "Devices")) == {"1 x cpu"}
    assert column(table, "Versions")[0] == "brats_jax 0.1.0, jax 0.10.2, python 3.11.7"


def test_runs_with_several_pretrainings_are_told_apart(tmp_path):
    write_run(tmp_path / "base", ssl=False)
    for name in ("masked", "denoise"):
        write_run(tmp_path / name, settings={"pretrain.task": name})
    table = provenance_tables.run_table(discover(tmp_path))
    assert column(table, "Start") == ["baseline", "SSL (denoise)", "SSL (masked)"]


def test_each_training_has_its_best_value_and_wall_time(study):
    table = provenance_tables.training_table(study)
    assert len(table.rows) == 3 * (2 * 2 + 2)  # losses; with SSL both stages, without one
    assert set(column(table, "Stage")) == {"pretraining", "segmentation"}
    assert set(column(table, "Wall time")) == {"1 min 15 s"}
    assert set(column(table, "Patches/s")) == {"10.0"}


def test_the_rule_that_chose_a_checkpoint_is_in_the_table(tmp_path):
    for k, changes in enumerate(({}, {"selection": "last"}, {"selection": "held_out"})):
        run = write_run(tmp_path / f"run_{k}", ssl=False)
        held_out = 2 * (k == 2)
        training = StageTraining(8, 10, 80, 100, 4, 2, 8, held_out=held_out, **changes)
        training.write(RunFolder(run).fold(0).stage("segment").training_json)
    table = provenance_tables.training_table(discover(tmp_path))
    assert column(table, "Chosen by") == [
        "dice", "last step; dice of the training patients", "dice of 2 labelled patients held out",
    ]  # fmt: skip


def test_equal_splits_share_a_row(study):
    table = provenance_tables.split_table(study)
    assert column(table, "Fold") == ["0", "1"]
    assert column(table, "Audit") == ["clean", "clean"]
    assert column(table, "Patients test") == ["4", "4"]


def test_unfinished_trainings_have_their_reason(tmp_path):
    cells = [
        GridCell("a", "runs/a", 0, "done", "", 1),
        GridCell("b", "runs/b", 0, "failed", "out of memory", 2),
        GridCell("c", "runs/c", 0, "left", "", None),
    ]
    table = provenance_tables.unfinished_cell_table(Study(tmp_path, "grid", cells=cells))
    assert column(table, "Training") == ["b", "c"]
    assert column(table, "Reason") == ["out of memory", ""]
    assert column(table, "Attempts") == ["2", "–"]
    assert provenance_tables.unfinished_cell_table(Study(tmp_path, "run")) is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(41, "41 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")]
)
def test_wall_time_has_units(seconds, words):
    assert provenance_tables.wall_time(seconds) == words


def test_unlabelled_patients_have_a_column_where_there_are_some(tmp_path):
    folder = write_run(tmp_path / "run", ssl=False)
    (fold, *_) = sorted(folder.glob("fold_*"))
    audit = read_document(fold / "audit.json", Audit)
    dataclasses.replace(
        audit,
        patients={**audit.patients, "unlabelled": 5},
        slices={**audit.slices, "unlabelled": 80},
    ).sealed().write(fold / "audit.json")
    table = provenance_tables.split_table(discover(folder))
    assert "5" in column(table, "Patients unlabelled")
    assert "80" in column(table, "Slices unlabelled")
