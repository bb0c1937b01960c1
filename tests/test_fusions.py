"""Every fusion with a narrow ResNet: trained, stopped and resumed, exported and loaded."""

import contextlib
import dataclasses
import itertools
import json

import jax
import nibabel
import numpy as np
import prediction_examples as examples
import pytest
from meshes import mesh_of
from stage_examples import numbers, sigterm
from tiny_fusion import Pyramid

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.splits import load_or_make_splits
from brats_jax.data.store.reader import Store
from brats_jax.experiments.config import parse, segmentation, split_options
from brats_jax.experiments.continuation import describe_store, versions
from brats_jax.inference import stablehlo, weights_writer
from brats_jax.inference.inputs import find_cases
from brats_jax.inference.model import Model
from brats_jax.inference.several_runs import open_models
from brats_jax.models import unet
from brats_jax.runs.documents import RunConfig, TrainingFacts
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.signals import Interrupted
from brats_jax.training import step_programs, trainer, validation
from brats_jax.training.checkpointing import restore_last
from brats_jax.training.options import TrainOptions

NAMES = ("early", "encoders", "encoders:own", "attention", "stem")
INPUTS = ("flair", "t1gd")
STEPS = 4
OPTIONS = TrainOptions(
    epochs=1,
    steps_per_epoch=STEPS,
    batch_size=4,
    learning_rate=1e-2,
    patch_size=32,
    validation_batch_size=4,
    save_every_steps=100,
    log_every_steps=1,
)


@pytest.fixture(scope="module", autouse=True)
def light_decoder():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "UNetDecoder", Pyramid)
        yield


@contextlib.contextmanager
def compiled_once(stop_at):
    """Stages within it share one compiled step, and have scores of 0, which take no compiling.

    Number `stop_at` of all their steps is sent SIGTERM. Yields the numbers of the steps to come.
    """
    make, make_validation, made = step_programs.make_train_step, validation.make_validation_step, []
    steps = itertools.count(1)

    def counted(*given, **options):
        if not made:
            made.append(make(*given, **options))

        def run(state, batch):
            if next(steps) == stop_at:
                sigterm()
            return made[0](state, batch)

        return run

    def of_zeros(*given, **options):
        step = make_validation(*given, **options)

        def run(*inputs):
            if len(made) == 1:
                made.append(jax.eval_shape(step, *inputs))
            return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), made[1])

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_programs, "make_train_step", counted)
        patch.setattr(validation, "make_validation_step", of_zeros)
        yield steps


def begun(name, store, folder):
    """(task, run folder) of a run that is not trained yet."""
    fusion, _, weights = name.partition(":")
    config = examples.tiny_config(store)
    config.model.fusion, config.model.fusion_weights = fusion, weights or "shared"
    config.segment.modality_dropout, config.segment.inputs = 0.5, INPUTS
    settings, run = parse(config), RunFolder(folder)
    document = RunConfig(dict(settings.document), describe_store(store), versions())
    document.write(run.config_json)
    load_or_make_splits(run.splits_json, store, **split_options(settings))
    return dataclasses.replace(segmentation(settings), augmentation=None), run


@pytest.fixture(scope="module", params=NAMES)
def fused(request, example_runs, shallow, light_decoder, tmp_path_factory):
    """(whole stage, resumed stage, run folder of the resumed one)."""
    store = Store.open(example_runs["volume"] / "store")
    task, run = begun(request.param, store, tmp_path_factory.mktemp("fused") / "run")
    facts = TrainingFacts(
        split_by="patient", normalisation="volume", slice_shape=tuple(store.slice_shape)
    )

    def stage(folder):
        slices = np.arange(6, 18), np.arange(6)
        return trainer.Stage(task, store, *slices, OPTIONS, folder, mesh_of(1), record=facts)

    folder = run.fold(0).stage("segment")
    whole = stage(RunFolder(run.path.parent / "whole").fold(0).stage("segment"))
    with compiled_once(stop_at=STEPS + 2) as steps:
        whole.run()
        with pytest.raises(Interrupted):
            stage(folder).run()
        resumed = stage(folder)
        resumed.run().write(folder.complete_json)
        assert next(steps) == 2 * STEPS + 1
    return whole, resumed, run.path


def test_a_training_that_was_stopped_ends_with_the_same_bits(fused):
    whole, resumed, _ = fused
    _, state = whole.initial_state()
    ends = [restore_last(one.folder, state, one.task.describe())[0] for one in (whole, resumed)]
    jax.tree.map(np.testing.assert_array_equal, *ends)
    assert numbers(whole) == numbers(resumed)


@pytest.mark.filterwarnings("ignore:T1Gd missing:UserWarning")
def test_a_run_its_exports_and_its_subsets_give_the_same_labels(fused, example_runs, tmp_path):
    _, resumed, run = fused
    task = resumed.task
    model = Model(open_models(run / "fold_0", "segment", mesh_of(1), calibrated=False))
    case = example_runs["volume"] / "cases" / examples.CASES[1]
    scan = model.scan(case)
    images = model.normalise(scan)
    labels = model.ensemble.segment(images).labels
    assert model.trained.task == task and len(np.unique(labels)) > 1

    # What stands in the place of a missing image does not count: probabilities, and any case.
    there = np.isin(MODALITIES, ["flair"])
    alone, _ = model.ensemble.mean_outputs(images, ("flair",))
    for junk in (np.nan, 77):
        spoilt = np.where(there, images, images.dtype.type(junk))
        assert model.ensemble.mean_outputs(spoilt, ("flair",))[0].tobytes() == alone.tobytes()
    assert model.ensemble.mean_outputs(images)[0].tobytes() != alone.tobytes()
    assert model.ensemble._add._cache_size() == 1
    (files,) = find_cases(case)
    arrays = {name: np.asarray(nibabel.load(path).dataobj) for name, path in files.paths.items()}
    hiding = Model(model.trained, leave_out=("t1gd",))
    hiding.ensemble = model.ensemble
    np.testing.assert_array_equal(
        hiding.segment({**arrays, "t1gd": np.full_like(arrays["t1gd"], 77)}),
        model.segment({"flair": arrays["flair"]}),
    )

    options = weights_writer.WeightsOptions(dtype="float32")
    weights_writer.write(model.trained, tmp_path / "weights", options)
    loaded = Model(open_models(tmp_path / "weights", "segment", mesh_of(1), calibrated=False))
    assert loaded.trained.task == task and loaded.trained.hash == model.trained.hash
    loaded.ensemble._add = model.ensemble._add  # compiled; it is given the weights
    np.testing.assert_array_equal(loaded.ensemble.segment(images).labels, labels)

    stablehlo.write(model.trained, tmp_path / "exported", slice_shape=examples.SHAPE[:2])
    content = (tmp_path / "exported" / "segment.stablehlo").read_bytes()
    program = jax.export.deserialize(bytearray(content))
    raw = scan.images.astype(np.float32)
    exported = np.asarray(program.call(raw, np.ones(4, bool)))
    assert (exported == labels).mean() > 0.99
    of_subset = np.asarray(program.call(raw, there))
    junk = np.where(there, raw, np.float32(np.nan))
    np.testing.assert_array_equal(program.call(junk, there), of_subset)
    document = json.loads((tmp_path / "exported" / "segment.json").read_text())
    assert [one["name"] for one in document["inputs"]] == ["images", "present"]
    assert document["model"].get("fusion", "early") == task.fusion_name
    assert document["model"]["modality_dropout"] == 0.5
