"""The table of runs of several planes: means over patients, and paired gains of their average."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import planes
from brats_jax.evaluation.several_runs import MEAN, FoldLabels
from brats_jax.inference.postprocess import Cleaning


def values(shift):
    """Dice 0.5, 0.6, 0.7 plus a shift, and HD95 10 mm, of each region in three patients."""
    dice = np.array([0.5, 0.6, 0.7]) + shift
    return {
        (metric, region): dice if metric == "dice" else np.full(3, 10.0)
        for _, metric, *_ in planes.COLUMNS
        for region in planes.REGIONS
    }


def test_the_table_has_means_over_patients_and_the_gains_are_paired():
    found = {"a": values(0.0), "b": values(np.array([0.1, 0.0, 0.05])), "mean": values(0.1)}
    lines = planes.table(found, ["axial", "coronal", "all"]).splitlines()
    assert lines[2] == "| a | axial | 0.600 | 0.600 | 0.600 |" + " 10.0 |" * 6
    assert lines[4].startswith("| mean | all | 0.700 |")
    gains = planes.gains(found).splitlines()
    assert gains[2] == "| a | " + " | ".join(["+0.100 (+0.100 to +0.100)"] * 4) + " |"
    assert gains[3].startswith("| b | +0.050 (")


def fold(speck):
    """A cube of ED 4 mm wide, found with `speck` voxels of ED besides and 2 voxels of ET."""
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[2:6, 2:6, 2:6] = 2
    found = truth.copy()
    found[3, 3, 3:5] = 3
    found[10, 10, :speck] = 2
    return FoldLabels(
        patients=("a",),
        spacing_mm=((1.0, 2.0, 5.0),),
        truths=(truth,),
        predicted={"run": (found,), MEAN: (truth,)},
        air=(np.zeros(truth.shape, bool),),
    )


def test_a_fold_is_cleaned_with_the_sizes_of_the_others():
    """A voxel has 10 mm3: four of them are removed from 50 mm3 on, nine from 100 mm3 on."""
    waiting = planes.Waiting()
    for number, labels in enumerate((fold(4), fold(9))):
        waiting.add(number, labels)
    found, sizes = dict(waiting.cleaned()), waiting.sizes_of_all()
    before, truth = fold(4).predicted["run"][0], fold(4).truths[0]
    np.testing.assert_array_equal(found[0].predicted["run"][0] != 0, truth != 0)
    # The sizes of fold 0 leave the larger speck of fold 1.
    assert (found[1].predicted["run"][0][10] == 2).sum() == 9
    assert not (found[0].predicted["run"][0] == 3).any() and (before == 3).sum() == 2
    air = Cleaning(clear_air=True)
    assert sizes == {"run": Cleaning(100.0, 50.0, clear_air=True), MEAN: air}
    np.testing.assert_array_equal(found[0].predicted[MEAN][0], truth)


@pytest.fixture
def two_models(monkeypatch):
    """Runs `a` and `b` of one plane each, of two folds; the labels of `b` have a speck more."""

    def run_of(folders, mesh, named):
        (name,) = (folder.path.name for folder in folders)
        return [SimpleNamespace(name=name, plane=named, splits=SimpleNamespace(digest="x"))]

    def predict(runs, number, *, tta):
        found = fold(0 if runs[0].name == "a" else 9)
        own = found.predicted["run"]
        return found._replace(patients=(f"P{number}",), predicted={"run": own, MEAN: own})

    monkeypatch.setattr(planes.several_runs, "open_runs", run_of)
    monkeypatch.setattr(planes.several_runs, "common_folds", lambda runs: [0, 1])
    monkeypatch.setattr(planes.several_runs, "predict", predict)
    monkeypatch.setattr(planes.devices, "use_compilation_cache", lambda asked: None)


def test_the_gain_of_removing_tumour_in_air_is_printed(two_models, monkeypatch, capsys):
    def predict(runs, number, *, tta):
        found = fold(9)
        air = np.zeros_like(found.air[0])
        air[10] = True  # all nine voxels besides the cube
        own = found.predicted["run"]
        return found._replace(air=(air,), predicted={"run": own, MEAN: own})

    monkeypatch.setattr(planes.several_runs, "predict", predict)
    monkeypatch.setattr("sys.argv", ["planes.py", "--runs=b", "--planes=axial", "--clear_air"])
    planes.main()
    lines = capsys.readouterr().out.splitlines()
    before = 2 * 64 / (64 + 73)
    assert lines[2].startswith(f"| run | axial | {before:.3f} |")
    after = lines[lines.index("Without tumour in air:") :]
    assert after[4].startswith("| run | axial | 1.000 |")
    gain = 1 - before
    wanted = f"| run, with it | {gain:+.3f} ({gain:+.3f} to {gain:+.3f}) | +0.000"
    assert any(line.startswith(wanted) for line in after)


def test_the_mean_of_other_runs_is_beside_that_of_the_runs(two_models, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["planes.py", "--runs=a", "--against=b", "--planes=axial"])
    planes.main()
    lines = capsys.readouterr().out.splitlines()
    # A cube of 64 voxels: found whole, and with nine voxels besides.
    assert lines[3].startswith("| mean of all | all | 1.000 |")
    assert lines[4].startswith(f"| mean of all, b | all | {2 * 64 / (64 + 73):.3f} |")
    gain = 1 - 2 * 64 / (64 + 73)
    assert lines[-2].startswith(f"| mean of all, b | {gain:+.3f} ({gain:+.3f} to {gain:+.3f}) |")
    assert lines[-1] == "2 patients; folds 0, 1"
