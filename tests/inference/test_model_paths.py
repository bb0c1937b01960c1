"""What is at the path or name of a model, and the lines about paths without one."""

import shutil
import subprocess
import sys

import pytest

from brats_jax.errors import BratsError
from brats_jax.inference import model_paths

pytestmark = pytest.mark.usefixtures("shallow")


def test_models_are_found_by_path_and_by_name(ready, trained_fold):
    assert model_paths.ready_models() == ["small"]
    for path in ("small", trained_fold, trained_fold.parent, ready / "weights" / "small"):
        model_paths.check_exists(path)


def test_an_exported_program_is_no_model(ready):
    folder = ready / "exported"
    folder.mkdir()
    (folder / "segment.stablehlo").touch()
    for also, named in (
        ("segment.json", r"segment\.stablehlo"),
        ("segment.onnx", r"segment\.stablehlo and segment\.onnx"),
    ):
        (folder / also).touch()
        with pytest.raises(
            BratsError, match=rf"'exported' holds exported programs \({named}\), .*--format=weights"
        ):
            model_paths.check_exists("exported")


def test_names_of_several_models_are_split_at_commas(tmp_path):
    assert model_paths.split("a,small,") == ["a", "small"]
    assert model_paths.split("small,") == model_paths.split("small") == ["small"]
    assert model_paths.split(",") == [","]
    comma = tmp_path / "a,b"
    comma.mkdir()
    assert model_paths.split(comma) == [str(comma)]


@pytest.mark.parametrize("command", ("predict", "export", "calibrate"))
def test_commands_refuse_a_wrong_path_before_jax_is_imported(command, tmp_path):
    files = {"predict": ["--input=.", "--output=out"], "export": ["--output=out"]}.get(command, [])
    script = (
        "import runpy, sys; sys.modules['jax'] = None; "
        f"runpy.run_module('brats_jax.{command}', run_name='__main__', alter_sys=True)"
    )
    arguments = [sys.executable, "-c", script, "--checkpoint=runs/none", *files]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "'runs/none': no run there (there is no such" in done.stderr


def test_another_name_is_one_line_that_lists_the_ready_models(ready, monkeypatch):
    with pytest.raises(BratsError, match=r"'runs/x': no run.* ready model: small$"):
        model_paths.check_exists("runs/x")
    for name in ("smal", "Small", "smalll"):
        with pytest.raises(BratsError, match=f"'{name}': no run .*did you mean 'small'"):
            model_paths.check_exists(name)
    monkeypatch.setattr(model_paths, "READY", ready / "none")
    with pytest.raises(BratsError, match="this installation has no ready models"):
        model_paths.check_exists("small")
    for name in ("../weights/small", "x/../../y"):  # a name is no path
        with pytest.raises(BratsError, match="no run there"):
            model_paths.check_exists(name)


def test_the_line_says_what_is_at_the_path_and_which_runs_are_below(ready, trained_fold):
    (ready / "scans").mkdir()
    (ready / "notes.txt").touch()
    for name, what in (
        ("big", "there is no such folder"),
        ("scans", "the folder holds no run"),
        ("notes.txt", "it is a file"),
    ):
        with pytest.raises(BratsError, match=rf"'{name}': no run there \({what}\).*: small$"):
            model_paths.check_exists(name)
    for name in ("a", "b"):
        shutil.copytree(trained_fold.parent, ready / "runs" / name)
    with pytest.raises(BratsError, match=r"'runs': no run there, but in it: give runs/a or runs/b"):
        model_paths.check_exists("runs")


def test_several_runs_are_for_prediction_alone(ready, trained_fold):
    with pytest.raises(BratsError, match=r"only predict and brats_jax\.load average several"):
        model_paths.check_exists(f"{trained_fold},small")


def test_weights_whose_description_is_gone_are_named(ready):
    folder = ready / "weights" / "small"
    (folder / "config.json").unlink()
    with pytest.raises(BratsError, match=r"config\.json is missing, but there are weights beside"):
        model_paths.check_exists(folder)


def test_runs_are_not_looked_for_in_exported_weights(ready):
    from brats_jax.runs.folder import RunFolder, find_runs

    assert not RunFolder(ready / "weights" / "small").exists
    assert list(find_runs(ready)) == []


def test_a_fold_that_a_run_does_not_have_is_refused_with_those_that_it_has(trained_fold):
    run = trained_fold.parent
    with pytest.raises(BratsError, match=rf"{run} has no fold 7: give {trained_fold} or "):
        model_paths.check_exists(run / "fold_7")
