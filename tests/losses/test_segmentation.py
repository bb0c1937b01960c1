"""Losses of the segmentation: MONAI's and torch's stored values, optax, values by hand."""

import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from brats_jax import losses
from brats_jax.errors import BratsError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "monai_losses.npz")
LOGITS, LABELS, ALPHA = GOLDEN["logits"], GOLDEN["labels"], GOLDEN["alpha"].tolist()

# name in the golden file -> (our loss, MONAI's value is ours divided by this)
PEERS = {
    "cross_entropy": (losses.cross_entropy, 1),
    "dice_ce": (losses.dice_ce, 1),
    "dice_focal": (losses.dice_focal, 1),
    "focal_alpha": (lambda x, y: losses.focal(x, y, alpha=ALPHA), 4),
}
for gamma in (0.0, 0.5, 2.0, 3.0):
    PEERS[f"focal_{gamma:g}"] = (lambda x, y, g=gamma: losses.focal(x, y, gamma=g), 4)
for background in (False, True):
    for pooled in (False, True):
        PEERS[f"dice_{background:d}{pooled:d}"] = (
            lambda x, y, b=background, p=pooled: losses.dice_loss(
                x, y, include_background=b, pooled=p
            ),
            1,
        )


def test_every_stored_loss_has_a_peer_here():
    assert {n for n in GOLDEN.files if f"{n}/grad" in GOLDEN.files} == set(PEERS)


@pytest.mark.parametrize("name", PEERS)
def test_value_and_gradient_are_monais(name):
    loss, factor = PEERS[name]
    value, gradient = jax.jit(jax.value_and_grad(loss))(LOGITS, LABELS)
    np.testing.assert_allclose(value, factor * GOLDEN[name], rtol=1e-5)
    np.testing.assert_allclose(gradient, factor * GOLDEN[f"{name}/grad"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("include_background", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
def test_dice_is_optaxs_but_for_rounding(include_background, pooled):
    def optaxs(x, y):
        return optax.losses.dice_loss(
            x,
            jax.nn.one_hot(y, x.shape[-1]),
            smooth=losses.SMOOTH / 2,
            ignore_background=not include_background,
            axis=(0, 1, 2) if pooled else (1, 2),
        ).mean()

    def ours(x, y):
        return losses.dice_loss(x, y, include_background=include_background, pooled=pooled)

    value, gradient = jax.jit(jax.value_and_grad(ours))(LOGITS, LABELS)
    expected, expected_gradient = jax.jit(jax.value_and_grad(optaxs))(LOGITS, LABELS)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    "loss",
    [
        losses.cross_entropy,
        losses.dice_loss,
        lambda x, y: losses.dice_loss(x, y, pooled=False, include_background=True),
        lambda x, y: losses.focal(x, y, alpha=ALPHA),
        lambda x, y: losses.focal(x, y, gamma=0.7),
        losses.dice_ce,
        losses.dice_focal,
    ],
)
def test_gradient_is_that_of_finite_differences(loss):
    with jax.enable_x64(True):
        x = jnp.asarray(LOGITS[:2, :3, :2], jnp.float64)
        y = LABELS[:2, :3, :2]
        assert jax.eval_shape(loss, x, y).dtype == jnp.float64
        run = jax.jit(jax.vmap(lambda x: loss(x, y)))
        steps = 1e-6 * jnp.eye(x.size, dtype=jnp.float64).reshape(x.size, *x.shape)
        numeric = (run(x + steps) - run(x - steps)) / 2e-6
        gradient = jax.jit(jax.grad(loss))(x, y).ravel()
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)


def test_two_pixels_by_hand():
    # Two pixels, two classes, probabilities of the truth 3/4 and 1/2.
    x = jnp.log(jnp.array([[[[0.25, 0.75], [0.5, 0.5]]]]))
    y = jnp.array([[[1, 0]]])
    np.testing.assert_allclose(losses.cross_entropy(x, y), -math.log(0.75 * 0.5) / 2, rtol=1e-6)
    expected = -(0.25**2 * math.log(0.75) + 0.5**2 * math.log(0.5)) / 2
    np.testing.assert_allclose(losses.focal(x, y), expected, rtol=1e-6)
    weighted = -(3 * 0.25**2 * math.log(0.75) + 2 * 0.5**2 * math.log(0.5)) / 2
    np.testing.assert_allclose(losses.focal(x, y, alpha=(2, 3)), weighted, rtol=1e-6)
    # Class 1: overlap 0.75, predicted 1.25, true 1. Class 0: 0.5, 0.75, 1.
    foreground, background = 1 - 1.5 / 2.25, 1 - 1 / 1.75
    np.testing.assert_allclose(losses.dice_loss(x, y), foreground, rtol=1e-4)
    both = losses.dice_loss(x, y, include_background=True)
    np.testing.assert_allclose(both, (foreground + background) / 2, rtol=1e-4)


def test_the_dice_of_present_classes_leaves_the_absent_ones_out():
    labels = np.array([0, 1, 1, 3], np.uint8).reshape(1, 1, 4, 1)
    logits = np.log(np.array([[7, 1, 1, 1], [1, 7, 1, 1], [5, 3, 1, 1], [1, 1, 1, 7]]) / 10)
    logits = logits.reshape(1, 1, 4, 4).swapaxes(1, 2).astype(np.float32).reshape(1, 4, 1, 4)
    labels = labels.reshape(1, 4, 1)
    # p of NCR/NET: 0.1, 0.7, 0.3, 0.1 where the second and third are true; of ET 0.1 x 3, 0.7.
    ncr, et = 1 - 2 * 1.0 / (1.2 + 2), 1 - 2 * 0.7 / (1.0 + 1)
    dice = jax.jit(jax.value_and_grad(partial(losses.dice_loss, present=True)))
    found, gradient = dice(logits, labels)
    np.testing.assert_allclose(found, (ncr + et) / 2, rtol=1e-4)
    everything = losses.dice_loss(logits, labels)
    np.testing.assert_allclose(everything, (ncr + et + 1) / 3, rtol=1e-4)  # ED is in no pixel
    assert np.isfinite(gradient).all()
    nothing = np.zeros_like(labels)
    value, gradient = dice(logits, nothing)
    assert value == 0 and not gradient.any()
    of_loss = losses.get_segmentation_loss("dice_ce", present=True)(logits, nothing)
    np.testing.assert_allclose(of_loss, losses.cross_entropy(logits, nothing) / 2, rtol=1e-6)
    focal = losses.get_segmentation_loss("dice_focal", present=True)(logits, nothing)
    np.testing.assert_allclose(focal, losses.focal(logits, nothing), rtol=1e-6)


def test_without_a_class_the_dice_of_all_pushes_its_probability_to_nothing():
    """Why there is `present`: the smaller the probability, the stronger the push."""

    def push(probability):
        logits = jnp.log(jnp.array([1 - probability, probability])).reshape(1, 1, 1, 2)
        gradient = jax.grad(losses.dice_loss)(logits, jnp.zeros((1, 1, 1), jnp.uint8))
        return float(gradient[..., 1].sum())

    assert push(1e-5) > 100 * push(0.5) > 0


def test_a_perfect_prediction_and_an_absent_class_cost_nothing():
    y = jnp.asarray(LABELS % 3)
    x = 50 * jax.nn.one_hot(y, 4)
    # Class 3 is in neither truth nor prediction.
    for loss in losses.SEGMENTATION_LOSSES.values():
        np.testing.assert_allclose(loss(x, y), 0, atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("name", losses.SEGMENTATION_LOSSES)
def test_extreme_logits_are_finite_right_or_wrong(name, dtype):
    labels = jnp.array([[[0, 1, 2, 3]]], jnp.uint8)
    run = jax.jit(jax.value_and_grad(losses.get_segmentation_loss(name)))
    for sign in (1, -1):
        logits = (sign * 1e4 * (2 * jax.nn.one_hot(labels, 4) - 1)).astype(dtype)
        value, gradient = run(logits, labels)
        assert value.dtype == jnp.float32 and gradient.dtype == dtype
        assert jnp.isfinite(value) and jnp.isfinite(gradient.astype(jnp.float32)).all()
        assert (value < 1e-3) if sign == 1 else (value > 0.9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradient_is_finite_where_the_truth_is_certain(gamma):
    x = jnp.array([[[[200.0, 0.0], [0.0, 0.0], [1e-8, 20.0]]]])
    y = jnp.array([[[0, 0, 1]]])
    gradient = jax.jit(jax.grad(lambda x: losses.focal(x, y, gamma=gamma)))(x)
    assert jnp.isfinite(gradient).all()
    assert gradient[0, 0, 1, 0] < 0


def test_bfloat16_logits_are_computed_in_float32():
    rounded = jnp.asarray(LOGITS, jnp.bfloat16)
    for loss in losses.SEGMENTATION_LOSSES.values():
        np.testing.assert_allclose(
            loss(rounded, LABELS), loss(rounded.astype(jnp.float32), LABELS), rtol=1e-6
        )


def test_devices_do_not_change_the_numbers():
    if jax.device_count() < 2:
        pytest.skip("needs two devices")
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
    data = NamedSharding(mesh, PartitionSpec("data"))
    x, y = LOGITS[:2], LABELS[:2]
    for loss in losses.SEGMENTATION_LOSSES.values():
        run = jax.jit(jax.value_and_grad(loss))
        divided = run(jax.device_put(x, data), jax.device_put(y, data))
        for a, e in zip(divided, run(x, y), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-8)


def test_parameters_reach_the_loss():
    loss = losses.get_segmentation_loss("dice_focal", alpha=ALPHA, gamma=3)
    expected = losses.dice_loss(LOGITS, LABELS) + losses.focal(
        LOGITS, LABELS, alpha=ALPHA, gamma=3.0
    )
    np.testing.assert_allclose(loss(LOGITS, LABELS), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "name, parameters, message",
    [
        ("dice", {}, "'dice'; valid names: dice_ce, dice_focal, focal"),
        ("focal", {"gamma": -1}, "gamma -1"),
        ("focal", {"gamma": math.nan}, "gamma nan"),
        ("focal", {"alpha": (1, -1, 1, 1)}, "alpha"),
        ("focal", {"alpha": (0, 0, 0, 0)}, "alpha"),
        ("dice_ce", {"alpha": (1, 1, 1, 1)}, "no focal term"),
    ],
)
def test_bad_choices_are_refused(name, parameters, message):
    with pytest.raises(BratsError, match=message):
        losses.get_segmentation_loss(name, **parameters)


def test_one_weight_per_class_is_needed():
    loss = losses.get_segmentation_loss("focal", alpha=(1, 2))
    with pytest.raises(BratsError, match="2 values of alpha for 4 classes"):
        loss(LOGITS, LABELS)


# Regions: sigmoids of sets of labels that overlap.

SETS = ((1, 2, 3), (1, 3), (3,))
INSIDE = np.stack([np.isin(LABELS, values) for values in SETS], axis=-1)
SIGMOIDS = LOGITS[..., :3]


def test_the_terms_of_regions_are_optaxs():
    ce = losses.cross_entropy(SIGMOIDS, LABELS, regions=SETS)
    expected = optax.sigmoid_binary_cross_entropy(SIGMOIDS, INSIDE.astype(np.float32)).mean()
    np.testing.assert_allclose(ce, expected, rtol=1e-6)
    for gamma in (0.0, 0.7, 2.0):
        found = losses.focal(SIGMOIDS, LABELS, gamma=gamma, regions=SETS)
        expected = optax.losses.sigmoid_focal_loss(SIGMOIDS, INSIDE, gamma=gamma).mean()
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    for pooled in (True, False):
        found = losses.dice_loss(SIGMOIDS, LABELS, pooled=pooled, regions=SETS)
        axis = (0, 1, 2) if pooled else (1, 2)
        p = 1 / (1 + np.exp(-SIGMOIDS.astype(np.float64)))
        overlap, total = (p * INSIDE).sum(axis), (p + INSIDE).sum(axis)
        by_hand = 1 - (2 * overlap + losses.SMOOTH) / (total + losses.SMOOTH)
        np.testing.assert_allclose(found, by_hand.mean(), rtol=1e-5)


@pytest.mark.parametrize("name", losses.SEGMENTATION_LOSSES)
def test_losses_of_regions_have_the_gradients_of_finite_differences(name):
    alpha = None if name == "dice_ce" else (1, 2, 3)
    loss = losses.get_segmentation_loss(name, alpha=alpha, gamma=1.5, regions=SETS)
    with jax.enable_x64(True):
        x, y = jnp.asarray(SIGMOIDS[:2, :2, :2], jnp.float64), LABELS[:2, :2, :2]
        run = jax.jit(jax.vmap(lambda x: loss(x, y)))
        steps = 1e-6 * jnp.eye(x.size, dtype=jnp.float64).reshape(x.size, *x.shape)
        numeric = (run(x + steps) - run(x - steps)) / 2e-6
        gradient = jax.jit(jax.grad(loss))(x, y).ravel()
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)
    right = jnp.where(INSIDE, 1e4, -1e4)
    for dtype in (jnp.bfloat16, jnp.float32):
        for sign, logits in ((1, right), (-1, -right)):
            value, gradient = jax.jit(jax.value_and_grad(loss))(logits.astype(dtype), LABELS)
            assert jnp.isfinite(value) and jnp.isfinite(gradient.astype(jnp.float32)).all()
            assert (value < 1e-3) if sign == 1 else (value > 0.9)


def test_alpha_weighs_regions():
    found = losses.focal(SIGMOIDS, LABELS, alpha=(1, 0, 0), regions=SETS)
    alone = losses.focal(SIGMOIDS[..., :1], LABELS, regions=SETS[:1])
    np.testing.assert_allclose(3 * found, alone, rtol=1e-6)
    with pytest.raises(BratsError, match="2 values of alpha for 3 regions; give one per region"):
        losses.focal(SIGMOIDS, LABELS, alpha=(1, 2), regions=SETS)


REGIONS = ((1, 2, 3), (1, 3), (3,))


def test_smoothed_targets_spread_their_share_over_the_classes():
    """Cross-entropy is optax's of its smoothed labels; focal loss with gamma 0 is the same."""
    targets = optax.smooth_labels(jax.nn.one_hot(LABELS, 4), 0.2)
    expected = optax.softmax_cross_entropy(jnp.asarray(LOGITS), targets).mean()
    found = losses.cross_entropy(LOGITS, LABELS, smoothing=0.2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(
        losses.focal(LOGITS, LABELS, gamma=0, smoothing=0.2), expected, rtol=1e-5
    )
    x = LOGITS[..., :3]
    inside = jnp.stack([jnp.isin(LABELS, jnp.array(region)) for region in REGIONS], -1)
    expected = optax.sigmoid_binary_cross_entropy(x, 0.8 * inside + 0.1).mean()
    for loss in (losses.cross_entropy, lambda *a, **k: losses.focal(*a, gamma=0, **k)):
        found = loss(x, LABELS, regions=REGIONS, smoothing=0.2)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("regions", [None, REGIONS], ids=["classes", "regions"])
def test_a_smoothed_focal_loss_is_the_mean_over_what_might_be_true(regions):
    """The loss of every class as if it were true, weighted by the target; alpha goes with it."""
    x = LOGITS if regions is None else LOGITS[..., :3]
    alpha = ALPHA[: x.shape[-1]]
    hard = losses.focal(x, LABELS, alpha=alpha, regions=regions)
    if regions is None:
        each = [losses.focal(x, np.full_like(LABELS, k), alpha=alpha) for k in range(4)]
        expected = 0.7 * hard + 0.3 * np.mean(each)
    else:  # everything inside of all regions (ET), or nothing
        each = [
            losses.focal(x, np.full_like(LABELS, k), alpha=alpha, regions=regions) for k in (3, 0)
        ]
        expected = 0.7 * hard + 0.3 * np.mean(each)
    found = losses.focal(x, LABELS, alpha=alpha, regions=regions, smoothing=0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", losses.SEGMENTATION_LOSSES)
def test_smoothing_leaves_the_dice_loss_alone_and_gradients_finite(name):
    smooth = losses.get_segmentation_loss(name, smoothing=0.1)
    plain = losses.get_segmentation_loss(name)
    pixels = losses.cross_entropy if name == "dice_ce" else losses.focal
    factor = 0.5 if name == "dice_ce" else 1.0
    expected = pixels(LOGITS, LABELS, smoothing=0.1) - pixels(LOGITS, LABELS)
    found = smooth(LOGITS, LABELS) - plain(LOGITS, LABELS)
    np.testing.assert_allclose(found, factor * expected, rtol=1e-3, atol=1e-6)
    for scale in (0.0, 1e4):
        gradient = jax.grad(smooth)(scale * LOGITS, LABELS)
        assert np.isfinite(gradient).all()


def test_deep_supervision_halves_the_weight_of_each_coarser_loss_and_takes_the_nearest_labels():
    """Five by six pixels; of the padded coarse maps, rows beyond the labels are left out."""
    labels = np.arange(30).reshape(1, 5, 6) % 4
    seen = []

    def loss(logits, labels):
        seen.append((logits.shape[1:3], np.asarray(labels).tolist()))
        return jnp.float32([1.0, 10.0, 100.0][len(seen) - 1])

    logits = {stride: jnp.zeros((1, 8 // stride, 8 // stride, 4)) for stride in (2, 4)}
    value = losses.deeply_supervised(loss, jnp.zeros((1, 5, 6, 4)), logits, labels)
    assert value == pytest.approx((1 + 10 / 2 + 100 / 4) / 1.75)
    rows = [[labels[0, i, j] for j in (1, 3, 5)] for i in (1, 3)]
    assert seen == [((5, 6), labels.tolist()), ((2, 3), [rows]), ((1, 1), [[[labels[0, 2, 2]]]])]
