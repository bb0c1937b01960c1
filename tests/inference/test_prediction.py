"""Prediction from files to files."""

import shutil

import prediction_examples as examples
import pytest

from brats_jax.about import RESEARCH_USE_ONLY
from brats_jax.errors import BratsError
from brats_jax.inference.output_names import OutputOptions
from brats_jax.inference.prediction import predict
from brats_jax.inference.prediction_outcome import Outcome

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def run(example_runs):
    return example_runs["volume"] / "run"


def test_a_case_is_written_and_counted(run, example_runs, tmp_path, capsys):
    name = examples.CASES[0]
    source, out = example_runs["volume"] / "cases" / name, tmp_path / "out"
    outcome = predict(run, str(source), out, OutputOptions())
    assert outcome == Outcome(written={name: out / f"{name}_seg.nii.gz"})
    assert (out / f"{name}_seg.nii.gz").exists()
    printed = capsys.readouterr().out
    assert RESEARCH_USE_ONLY in printed and "1 case;" in printed
    assert "1 written, 0 kept, 0 failed" in printed
    assert f"volumes: {out / 'volumes.csv'}" in printed
    again = predict(run, str(source), out, OutputOptions())
    assert not again.written and list(again.kept) == [name]
    # Only files that there are: the page is not drawn of a prediction that is kept.
    capsys.readouterr()
    kept = predict(run / "fold_0", str(source), out, OutputOptions(page=True))
    assert "without page; --overwrite" in kept.kept[name]
    assert "page:" not in capsys.readouterr().out
    predict(run / "fold_0", str(source), out, OutputOptions(page=True, overwrite=True))
    assert f"page: {out / f'{name}_seg.html'}" in capsys.readouterr().out


def test_missing_modalities_are_named_and_nothing_is_written(run, tmp_path):
    (tmp_path / "t1.nii").write_text("")
    message = "--t1gd and --flair and --t2 are missing: the model needs --t1gd --t2 --flair"
    with pytest.raises(BratsError, match=message):
        predict(run, {"t1": str(tmp_path / "t1.nii")}, tmp_path / "out", OutputOptions())
    assert not (tmp_path / "out").exists()


def test_a_folder_in_which_no_case_can_be_predicted_leaves_no_empty_output(
    run, example_runs, tmp_path
):
    name = examples.CASES[0]
    shutil.copytree(example_runs["volume"] / "cases" / name, tmp_path / "in" / name)
    (tmp_path / "in" / name / f"{name}_t2.nii.gz").unlink()
    outcome = predict(run, str(tmp_path / "in"), tmp_path / "out", OutputOptions())
    assert "no T2 volume" in outcome.failed[name]
    assert not (tmp_path / "out").exists()
    (tmp_path / "own").mkdir()
    predict(run, str(tmp_path / "in"), tmp_path / "own", OutputOptions())
    assert (tmp_path / "own").is_dir()  # of the user


def test_an_output_that_is_a_file_is_refused_before_the_model_is_loaded(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BratsError, match="is a file: choose another"):
        predict(tmp_path / "no run", "no case", tmp_path / "file", OutputOptions())


def test_what_a_run_needs_is_refused_once_for_all_cases(run, example_runs, tmp_path):
    cases = str(example_runs["volume"] / "cases")
    with pytest.raises(BratsError, match=r"^--leave_out=t2: the model needs T2; or give a model"):
        predict(run, cases, tmp_path / "out", OutputOptions(), leave_out=["t2"])
    assert not (tmp_path / "out").exists()


def test_files_whose_names_contradict_each_other_count_in_the_summary(
    run, example_runs, tmp_path, capsys
):
    name = examples.CASES[0]
    folder = example_runs["volume"] / "cases" / name
    kinds = {"t1": "t2", "t1gd": "t1ce", "t2": "t1", "flair": "flair"}  # T1 and T2 exchanged
    files = {of: str(folder / f"{name}_{kind}.nii.gz") for of, kind in kinds.items()}
    outcome = predict(run / "fold_0", files, tmp_path / "out", OutputOptions())
    assert outcome.doubtful == [*outcome.written] and len(outcome.doubtful) == 1
    printed = capsys.readouterr().out
    assert f"1 written (1 with a WARNING: {outcome.doubtful[0]}), 0 kept" in printed
