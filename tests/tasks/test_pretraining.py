from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from brats_jax import losses
from brats_jax.data.augment import NONE, Augmentation
from brats_jax.data.modalities import channel_indices
from brats_jax.models import DECODERS, resnet
from brats_jax.pretexts import PRETEXTS, Options
from brats_jax.tasks import Pretraining, Segmentation

SMALL_BLOCKS = Options(mask_block=2)

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
    x, target = Pretraining(inputs=("t2", "t1"), targets=("t1gd",)).prepare(batch, training=False)
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


# Pretexts

CHANNELS = {"any_to_any": (4, 4), "masked": (4, 4), "autoencode": (2, 2), "denoise": (2, 2)}


def with_all_that_tasks_want(batch):
    rng = np.random.default_rng(1)
    donor = jnp.asarray(rng.standard_normal(batch["image"].shape), jnp.float16)
    corner = batch["image"][:, 0, 0]
    return {**batch, "donor": donor, "background": corner, "donor_background": donor[:, 0, 0]}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", PRETEXTS)
def test_every_pretext_has_inputs_and_outputs_for_its_network(name, decoder, batch, monkeypatch):
    monkeypatch.setattr(resnet, "BLOCKS", (1, 1, 1, 1))
    task = Pretraining(pretext_name=name, decoder=decoder, width=4, options=SMALL_BLOCKS)
    channels = CHANNELS.get(name, (2, 1))
    assert (len(task.stem), len(task.outputs)) == channels
    x, target = task.prepare(with_all_that_tasks_want(batch), training=True)
    assert x.shape == task.test_input(batch).shape == (3, 8, 8, channels[0])
    output = jax.eval_shape(lambda x: task.build(0)(x, train=False), x)
    assert output.shape == getattr(target, "image", target).shape == (3, 8, 8, channels[1])
    assert output.dtype == jnp.float32


def test_the_target_of_shuffled_is_the_donors(batch):
    batch = with_all_that_tasks_want(batch)
    x, target = Pretraining(pretext_name="shuffled").prepare(batch, training=False)
    np.testing.assert_array_equal(x, channels(batch, ["t1", "t1gd"]))
    np.testing.assert_array_equal(target[..., 0], batch["donor"][..., 3].astype(jnp.float32))


@pytest.mark.parametrize("name", ["cross_modality", "shuffled"])
def test_outside_of_turned_patches_input_and_target_are_the_background_of_their_slices(name, batch):
    """Images are 1 to 4 by modality, the donor's 5 to 8; backgrounds the same below 0."""
    turning = replace(NONE, rotation=True, rotation_range=(30.0, 30.0), spatial_probability=1.0)
    task = Pretraining(pretext_name=name, augmentation=turning, loss_name="brain_mse")
    own = jnp.broadcast_to(jnp.arange(1, 5, dtype=jnp.float16), (3, 8, 8, 4))
    images = {"image": own, "donor": own + 4}
    corners = {"background": -own[:, 0, 0], "donor_background": -own[:, 0, 0] - 4}
    x, target = task.prepare({**batch, **images, **corners}, training=True)
    outside = np.asarray(x[..., 0]) < 0
    assert outside[:, 0, 0].all() and not outside[:, 3:5, 3:5].any()
    value = 8 if name == "shuffled" else 4
    np.testing.assert_allclose(x[..., 1], np.where(outside, -2, 2), rtol=1e-5)
    np.testing.assert_allclose(target.image[..., 0], np.where(outside, -value, value), rtol=1e-5)
    np.testing.assert_array_equal(target.weight[..., 0], ~outside)  # no brain outside


def test_hidden_pixels_are_zero_after_augmentation_too_and_alone_count(batch):
    """Brightness would otherwise move them; the target keeps its intensity."""
    bright = Augmentation(
        flip=False, quarter_turn=False, gamma=False, noise=False, intensity_probability=1.0
    )
    task = Pretraining(pretext_name="masked", options=SMALL_BLOCKS, augmentation=bright)
    x, target = task.prepare(batch, training=True)
    hidden = np.asarray(target.weight, bool)
    assert 0 < hidden.mean() < 1
    assert not np.asarray(x)[hidden].any()
    every = channels(batch, ["t1", "t1gd", "t2", "flair"])
    assert (np.asarray(x)[~hidden] != every[~hidden]).mean() > 0.9
    np.testing.assert_array_equal(target.image, every)
    wrong = jnp.where(hidden, target.image, 99.0)  # where nothing was hidden
    assert float(task.loss(wrong, target)) == 0 < float(task.loss(wrong + 1, target))


def test_brain_and_missing_modalities_weigh_the_loss(batch):
    """The first pixel of each slice is background; it turns with the image."""
    task = Pretraining(loss_name="brain_mse", augmentation=FLIPS)
    present = np.array([[1, 1, 1, 1]] * 2 + [[1, 1, 1, 0]]) > 0
    given = {**with_all_that_tasks_want(batch), "present": present}
    _, target = task.prepare(given, training=True)
    weight = np.asarray(target.weight)[..., 0]
    assert weight[:2].sum(axis=(1, 2)).tolist() == [63, 63] and not weight[2].any()
    for k, row, column in np.argwhere(weight[:2] == 0):
        assert float(target.image[k, row, column, 0]) == batch["image"][k, 0, 0, 3]
    off = target.image + 2.0
    assert float(task.loss(off, target)) == pytest.approx(4)
    scores = task.summarise(jax.device_get(task.validate(off, target)))
    assert scores["mse"] == pytest.approx(4)


def test_where_nothing_counts_the_loss_is_zero(batch):
    given = {**with_all_that_tasks_want(batch), "present": np.zeros((3, 4), bool)}
    for loss in losses.RECONSTRUCTION_LOSSES:
        task = Pretraining(loss_name=loss)
        _, target = task.prepare(given, training=False)
        output = jnp.ones_like(target.image)
        assert float(task.loss(output, target)) == 0
        scores = task.summarise(jax.device_get(task.validate(output, target)))
        assert scores["mse"] == 0 == scores[task.metric]


def test_the_similarity_of_the_brain_is_a_loss_and_then_chooses_the_checkpoint():
    """Against scikit-image, whose windows of which the centre is in the brain are averaged."""
    real, found = np.random.default_rng(0).normal(size=(2, 2, 20, 24)).astype(np.float32)
    real[:, :6] = 0  # of which the first pixel is the background
    images = np.zeros((2, 20, 24, 4), np.float32)
    images[..., 3] = real
    given = {"image": images, "background": np.zeros((2, 4), np.float32)}
    task = Pretraining(loss_name="brain_ssim")
    _, target = task.prepare(given, training=False)
    brain = real != 0
    windows = []
    for x, y, counts in zip(found, real, brain, strict=True):
        _, similar = structural_similarity(y, x, data_range=float(np.ptp(y)), full=True)
        inner = slice(3, -3), slice(3, -3)
        windows += similar[inner][counts[inner]].tolist()
    scores = task.summarise(jax.device_get(task.validate(found[..., None], target)))
    assert (task.metric, task.larger_is_better) == ("ssim", True)
    assert scores["ssim"] == pytest.approx(np.mean(windows), abs=1e-5)
    error = np.abs(found - real)[brain].mean()
    expected = 0.84 * (1 - np.mean(windows)) + 0.16 * error
    assert float(task.loss(found[..., None], target)) == pytest.approx(expected, abs=1e-5)
    assert float(task.loss(real[..., None], target)) == pytest.approx(0, abs=1e-6)


def test_the_absolute_error_is_a_loss():
    target = jnp.zeros((1, 2, 2, 1))
    assert float(Pretraining(loss_name="l1").loss(target - 3, target)) == 3


def test_who_trains_any_to_any_is_evaluated_with_inputs_and_target_only():
    """Of all; all but T2; all but FLAIR; T2 alone."""
    present = np.array([[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0], [0, 0, 1, 0]], bool)
    task = Pretraining(pretext_name="any_to_any")
    assert task.usable(present).all()
    assert task.testable(present).tolist() == [True, True, False, False]
    assert Pretraining(pretext_name="masked").testable(present).all()
