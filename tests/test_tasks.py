import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax.data.augment import Augmentation
from brats_jax.data.modalities import channel_indices
from brats_jax.errors import BratsError
from brats_jax.tasks import Pretraining, Segmentation, task_of

FLIPS = Augmentation(
    quarter_turn=False, intensity_scale=False, intensity_shift=False, gamma=False, noise=False
)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.standard_normal((3, 8, 8, 4)), jnp.float16),
        "label": jnp.asarray(rng.integers(0, 4, (3, 8, 8)), jnp.uint8),
        "seed": jnp.arange(3, dtype=jnp.uint32),
    }


def channels(batch, names):
    return np.asarray(batch["image"], np.float32)[..., list(channel_indices(names))]


def test_pretraining_predicts_the_target_from_the_inputs(batch):
    x, target = Pretraining(inputs=("t2", "t1"), target="t1gd").prepare(batch, training=False)
    np.testing.assert_array_equal(x, channels(batch, ["t2", "t1"]))
    np.testing.assert_array_equal(target, channels(batch, ["t1gd"]))
    assert x.dtype == target.dtype == jnp.float32


def test_segmentation_predicts_the_labels_from_the_inputs(batch):
    x, target = Segmentation(inputs=("flair", "t1")).prepare(batch, training=False)
    np.testing.assert_array_equal(x, channels(batch, ["flair", "t1"]))
    np.testing.assert_array_equal(target, batch["label"])


@pytest.mark.parametrize("kind", [Pretraining, Segmentation])
def test_input_and_target_are_flipped_together_and_in_training_only(kind, batch):
    task = kind(augmentation=FLIPS)
    plain = task.prepare(batch, training=False)
    flipped = task.prepare(batch, training=True)
    moved = 0
    for i in range(3):
        views = [lambda a: a, lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a[::-1, ::-1]]
        same = [
            all(np.array_equal(view(p[i]), f[i]) for p, f in zip(plain, flipped, strict=True))
            for view in views
        ]
        assert sum(same) == 1
        moved += not same[0]
    assert moved


def test_mean_squared_error_is_given_for_each_slice():
    output = jnp.stack([jnp.zeros((4, 4, 1)), jnp.full((4, 4, 1), 3.0)])
    task = Pretraining()
    statistics = jax.device_get(task.validate(output, jnp.ones_like(output)))
    np.testing.assert_array_equal(statistics["mse"], [1, 4])
    assert task.summarise(statistics) == {"mse": 2.5}
    assert float(task.loss(output, jnp.ones_like(output))) == 2.5


def test_dice_counts_the_slices_with_the_class_in_truth_or_prediction():
    """Slice 0: NCR found exactly. Slice 1: ED missed. ET is nowhere."""
    truth = np.zeros((2, 2, 2), np.uint8)
    truth[0, 0], truth[1, 0] = 1, 2
    output = np.zeros((2, 2, 2, 4))
    output[0, 0, :, 1] = 9
    task = Segmentation()
    scores = task.summarise(jax.device_get(task.validate(jnp.asarray(output), jnp.asarray(truth))))
    assert scores["dice_NCR/NET"] == 1 and scores["dice_ED"] == 0 and np.isnan(scores["dice_ET"])
    assert scores["mean_foreground_dice"] == 0.5


def test_without_any_foreground_the_mean_dice_is_zero():
    counts = np.zeros((3, 4, 3), np.int64)
    counts[:, 0, 0] = 4
    assert Segmentation().summarise({"counts": counts})["mean_foreground_dice"] == 0


@pytest.mark.parametrize(
    "task",
    [
        Pretraining(inputs=("t2",), target="t1", width=8),
        Segmentation(inputs=("t1", "flair"), width=4),
    ],
)
def test_a_description_gives_its_task_back(task):
    assert task_of(task.describe()) == task
    half = task_of(task.describe(), jnp.bfloat16)
    assert half == task.computing_in(jnp.bfloat16) != task


@pytest.mark.parametrize(
    "change",
    [
        {"task": "translate"},
        {"inputs": ["ct"]},
        {"outputs": ["liver"]},
        {"outputs": []},
        {"width": None, "depth": 3},
        {"inputs": None},
    ],
)
def test_a_description_of_an_unknown_network_is_refused(change):
    for task in (Pretraining(), Segmentation()):
        with pytest.raises(BratsError, match="checkpoint of an unknown network"):
            task_of({**task.describe(), **change})


def test_a_task_uses_patients_with_all_modalities_that_it_needs():
    present = np.array([[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1]], bool)
    assert Pretraining().usable(present).tolist() == [True, True, False, False]
    assert Segmentation().usable(present).tolist() == [True, False, False, False]
    assert Segmentation(inputs=("t2",)).usable(present).tolist() == [True, False, True, True]
