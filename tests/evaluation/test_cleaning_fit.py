"""The sizes of the cleaning: of volumes that a pencil can score, and of held-out patients."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from brats_jax.data.modalities import REGIONS
from brats_jax.data.splits import make_splits
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation import cleaning_fit
from brats_jax.evaluation.cleaning_fit import COMPONENTS_MM3, ET_MM3, fit_cleaning
from brats_jax.evaluation.held_out_patients import Volume
from brats_jax.evaluation.stated_scores import cleanings_of
from brats_jax.inference.postprocess import Cleaning
from brats_jax.inference.trained_run import open_run
from brats_jax.metrics import overlap
from brats_jax.runs.documents.cleaning import FittedCleaning
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh
from brats_jax.runtime.document import read_document

DISTANCE = np.sqrt(240**2 + 240**2 + 155**2)  # HD95 of BraTS 2020 where one mask is empty


@pytest.fixture(scope="module")
def trained(example_runs, shallow, tmp_path_factory):
    """A copy of the example run with two folds and a test patient, opened."""
    run = tmp_path_factory.mktemp("run") / "run"
    shutil.copytree(example_runs["volume"] / "run", run, ignore=lambda *_: {"pretrain"})
    return open_run(run, "segment", data_mesh())


def volume_of(*boxes, truth=(), shape=(12, 10, 8), spacing=(5.0, 5.0, 4.0)):
    """Voxels of 100 mm3; a box is (label, first and last row) of whole rows of 8 voxels."""
    labels = []
    for wanted in (boxes, truth):
        made = np.zeros(shape, np.uint8)
        for label, first, last in wanted:
            made[first : last + 1, 0] = label
        labels.append(made)
    return Volume(*labels, spacing, np.zeros(shape, bool))


def table_of(change):
    """A patient with Dice 0.5, but `change[component, ET]`, in every region."""
    table = np.full((len(COMPONENTS_MM3), len(ET_MM3), 3), 0.5)
    for (component, et), dice in change.items():
        table[COMPONENTS_MM3.index(component) :, ET_MM3.index(et) :] = dice
    return table


def test_the_table_is_the_dice_after_every_cleaning():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, p=(0.93, 0.02, 0.03, 0.02), size=(2, 12, 10, 8)).astype(np.uint8)
    labels[:, :5, :5, :5] = rng.integers(0, 4, (5, 5, 5))
    air = rng.random(labels[0].shape) < 0.1
    for spacing in ((1.0, 1.0, 1.0), (5.0, 5.0, 4.0)):
        volume = Volume(labels[0], labels[1], spacing, air)
        table = cleaning_fit.dice_table(volume)
        pairs = itertools.product(range(len(COMPONENTS_MM3)), range(len(ET_MM3)))
        for c, e in pairs:
            sizes = Cleaning(COMPONENTS_MM3[c], ET_MM3[e], clear_air=True)
            cleaned = sizes.apply(labels[0], volume.voxel_mm3, air)
            counts = overlap.region_counts(cleaned[None], labels[1][None], [*REGIONS.values()])
            np.testing.assert_array_equal(table[c, e], overlap.dice_under(counts[0], "brats2020"))
        assert len(np.unique(table[..., 2])) > 2
    nothing = volume_of(truth=[(2, 0, 0)])
    assert (cleaning_fit.dice_table(nothing) == (0, 1, 1)).all()


def chosen(component=0.0, et=0.0):
    """Sizes as `choose` returns them: with tumour in air removed."""
    return Cleaning(component, et, clear_air=True)


def test_the_smallest_sizes_of_the_highest_mean_are_chosen():
    assert cleaning_fit.choose([table_of({})]) == chosen()
    # 0.6 from 200 on for one of two patients; more changes nothing.
    assert cleaning_fit.choose([table_of({(200, 0): 0.6}), table_of({})]) == chosen(200, 0)
    # What helps one patient and hurts the other as much is left out.
    hurts = table_of({(200, 0): 0.4})
    assert cleaning_fit.choose([table_of({(200, 0): 0.6}), hurts]) == chosen()
    both = table_of({(50, 0): 0.6, (50, 500): 0.7, (1000, 500): 0.7005})
    assert cleaning_fit.choose([both]) == chosen(50, 500)  # 0.0005 more is no gain
    assert cleaning_fit.choose([table_of({(0, 50): 0.6})]) == chosen(0, 50)


def test_a_volume_is_scored_without_and_with_cleaning():
    # 24 of 32 voxels of ED found, and an ET of 8 voxels, 0.8 ml, apart from it; the case has none.
    volume = volume_of((2, 0, 2), (3, 8, 8), truth=[(2, 0, 3)])
    found = cleaning_fit.measure(volume, Cleaning(1000, 0))
    np.testing.assert_allclose(found.before.dice, (48 / 64, 0, 0))
    np.testing.assert_allclose(found.after.dice, (48 / 56, 1, 1))
    assert found.before.et_ml == 0.8 and found.after.et_ml == 0 and not found.has_et
    np.testing.assert_allclose(found.before.hd95_mm[1:], DISTANCE)
    np.testing.assert_allclose(found.after.hd95_mm[1:], 0)
    assert 0 < found.after.hd95_mm[0] <= 5 < found.before.hd95_mm[0]
    # Relabelled as NCR/NET, it is still in the tumour core.
    core = cleaning_fit.measure(volume, Cleaning(0, 1000)).after
    np.testing.assert_allclose(core.dice, (48 / 64, 0, 1))
    same = cleaning_fit.measure(volume, Cleaning(800, 800))
    assert same.after is same.before
    # The ET lies in air.
    volume.air[8] = True
    cleared = cleaning_fit.measure(volume, Cleaning(clear_air=True))
    np.testing.assert_array_equal(cleared.after.dice, found.after.dice)


def test_patients_are_pooled_or_averaged_by_training():
    def measured(dice, hd95, et_ml=0.0):
        return cleaning_fit.VolumeScores(np.full(3, dice), np.full(3, hd95), et_ml)

    first = [(measured(0.2, 1.0, 0.3), False), (measured(0.4, 5.0, 0.3), True)]
    second = [(measured(0.9, 90.0, 0.2), False)]
    pooled = cleaning_fit.scores_of_groups([first + second])
    assert pooled.dice == pytest.approx(dict.fromkeys(REGIONS, 0.5))
    assert pooled.hd95_mm == dict.fromkeys(REGIONS, 5.0) and pooled.invented_et == 1
    averaged = cleaning_fit.scores_of_groups([first, second])
    assert averaged.dice == pytest.approx(dict.fromkeys(REGIONS, 0.6))
    assert averaged.hd95_mm == dict.fromkeys(REGIONS, 46.5)


def test_a_run_is_scored_on_its_test_set_with_sizes_of_its_validation_sets(trained):
    lines = list(fit_cleaning(trained, None, 8))
    path = RunFolder(trained.run).cleaning_json
    found = read_document(path, FittedCleaning)
    fitted = found.fitted
    assert (fitted.patients, fitted.measured_patients, fitted.trainings) == (2, 1, 2)
    assert found.belongs_to(member.hash for member in trained.members)
    assert [fold.step for fold in found.folds] == [7, 7] and fitted.measured_on == "test"
    assert "fitted on 2 patients, each predicted by a fold that has not trained" in lines[0]
    assert f"WT {fitted.before.dice['WT']:.3f} -> {fitted.after.dice['WT']:.3f}" in lines[1]
    assert cleanings_of(trained) == ((fitted,), []) and fitted.clear_air
    assert lines[0].startswith("tumour in air is removed; ")
    assert lines[-1].startswith(f"written to {path}; predict uses it (")
    path.write_text("mine")
    with pytest.raises(BratsError, match=r"\.json is not as this program writes it .*: kept; move"):
        next(fit_cleaning(trained, None, 8))
    assert path.read_text() == "mine"
    path.unlink()


def test_each_average_has_sizes_of_its_own(trained):
    """The fit to flips stays beside that to single predictions; `load` takes the one it needs."""
    lines = list(fit_cleaning(trained, None, 8, tta=True))
    flips = RunFolder(trained.run).cleaning_of(("axial",), tta=True)
    assert lines[-1].startswith(f"written to {flips}; predict --tta uses it (")
    assert "predictions averaged over flips" in lines[0]
    (fitted,), _ = cleanings_of(trained)
    assert fitted.tta and fitted == read_document(flips, FittedCleaning).fitted
    list(fit_cleaning(trained, None, 8))
    single, of_flips = cleanings_of(trained)[0]
    assert of_flips == fitted and not single.tta
    with pytest.raises(BratsError, match="--planes: the run was trained on axial slices, not cor"):
        next(fit_cleaning(trained, None, 8, planes=("coronal",)))
    for path in RunFolder(trained.run).cleanings():
        path.unlink()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"all_train": True}, r"none is held out to fit sizes to; .*export this one with --scores"),
        ({"split_by": "slice", "num_folds": 2}, "was split by slice: no whole volume is held out"),
        ({"test_fraction": 0.0, "num_folds": 3}, "one trained fold of a cross-validation"),
    ],
)
def test_a_run_without_whole_patients_that_are_held_out_is_refused(trained, options, message):
    folder = RunFolder(trained.run)
    before = folder.splits_json.read_bytes()
    store = Store.open(Path(trained.document.settings.data.store))
    make_splits(store, **options).write(folder.splits_json)
    with pytest.raises(BratsError, match=message):
        next(fit_cleaning(dataclasses.replace(trained, members=trained.members[:1]), None, 8))
    folder.splits_json.write_bytes(before)
    assert not folder.cleaning_json.exists()


def test_each_fold_of_a_cross_validation_is_scored_with_the_sizes_of_the_others(
    trained, monkeypatch
):
    folder = RunFolder(trained.run)
    store = Store.open(Path(trained.document.settings.data.store))
    make_splits(store, test_fraction=0.0, num_folds=2).write(folder.splits_json)
    # The sizes that would be chosen tell how many patients they were chosen on.
    monkeypatch.setattr(cleaning_fit, "choose", lambda tables: Cleaning(0, 1e6 + len(tables)))
    lines = list(fit_cleaning(trained, None, 8))
    found = read_document(folder.cleaning_json, FittedCleaning)
    fitted = found.fitted
    assert fitted.min_et_mm3 == 1e6 + 3 == 1e6 + fitted.patients
    assert sorted(fold.min_et_mm3 for fold in found.folds) == [1e6 + 1, 1e6 + 2]
    assert fitted.measured_on == "cross-validation" and fitted.measured_patients == 3
    assert any("sizes that fit the others (component/ET in mm3): fold 0 0/" in x for x in lines)
    # All ET of every patient is gone, and becomes tumour core.
    assert fitted.lowers_dice == any("the mean of these Dice is lower with" in x for x in lines)
    without = sum(not store.pixels[store.slices_of(p), 3].any() for p in store.patients)
    assert fitted.without_et == without and fitted.after.dice["ET"] == without / 3
    assert fitted.after.dice["TC"] == fitted.before.dice["TC"] != fitted.before.dice["ET"]
