"""A file that was edited or removed is named, with a remedy that works and loses nothing."""

import shutil

import prediction_examples as examples
import pytest
from grid_examples import SSL, FakeStore, config, finish
from report_examples import write_run

from brats_jax.data.splits import load_or_make_splits
from brats_jax.data.store.layout import MANIFEST
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.fold import FoldEvaluation
from brats_jax.evaluation.published_files import publish
from brats_jax.evaluation.summary import summarise_run
from brats_jax.experiments.config import parse, split_options
from brats_jax.experiments.fold import Fold
from brats_jax.experiments.grid_cells import extend
from brats_jax.inference import export_files, stablehlo
from brats_jax.inference.trained_run import open_run
from brats_jax.reporting.page import write_report
from brats_jax.reporting.read_runs import discover
from brats_jax.runs.axes import Axes
from brats_jax.runs.documents import StageTraining
from brats_jax.runs.folder import FoldFolder, GridFolder, RunFolder
from brats_jax.runs.grid import is_done
from brats_jax.runtime.devices import data_mesh


def edit(path, before="1", after="2"):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


class TestOfAnExport:
    @pytest.fixture
    def run(self, example_runs, shallow, monkeypatch):
        monkeypatch.setattr(stablehlo, "stablehlo", lambda trained, shape: b"the program")
        run = example_runs["volume"] / "run"
        return [open_run(p, "segment", data_mesh(), dtype="float32") for p in (run, run / "fold_0")]

    def test_the_edited_description_is_named_and_not_the_program(self, run, tmp_path):
        stablehlo.write(run[0], tmp_path / "one")
        edit(tmp_path / "one" / "segment.json", "LPS", "RAS")
        for content in (None, "{"):
            if content:
                edit(tmp_path / "one" / "segment.json", "{", "{{")  # no JSON any more
            before = {p.name: p.read_bytes() for p in (tmp_path / "one").iterdir()}
            with pytest.raises(BratsError) as caught:
                stablehlo.write(run[0], tmp_path / "one")
            assert str(caught.value).startswith(f"{tmp_path / 'one' / 'segment.json'}")
            assert str(caught.value).endswith("kept; give another --output")
            assert before == {p.name: p.read_bytes() for p in (tmp_path / "one").iterdir()}
            with pytest.raises(
                BratsError,
                match=r"segment.json.*: export the run again, into an|"
                r"segment.json.*; export the run again, into another folder",
            ):
                export_files.verify(tmp_path / "one")
        stablehlo.write(run[0], tmp_path / "another")
        assert len(export_files.verify(tmp_path / "another")) == 3

    def test_the_removed_description_is_made_again_beside_the_same_files(self, run, tmp_path):
        stablehlo.write(run[0], tmp_path)
        whole = (tmp_path / "segment.json").read_bytes()
        (tmp_path / "segment.json").unlink()
        with pytest.raises(BratsError, match=r"no export there, .*: export the run again"):
            export_files.verify(tmp_path)
        stablehlo.write(run[0], tmp_path)
        assert (tmp_path / "segment.json").read_bytes() == whole
        (tmp_path / "segment.json").unlink()
        (tmp_path / "segment.stablehlo").write_bytes(b"edited")
        with pytest.raises(BratsError, match=r"segment.stablehlo is there and was not written"):
            stablehlo.write(run[0], tmp_path)


class TestOfAStore:
    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("stores") / "store"
        prepare("phantom", path, patients=2, shape=(16, 20, 18), workers=1)
        return path

    @pytest.fixture
    def path(self, whole, tmp_path):
        shutil.copytree(whole, tmp_path / "store")
        return tmp_path / "store"

    def test_a_record_of_a_case_is_compared_when_its_images_are_first_read(self, path):
        first, other = Store.open(path).patients
        edit(path / "cases" / f"{other}.json")
        store = Store.open(path)
        store.read(store.slices_of(first))
        for read in (store.read, store.check):
            with pytest.raises(BratsError, match=f"{other}.json has changed since it was written"):
                read(list(store.slices_of(other)))

    def test_without_its_manifest_it_is_not_taken_for_a_folder_without_a_store(self, path):
        (path / MANIFEST).unlink()
        with pytest.raises(BratsError, match=f"{MANIFEST} is missing, but there are cases of a"):
            Store.open(path)


class TestOfARun:
    @pytest.fixture
    def fold(self, example_runs, shallow, tmp_path, monkeypatch):
        monkeypatch.setattr(FoldEvaluation, "run", lambda self, again: None)
        shutil.copytree(example_runs["slice"] / "run", tmp_path / "run")
        store = Store.open(example_runs["slice"] / "store")
        few = examples.tiny_config(store)
        few.ssl = True
        settings, run = parse(few), RunFolder(tmp_path / "run")
        splits = load_or_make_splits(run.splits_json, store, **split_options(settings))
        return Fold(settings, store, splits, run.fold(0), data_mesh())

    def test_training_json_of_a_complete_stage_is_made_again_and_named(self, fold, capsys):
        path = fold.folder.stage("segment").training_json
        fold.describe("segment").write(path)
        fold.describe("pretrain").write(fold.folder.stage("pretrain").training_json)
        whole = path.read_bytes()
        fold.run("train")
        assert "again" not in capsys.readouterr().out and path.read_bytes() == whole
        edit(path, '"slices": ', '"slices": 9')
        fold.run("train")
        assert f"fold 0 segment: {path}: it has changed since it was" in capsys.readouterr().out
        assert path.read_bytes() == whole
        path.unlink()
        fold.run("train")
        assert f"{path} is missing: made again" in capsys.readouterr().out
        assert path.read_bytes() == whole

    def test_without_config_json_no_command_takes_it_for_another_folder(
        self, example_runs, tmp_path
    ):
        shutil.copytree(example_runs["slice"] / "run", tmp_path / "of" / "run")
        gone = tmp_path / "of" / "run" / "config.json"
        gone.unlink()
        for path in (gone.parent, gone.parent / "fold_0"):
            with pytest.raises(BratsError, match=f"{gone} is missing, but there are trained folds"):
                open_run(path, "segment", data_mesh())
        with pytest.raises(BratsError, match=f"{gone} is missing, but there are trained folds"):
            discover(gone.parent)
        write_run(tmp_path / "of" / "whole", folds=(0,))
        study = discover(tmp_path / "of")
        assert [run.name for run in study.runs] == ["whole"] and str(gone) in study.problems[0]

    def test_an_edited_summary_is_kept_and_its_remedy_makes_a_new_one(self, tmp_path, capsys):
        run = RunFolder(write_run(tmp_path / "run", folds=(0,)))
        summarise_run(run, 1)
        whole = run.summary_json.read_bytes()
        edit(run.summary_json, '"mean": 0.', '"mean": 1.')
        edited = run.summary_json.read_bytes()
        summarise_run(run, 1)
        assert (
            f"{run.summary_json} was not written by this program, or has changed since: kept; "
            "move it away" in capsys.readouterr().out
        )
        assert run.summary_json.read_bytes() == edited
        run.summary_json.unlink()
        summarise_run(run, 1)
        assert run.summary_json.read_bytes() == whole and not capsys.readouterr().out

    def test_an_edited_list_of_files_does_not_accuse_the_files(self, tmp_path, capsys):
        fold = FoldFolder(tmp_path / "fold_0")
        tables = {fold.slices_csv("segment"): b"1\n", fold.patients_csv("segment"): b"2\n"}
        for path, data in tables.items():
            publish(fold, path, data)
        edit(fold.ledger_json, '.csv"', '.txt"')
        publish(fold, fold.segmentation_png, b"png")
        for path, data in tables.items():
            publish(fold, path, data)  # the same as is there
        assert not capsys.readouterr().out
        edit(fold.ledger_json, '.csv"', '.txt"')
        publish(fold, fold.slices_csv("segment"), b"other\n")
        told = capsys.readouterr().out
        assert told.startswith(f"{fold.ledger_json}: it has changed since it was written")
        assert "so that an edit of" in told and fold.slices_csv("segment").read_bytes() == b"1\n"

    @pytest.mark.usefixtures("empty_figures")
    def test_an_edited_list_of_a_reports_files_is_named(self, tmp_path, capsys):
        run = write_run(tmp_path / "run", folds=(0,))
        write_report(run)
        edit(run / "report" / "written.json", ".csv", ".txt")
        capsys.readouterr()
        (run / "report" / "table_1.csv").write_text("edited")
        write_report(run)
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"kept, because {run / 'report' / 'written.json'}: it has changed")
        assert "table_1.csv" in line and "table_1.md" not in line


class TestOfAGrid:
    @pytest.fixture
    def grid(self, tmp_path):
        grid = GridFolder(tmp_path)
        extend(grid, config(), FakeStore, Axes(losses=("focal",), folds=(0,)))
        finish(grid, SSL, 60.0)
        return grid

    def test_a_cell_with_an_edited_training_json_is_given_to_its_command_again(self, grid):
        path = SSL.stage_folder(grid).training_json
        assert is_done(grid, SSL)
        StageTraining(1, 1, 2, 2, 1, 5, 5).write(path)
        assert is_done(grid, SSL)
        edit(path, '"slices": 2', '"slices": 3')
        assert not is_done(grid, SSL)

    def test_a_missing_grid_json_beside_cells_is_told(self, grid, capsys):
        grid.grid_json.unlink()
        extend(grid, config(), FakeStore, Axes(losses=("focal",), folds=(0,)))
        assert f"{grid.grid_json} is missing, but there are cells" in capsys.readouterr().out
        assert grid.exists

    def test_an_edited_record_of_a_cell_is_named_by_the_report(self, grid):
        path = grid.cell_json(SSL.name)
        edit(path, '"attempts": 1', '"attempts": 7')
        (problem,) = [line for line in discover(grid.path).problems if str(path) in line]
        assert problem.startswith(f"{path}: it has changed") and problem.endswith("are lost")
        path.unlink()
        assert not [line for line in discover(grid.path).problems if str(path) in line]
