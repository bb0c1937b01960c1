from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from brats_jax import models
from brats_jax.data.augment import NONE, Augmentation
from brats_jax.models import Supervised
from brats_jax.tasks import Segmentation


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


def test_with_regions_their_dice_chooses_and_that_of_the_classes_stands_beside_it():
    """TC predicted where there is ED alone: WT is right, TC and NCR are invented, ED is missed."""
    truth = np.full((1, 2, 2), 2, np.uint8)
    output = np.broadcast_to(np.float32([1, 1, -1]), (1, 2, 2, 3))
    task = Segmentation(outputs_name="regions")
    scores = task.summarise(jax.device_get(task.validate(jnp.asarray(output), jnp.asarray(truth))))
    assert task.metric == "mean_region_dice" and scores["mean_region_dice"] == 0.5
    assert (scores["dice_WT"], scores["dice_TC"], scores["mean_foreground_dice"]) == (1, 0, 0)
    assert np.isnan(scores["dice_ET"]) and "dice_background" in scores
    assert task.result(jnp.asarray(output)).tolist() == [[[1, 1], [1, 1]]]


def test_volume_dice_sums_the_slices_of_a_patient_and_counts_agreement_on_absence_as_one():
    """Patient 7: ED of 4 pixels over two slices, half of it found. Patient 9: no tumour, or 1 ET.

    WT of 7: 2 * 2 / (2 + 4) = 2/3; it has no TC and no ET, and none is predicted: 1.
    """
    truth = np.zeros((4, 2, 2), np.uint8)
    truth[0, 0], truth[2, 1] = 2, 2
    predicted = np.zeros((4, 2, 2), np.int64)
    predicted[0, 0] = 2
    task = Segmentation(selection_metric="volume_dice")
    assert task.metric == "volume_dice" and task.validates_volumes and task.larger_is_better
    assert not Segmentation().validates_volumes

    def scores_of(predicted):
        output = jnp.asarray(np.eye(4)[predicted])
        found = jax.device_get(task.validate(output, jnp.asarray(truth)))
        return task.summarise({**found, "patient": np.array([7, 9, 7, 9])})

    scores = scores_of(predicted)
    np.testing.assert_allclose(scores["volume_dice_WT"], (2 / 3 + 1) / 2)
    assert scores["volume_dice_TC"] == scores["volume_dice_ET"] == 1
    np.testing.assert_allclose(scores["volume_dice"], (5 / 6 + 2) / 3)
    assert "mean_foreground_dice" in scores and "dice_ED" in scores
    predicted[3, 0, 0] = 3
    invented = scores_of(predicted)
    np.testing.assert_allclose(invented["volume_dice_WT"], (2 / 3 + 0) / 2)
    assert invented["volume_dice_TC"] == invented["volume_dice_ET"] == 0.5


def test_deep_supervision_concerns_training_alone():
    """The description, which a checkpoint holds, and the network for inference are the same."""
    plain, deep = Segmentation(width=8), Segmentation(width=8, deep_supervision=True)
    assert deep.describe() == plain.describe()
    shapes = [models.abstract(lambda t=t: t.build(0))[1:] for t in (plain, deep)]
    assert shapes[0] == shapes[1]
    trained = models.abstract(lambda: deep.build_to_train(0))[1]
    assert models.without_auxiliary(trained) == shapes[0][0] != trained


def test_the_auxiliary_heads_count_in_the_loss():
    labels = jnp.ones((1, 8, 8), jnp.uint8)
    right = 20.0 * jax.nn.one_hot(labels, 4)
    auxiliary = {s: jnp.zeros((1, 8 // s, 8 // s, 4)) for s in (2, 4, 8)}
    task = Segmentation(deep_supervision=True)
    found = task.loss(Supervised(right, auxiliary), labels)
    each = [task.loss(auxiliary[s], labels[:, ::s, ::s]) for s in (2, 4, 8)]
    expected = task.loss(right, labels) + each[0] / 2 + each[1] / 4 + each[2] / 8
    np.testing.assert_allclose(found, expected / 1.875, rtol=1e-5)


def test_outside_of_a_turned_patch_is_the_background_of_the_inputs():
    """Modality k is k + 1 everywhere, and -(k + 1) in the background."""
    turning = replace(NONE, rotation=True, rotation_range=(30.0, 30.0), spatial_probability=1.0)
    task = Segmentation(inputs=("flair", "t1"), augmentation=turning)
    assert task.slice_facts == {"background"} and not Segmentation(augmentation=NONE).slice_facts
    numbers = np.arange(1, 5, dtype=np.float16)
    batch = {
        "image": jnp.asarray(np.broadcast_to(numbers, (2, 16, 16, 4))),
        "label": jnp.ones((2, 16, 16), jnp.uint8),
        "seed": jnp.arange(2, dtype=jnp.uint32),
        "background": jnp.asarray(np.broadcast_to(-numbers, (2, 4))),
    }
    x, labels = task.prepare(batch, training=True)
    outside = np.asarray(labels) == 0
    assert outside[:, 0, 0].all() and not outside[:, 8, 8].any()
    for channel, value in enumerate((4, 1)):
        expected = np.where(outside, -value, value)
        np.testing.assert_allclose(x[..., channel], expected, rtol=1e-5)
    np.testing.assert_array_equal(task.prepare(batch, training=False)[1], 1)


EVERYTHING = dict.fromkeys(
    ("rotation", "scaling", "blur", "low_resolution", "modality_intensity"), True
)


def test_the_network_reads_the_same_bits_whatever_stands_in_missing_modalities():
    rng = np.random.default_rng(1)
    present = np.array([[1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]], bool)
    batch = {
        "image": rng.standard_normal((3, 16, 16, 4)).astype(np.float16),
        "label": rng.integers(0, 4, (3, 16, 16)).astype(np.uint8),
        "seed": np.arange(3, dtype=np.uint32),
        "background": rng.standard_normal((3, 4)).astype(np.float16),
        "neighbours": rng.standard_normal((3, 16, 16, 8)).astype(np.float16),
        "neighbours_background": rng.standard_normal((3, 8)).astype(np.float16),
        "present": present,
    }
    junk = {
        name: np.where(
            np.tile(present, array.shape[-1] // 4).reshape(3, *[1] * (array.ndim - 2), -1),
            array,
            np.float16(np.nan),
        )
        for name, array in batch.items()
        if array.dtype == np.float16
    }
    task = Segmentation(
        inputs=("flair", "t1", "t2", "t1gd"),
        context=1,
        modality_dropout=0.5,
        augmentation=Augmentation(**EVERYTHING),
    )
    for training in (False, True):
        x, _ = task.prepare(batch, training=training)
        again, _ = task.prepare({**batch, **junk}, training=training)
        assert np.asarray(again).tobytes() == np.asarray(x).tobytes()
        assert x.shape[-1] == len(task.stem_channels) == 4 * 3 + 4
        told = np.asarray(x[..., -4:])
        assert (told == told[:, :1, :1]).all() and set(np.unique(told)) <= {0, 1}
        assert (told[:, 0, 0] <= present[:, [3, 0, 2, 1]]).all()
        if not training:
            np.testing.assert_array_equal(told[:, 0, 0], present[:, [3, 0, 2, 1]])
            assert task.test_input(batch).tolist() == x.tolist()
    assert task.stem_channels[-4:] == ("has:flair", "has:t1", "has:t2", "has:t1gd")


def test_a_network_for_missing_modalities_learns_from_patients_that_lack_some():
    present = np.array([[1, 1, 1, 1], [1, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], bool)
    task = Segmentation(modality_dropout=0.25)
    assert task.usable(present).tolist() == [True, True, True, False]
    assert task.testable(present).tolist() == [True, False, False, False]
    assert Segmentation(inputs=("t1", "t2"), modality_dropout=1.0).usable(present).tolist() == [
        True, True, False, False,
    ]  # fmt: skip
    assert task.describe()["modality_dropout"] == 0.25
    assert "modality_dropout" not in Segmentation().describe()
