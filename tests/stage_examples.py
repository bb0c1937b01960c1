"""A training stage on a small store, and what disturbs it. Not tests."""

import copy
import dataclasses
import itertools
import os
import signal

import jax
import numpy as np
from meshes import mesh_of
from pointwise import PointwiseTask

from brats_jax.data.augment import Augmentation
from brats_jax.runs.documents import TrainingFacts
from brats_jax.runs.folder import StageFolder
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.training.checkpointing import restore_last
from brats_jax.training.options import TrainOptions
from brats_jax.training.trainer import Stage

OPTIONS = TrainOptions(
    epochs=2,
    steps_per_epoch=7,
    batch_size=4,
    learning_rate=1e-2,
    patch_size=16,
    validation_batch_size=8,
    save_every_steps=100,
    log_every_steps=3,
)
TASK = PointwiseTask(augmentation=Augmentation(quarter_turn=False, gamma=False))


def stage_of(
    store, directory, task=TASK, mesh=None, dispatch_steps=None, transferred=None, **options
):
    return Stage(
        task,
        store,
        np.arange(20, 60),
        np.arange(10),
        dataclasses.replace(OPTIONS, **options),
        StageFolder(directory),
        mesh or mesh_of(2),
        transferred=transferred,
        record=TrainingFacts(split_by="patient"),
        dispatch_steps=dispatch_steps,
    )


def final_state(stage):
    _, state = stage.initial_state()
    return jax.device_get(restore_last(stage.folder, state, stage.task.describe())[0])


def numbers(stage, event=None):
    """The records of metrics.jsonl without the clock."""
    return [
        {k: v for k, v in r.items() if k != "patches_per_second"}
        for r in read_metrics(stage.folder.metrics_jsonl)
        if event in (None, r["event"])
    ]


def assert_same_outcome(one, other):
    jax.tree.map(np.testing.assert_array_equal, final_state(one), final_state(other))
    assert numbers(one) == numbers(other)


def disturbed(store, disturb, patches=True, after=0):
    """The store, except that its read number `after` of patches (or whole slices) disturbs."""
    disturbed, numbers = copy.copy(store), itertools.count()

    def windows(slices, rows, columns, size):
        if (size == (16, 16)) == patches and next(numbers) == after:
            disturb()
        return store.windows(slices, rows, columns, size)

    disturbed.windows = windows
    return disturbed


def sigterm():
    os.kill(os.getpid(), signal.SIGTERM)
