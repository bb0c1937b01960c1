"""The stages of one fold, before they run."""

from pathlib import Path

import jax
import numpy as np
import pytest
from experiment_examples import config_of

from brats_jax.data.splits import load_or_make_splits
from brats_jax.data.store.reader import Store
from brats_jax.experiments.config import parse, pretraining, split_options
from brats_jax.experiments.fold import Fold
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


def fold_of(config, workdir):
    """Fold 0 of an experiment, in a run folder that may be empty."""
    settings = parse(config)
    store = Store.open(Path(settings.data.store))
    folder = RunFolder(workdir)
    splits = load_or_make_splits(folder.splits_json, store, **split_options(settings))
    return Fold(settings, store, splits, folder.fold(0), data_mesh())


def test_the_encoder_of_the_second_stage_is_that_of_the_first(finished):
    workdir, config, _ = finished
    encoder = fold_of(config, workdir).stage("segment").initial_state()[1].params["encoder"]
    source = RestoredNetwork(
        pretraining(parse(config)), RunFolder(workdir).fold(0).stage("pretrain"), data_mesh()
    ).params["encoder"]
    old, new = (np.asarray(tree["conv1"]["kernel"]) for tree in (source, encoder))
    np.testing.assert_array_equal(new[:, :, :2], old)  # T1, T1Gd
    assert new[:, :, 2:].std() > 0.01  # T2, FLAIR: random
    for part in ("layer1", "layer4", "bn1"):
        jax.tree.map(np.testing.assert_array_equal, encoder[part], source[part])


def test_a_share_of_the_labels_means_fewer_patients_and_as_many_steps(small_store, tmp_path):
    few = config_of(small_store, tmp_path, data__label_fraction=0.3, data__selection="validation")
    few.segment.steps_per_epoch = few.pretrain.steps_per_epoch = 0
    fold = fold_of(few, tmp_path / "run")
    people = fold.splits.folds[1] + fold.splits.folds[2]
    assert len(people) in (4, 5)  # eight, one of them for the test, in three folds
    pretrain, segment = fold.stage("pretrain"), fold.stage("segment")
    drawn = {int(i) for i in segment.plan.examples(0, 4 * segment.total_steps).slices}
    assert len({small_store.patient_of[i] for i in drawn}) == 2
    training = fold.describe("segment")
    assert training.steps == segment.total_steps
    assert (training.patients, training.of_patients) == (2, len(people))
    assert training.slices == len(drawn) < training.of_slices
    assert training.steps_per_epoch == training.of_slices // 4
    assert training.steps == 2 * training.steps_per_epoch
    # The first stage needs no labels.
    assert len(pretrain.plan) == 16 * len(people)
    assert fold.describe("pretrain").patients == len(people)
