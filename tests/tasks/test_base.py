import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax.tasks import Pretraining, Segmentation


@pytest.mark.parametrize("task", [Pretraining(), Segmentation()])
def test_another_compute_type_is_no_other_network(task):
    half = task.computing_in(jnp.bfloat16)
    assert half.dtype == jnp.bfloat16 and half.describe() == task.describe()
    assert dataclasses.replace(half, dtype=task.dtype) == task


def test_a_task_uses_patients_with_all_modalities_that_it_needs():
    present = np.array([[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1]], bool)
    assert Pretraining().usable(present).tolist() == [True, True, False, False]
    assert Segmentation().usable(present).tolist() == [True, False, False, False]
    assert Segmentation(inputs=("t2",)).usable(present).tolist() == [True, False, True, True]


def test_a_task_reads_a_slice_first_and_then_its_neighbours():
    image = np.arange(4.0) * np.ones((1, 1, 1, 1))
    near = 10 * (1 + np.arange(8.0)) * np.ones((1, 1, 1, 1))
    batch = {"image": jnp.asarray(image), "neighbours": jnp.asarray(near)}
    task = Segmentation(inputs=("flair", "t1"), context=1)
    assert task.stem_channels == ("flair", "t1", "flair@-1", "t1@-1", "flair@+1", "t1@+1")
    assert task.test_input(batch).ravel().tolist() == [3, 0, 40, 10, 80, 50]
    assert task.describe()["context"] == 1 and "context" not in Segmentation().describe()
