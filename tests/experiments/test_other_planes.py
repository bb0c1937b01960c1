"""A training that also reads slices of other planes, and the predictions that it allows."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from experiment_examples import config_of

from brats_jax import inference
from brats_jax.data.modalities import REGIONS
from brats_jax.data.planes import PLANES
from brats_jax.data.splits import make_splits
from brats_jax.data.store.reader import Store
from brats_jax.data.store.several_planes import open_planes
from brats_jax.errors import BratsError
from brats_jax.evaluation import several_runs
from brats_jax.evaluation.panel_slices import PanelSlices
from brats_jax.evaluation.subset_summary import format_subsets
from brats_jax.evaluation.tallies import SCORED, SegmentationTally
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, split_options
from brats_jax.experiments.fold import Fold
from brats_jax.runs import checkpoints
from brats_jax.runs.documents import Evaluation, RunConfig, StageTraining
from brats_jax.runs.documents.subsets import SubsetEvaluation, SubsetFiles, SubsetSummary
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh
from brats_jax.runtime.document import read_document

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def copies(plane_stores, tmp_path_factory):
    """Stores that may be removed, by plane."""
    folder = tmp_path_factory.mktemp("stores")
    for plane, store in plane_stores.items():
        shutil.copytree(store.path, folder / plane)
    return {plane: folder / plane for plane in PLANES}


@pytest.fixture(scope="module")
def config(copies, compiled_programs):
    return config_of(
        Store.open(copies["axial"]),
        compiled_programs,
        ssl=False,
        data__other_planes=f"{copies['coronal']},{copies['sagittal']}",
        data__patch_size=16,
        data__test_fraction=0.0,
        segment__epochs=1,
        segment__steps_per_epoch=0,
        evaluation__panels=0,
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory, shallow):
    folder = tmp_path_factory.mktemp("run") / "run"
    experiment.run(config, folder)
    return RunFolder(folder)


def test_training_reads_the_slices_of_its_patients_in_every_plane(run, plane_stores):
    fold = run.fold(0)
    training = read_document(fold.stage("segment").training_json, StageTraining)
    tested = json.loads(run.splits_json.read_text())["folds"][0]
    expected = 0
    for store in plane_stores.values():
        of_training = ~np.isin(np.array(store.subjects)[store.patient_of], tested)
        expected += int((store.has_tumour & of_training).sum())
    assert training.slices == training.of_slices == expected
    assert training.patients == 5 - len(tested)
    assert training.steps_per_epoch == expected // 4  # an epoch is a pass over all of them
    record = checkpoints.read_meta(fold.stage("segment").best).record
    assert record.planes == PLANES and record.slice_shape == (32, 24)
    rows = json.loads(run.summary_json.read_text())["rows"]
    patients = {row["count"] for row in rows if row["convention"] == "brats2020"}
    assert patients == {len(tested)}  # a patient is tested once, in axial slices


def test_it_goes_on_with_the_same_stores_and_is_evaluated_without(run, config, copies, capsys):
    started = read_document(run.config_json, RunConfig).store
    assert set(started.other_planes) == {"coronal", "sagittal"}
    experiment.run(config, run.path)
    assert "fold 0 segment: complete, skipped" in capsys.readouterr().out
    fewer = config.copy_and_resolve_references()
    fewer.data.other_planes = str(copies["coronal"])
    with pytest.raises(BratsError, match="started with other slices of the sagittal plane"):
        experiment.run(fewer, run.path)
    away = copies["sagittal"].rename(copies["sagittal"].with_name("away"))
    try:
        experiment.run(config, run.path, "evaluate")
        with pytest.raises(BratsError, match="there is no store at"):
            experiment.run(config, run.path)
    finally:
        away.rename(copies["sagittal"])


def test_a_split_by_slice_is_refused(config, tmp_path):
    by_slice = config.copy_and_resolve_references()
    by_slice.data.split_by = "slice"
    with pytest.raises(BratsError, match=r"other_planes with config\.data\.split_by=slice"):
        experiment.run(by_slice, tmp_path / "run")


def test_one_network_predicts_in_every_plane_and_the_mean_decides(run, plane_stores):
    store = plane_stores["axial"]
    images, _ = store.read(np.array(store.slices_of(store.patients[0])))
    alone = [inference.load(run.path, planes=[plane]).ensemble for plane in PLANES]
    each = [one.mean_outputs(images)[0] for one in alone]
    assert not np.allclose(each[0], each[1], atol=1e-3)
    model = inference.load(run.path, planes="all")
    assert model.ensemble.size == 3 and model.averaged.planes == PLANES
    assert model.averaged.count == 3
    mean, views = model.ensemble.mean_outputs(images)
    np.testing.assert_allclose(mean, np.mean(each, axis=0), atol=1e-6)
    assert views.shape == (3, *images.shape[:3])
    # Without a choice, and with that of the store's plane, it is one prediction as of any run.
    default = inference.load(run.path)
    np.testing.assert_array_equal(default.ensemble.mean_outputs(images)[0], each[0])
    assert default.averaged == inference.load(run.path, planes="axial").averaged
    assert default.trained.hash == model.trained.hash


def test_planes_that_the_network_does_not_know_are_refused(run, plane_runs):
    with pytest.raises(
        BratsError, match="was trained on axial, coronal and sagittal slices, not oblique"
    ):
        inference.load(run.path, planes="axial,oblique")
    for odd in (None, 5, [1]):
        with pytest.raises(BratsError, match="give all, or names"):
            inference.load(run.path, planes=odd)
    assert inference.load(run.path, planes=" Coronal,all").trained.planes == PLANES
    with pytest.raises(BratsError, match="was trained on coronal slices, not axial; give all"):
        inference.load(plane_runs["coronal"], planes="axial")


def test_a_run_is_scored_in_each_of_its_planes_and_in_their_mean(run):
    opened = several_runs.open_runs([run], data_mesh(), "all")
    assert [one.plane for one in opened] == [*PLANES]
    found = several_runs.predict(opened, 0, tta=False)
    assert list(found.predicted) == [*(f"{run.path} ({p})" for p in PLANES), several_runs.MEAN]
    with pytest.raises(BratsError, match="several planes of one"):
        several_runs.open_runs([run], data_mesh())


def test_an_evaluation_averages_over_the_planes(run, config, tmp_path, capsys):
    """The same counts as of the mean in `several_runs`; everything says so."""
    found = several_runs.predict(several_runs.open_runs([run], data_mesh(), "all"), 0, tta=False)
    expected = several_runs.tally(found, tolerance_mm=1.0)[several_runs.MEAN]
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    changed = config.copy_and_resolve_references()
    changed.evaluation.planes, changed.evaluation.panels = "all", 2
    experiment.run(changed, copy.path, "evaluate")
    assert "Of the segmentation predictions averaged over planes" in capsys.readouterr().out
    evaluation = read_document(copy.fold(0).evaluation_json, Evaluation)
    assert evaluation.planes == "axial,coronal,sagittal"
    tally = SegmentationTally.load(copy.fold(0).tally("segment"))[0]
    np.testing.assert_array_equal(tally.counts, expected.counts)
    assert (tally.counts != SegmentationTally.load(run.fold(0).tally("segment"))[0].counts).any()
    panels = PanelSlices.load(copy.fold(0).segmentation_npz)
    volumes = dict(zip(found.patients, found.predicted[several_runs.MEAN], strict=True))
    for patient, number, drawn in zip(
        panels.patients, panels.numbers, panels.prediction, strict=True
    ):
        np.testing.assert_array_equal(drawn, volumes[patient][number])
    # What cannot be evaluated leaves the evaluation as it is.
    whole = Store.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "open", lambda path: without_a_slice(whole(path)))
        with pytest.raises(BratsError, match="and other planes are cut from whole volumes"):
            experiment.run(changed, copy.path, "evaluate")
    assert read_document(copy.fold(0).evaluation_json, Evaluation) == evaluation
    changed.evaluation.planes = "axial,oblique"
    with pytest.raises(BratsError, match=r"evaluation\.planes=axial,oblique: give all, or with"):
        experiment.run(changed, copy.path, "evaluate")


def test_subsets_of_the_modalities_are_averaged_over_the_planes_of_the_evaluation(
    run, config, tmp_path
):
    """From all modalities the counts of the usual evaluation; other planes are evaluated anew."""
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    changed = config.copy_and_resolve_references()
    changed.evaluation.subsets = True
    files = SubsetFiles(copy.fold(0).path)
    experiment.run(changed, copy.path, "evaluate")
    axial = read_document(files.json, SubsetEvaluation)
    assert axial.planes == ""
    changed.evaluation.planes = "all"
    experiment.run(changed, copy.path, "evaluate")
    found = read_document(files.json, SubsetEvaluation)
    assert found.planes == "axial,coronal,sagittal" and found.is_complete
    assert found.subsets != axial.subsets
    tally = SegmentationTally.load(copy.fold(0).tally("segment"))[0]
    for region in REGIONS:
        of_slices = tally.counts[:, list(SCORED).index(region)].sum(axis=0).tolist()
        assert np.sum(found.subsets[-1].counts[region], axis=0).tolist() == of_slices
    summary = read_document(SubsetFiles(copy.path).json, SubsetSummary)
    assert "predictions averaged over planes" in format_subsets(summary)


def without_a_slice(store):
    store.whole[:] = False
    return store


def test_planes_that_the_training_does_not_read_cannot_be_evaluated(config, copies, tmp_path):
    changed = config.copy_and_resolve_references()
    changed.data.other_planes, changed.evaluation.planes = str(copies["coronal"]), "axial,sagittal"
    with pytest.raises(BratsError, match="was trained on axial and coronal slices, not sagittal"):
        experiment.run(changed, tmp_path / "run")
    changed.ssl = True  # config.json would keep the planes
    with pytest.raises(BratsError, match="not sagittal"):
        experiment.run(changed, tmp_path / "run", "pretrain")
    changed.ssl = False
    changed.evaluation.planes = ""
    changed.data.other_planes = f"{copies['coronal']}, ,"
    with pytest.raises(BratsError, match=r"other_planes=.*give the folders of stores"):
        experiment.run(changed, tmp_path / "run")
    changed.data.other_planes = f" {copies['coronal']} "
    with pytest.raises(BratsError, match="lies in the store"):
        experiment.run(changed, copies["coronal"] / "run")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_in_planes_that_the_network_does_not_know_changes_nothing(
    run, config, tmp_path
):
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    before = copy.fold(0).evaluation_json.read_bytes()
    changed = config.copy_and_resolve_references()
    changed.evaluation.planes = "sagittal"
    meta = checkpoints.read_meta(copy.fold(0).stage("segment").best)
    record = dataclasses.replace(meta.record, other_planes=("coronal",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "read_meta", lambda *_: dataclasses.replace(meta, record=record))
        with pytest.raises(BratsError, match="was trained on axial and coronal slices, not sagit"):
            experiment.run(changed, copy.path, "evaluate")
    assert copy.fold(0).evaluation_json.read_bytes() == before


def test_validation_is_on_slices_of_the_first_store_as_they_are(copies, config, tmp_path):
    """Of coronal slices, which are smaller than axial ones."""
    changed = config.copy_and_resolve_references()
    changed.data.store, changed.data.other_planes = str(copies["coronal"]), str(copies["axial"])
    settings = parse(changed)
    store = Store.open(copies["coronal"])
    planes = open_planes(store, settings.data.other_stores)
    splits = make_splits(store, **split_options(settings))
    fold = Fold(settings, store, splits, RunFolder(tmp_path).fold(0), data_mesh(), None, planes)
    stage = fold.stage("segment")
    assert stage.store.slice_shape == (32, 24)
    assert stage.validation_store.slice_shape == (32, 16)
    assert stage.validation_slices.max() < store.num_slices < stage.train_slices.max()
