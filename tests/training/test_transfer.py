"""Initialising encoders: every leaf of a transfer, and weight files of every kind."""

import copy
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, traverse_util

from brats_jax.errors import BratsError
from brats_jax.models import ReconstructionModel, SegmentationModel, split
from brats_jax.runs.settings import TRANSFER_PARTS
from brats_jax.training.transfer import transfer_mask, transfer_parts, with_stem_of

spec = importlib.util.spec_from_file_location(
    "w", Path(__file__).parents[1] / "golden" / "resnet50_weights.py"
)
torch_weights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(torch_weights)

ALL = ("t1", "t1gd", "t2", "flair")


def states(model, seed):
    """Parameters and statistics of a model, the latter filled with noise too."""
    _, params, stats = split(model)
    rng = np.random.default_rng(seed)
    noisy = jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.5, 2, s.shape), s.dtype), stats)
    return params, noisy


@pytest.fixture(scope="module")
def source():
    return states(ReconstructionModel(2, width=4, rngs=nnx.Rngs(1)), 1)


@pytest.fixture(scope="module")
def target():
    return states(SegmentationModel(4, width=4, rngs=nnx.Rngs(2)), 2)


def flat(state):
    """{'encoder.layer1.0.conv1.kernel': array}."""
    return {
        ".".join(map(str, k)): np.array(v) for k, v in traverse_util.flatten_dict(state).items()
    }


@pytest.mark.parametrize(
    "source_modalities, target_modalities, moves",
    [
        (("t1", "t1gd"), ALL, {0: 0, 1: 1}),
        (("flair", "T1ce"), ALL, {0: 3, 1: 1}),
        (("t1", "t1gd"), ("flair", "t1gd", "t2", "t1"), {0: 3, 1: 1}),
        (("t2", "t1"), ("t1gd", "flair", "t1", "t2"), {0: 3, 1: 2}),
    ],
)
def test_the_encoder_is_copied_and_its_stem_modality_by_modality(
    source, target, source_modalities, target_modalities, moves
):
    before = [flat(s) for s in (*source, *target)]
    params, stats = (
        transfer_parts(s, t, source_modalities, target_modalities)
        for s, t in zip(source, target, strict=True)
    )
    assert jax.tree.structure(params) == jax.tree.structure(target[0])
    new_params, old_params, from_params = flat(params), flat(target[0]), flat(source[0])
    new_stats, from_stats = flat(stats), flat(source[1])
    assert set(new_params) == set(old_params)
    counted = {"stem": 0, "encoder": 0, "rest": 0}
    for name, value in new_params.items():
        if name == "encoder.conv1.kernel":
            counted["stem"] += 1
            for channel in range(4):
                came_from = [s for s, t in moves.items() if t == channel]
                expected = (
                    from_params[name][:, :, came_from[0]]
                    if came_from
                    else old_params[name][:, :, channel]
                )
                np.testing.assert_array_equal(value[:, :, channel], expected)
        elif name.startswith("encoder."):
            counted["encoder"] += 1
            np.testing.assert_array_equal(value, from_params[name])
        else:
            counted["rest"] += 1
            np.testing.assert_array_equal(value, old_params[name])
    # 53 convolutions, 53 BatchNorms of two; U-Net: 5 x 2 of each; head: kernel and bias.
    assert counted == {"stem": 1, "encoder": 52 + 106, "rest": 5 * 2 * 3 + 2}
    old_stats = flat(target[1])
    assert set(new_stats) == set(old_stats)
    for name, value in new_stats.items():
        expected = from_stats if name.startswith("encoder.") else old_stats
        np.testing.assert_array_equal(value, expected[name])
    for state, was in zip((*source, *target), before, strict=True):
        for name, value in flat(state).items():
            np.testing.assert_array_equal(value, was[name])


def test_without_a_common_modality_the_stem_keeps_its_values(source, target):
    params = transfer_parts(
        source[0],
        states(ReconstructionModel(2, width=4, rngs=nnx.Rngs(3)), 3)[0],
        ("t1", "t1gd"),
        ("t2", "flair"),
    )
    fresh = states(ReconstructionModel(2, width=4, rngs=nnx.Rngs(3)), 3)[0]
    for name, value in flat(params).items():
        expected = fresh if name == "encoder.conv1.kernel" or name[:7] != "encoder" else source[0]
        np.testing.assert_array_equal(value, flat(expected)[name])


def test_four_modalities_transfer_to_one(source, target):
    """From four modalities to one, on nested dicts as a checkpoint may return them."""
    four, one = target[0], _one_channel()
    new = transfer_parts(four, one, ALL, ["t2"])
    np.testing.assert_array_equal(
        new["encoder"]["conv1"]["kernel"][:, :, 0], four["encoder"]["conv1"]["kernel"][:, :, 2]
    )


def _one_channel():
    return split(ReconstructionModel(1, width=4, rngs=nnx.Rngs(3)))[1]


def test_copied_leaves_survive_the_donation_of_their_source(target):
    given = states(ReconstructionModel(2, width=4, rngs=nnx.Rngs(1)), 1)[0]
    new = transfer_parts(given, target[0], ("t1", "t1gd"), ALL)
    expected = flat(new)
    for leaf in jax.tree.leaves(given):
        leaf.delete()
    for name, value in flat(new).items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize(
    "source_modalities, target_modalities, message",
    [
        (("t1", "t1ce", "t1gd"), ALL, "source modality 't1gd' is named twice"),
        (("t1", "t1gd"), ("t1", "t2", "t2", "flair"), "target modality 't2' is named twice"),
        (("t1",), ALL, "the source stem has 2 channels, but its modalities are t1;"),
        (("t1", "t1gd"), ("t1", "t1gd"), "the target stem has 4 channels"),
        (("t1", "pd"), ALL, "unknown modality 'pd'"),
    ],
)
def test_wrong_modalities_are_refused(
    source, target, source_modalities, target_modalities, message
):
    with pytest.raises(BratsError, match=message):
        transfer_parts(source[0], target[0], source_modalities, target_modalities)


def test_another_width_is_refused_with_the_name_of_the_leaf(target):
    wide_params, wide_stats = states(ReconstructionModel(2, width=8, rngs=nnx.Rngs(1)), 1)
    for wide, narrow, leaf in (
        (wide_params, target[0], r"encoder\.bn1\.bias is \[8\] .* \[4\]"),
        (wide_stats, target[1], r"encoder\.bn1\.mean is \[8\] .* \[4\]"),
    ):
        with pytest.raises(BratsError, match=leaf):
            transfer_parts(wide, narrow, ("t1", "t1gd"), ALL)


def test_another_encoder_is_refused_with_the_name_of_the_leaf(source, target):
    for broken, whole, message in ((0, 1, "source has no"), (1, 0, "target has no")):
        pair = [copy.deepcopy(source[0]), copy.deepcopy(target[0])]
        del pair[broken]["encoder"]["layer3"][5]["bn2"]["scale"]
        assert pair[whole]["encoder"]["layer3"][5]["bn2"]["scale"].shape == (16,)
        with pytest.raises(BratsError, match=rf"{message} encoder\.layer3\.5\.bn2\.scale"):
            transfer_parts(*pair, ("t1", "t1gd"), ALL)


def _unet_source(channels=2):
    model = ReconstructionModel(channels, width=4, rngs=nnx.Rngs(1))
    model.decoder = SegmentationModel(4, width=4, rngs=nnx.Rngs(7)).decoder
    return states(model, 1)


# Beginnings of the names that each part takes from the pretraining, without the stem's kernel.
STEM_NORM = ("encoder.bn1.",)
LAYERS = tuple(f"encoder.layer{k}." for k in (1, 2, 3, 4))
TAKEN = {
    "encoder": (STEM_NORM + LAYERS, STEM_NORM + LAYERS, True),
    "encoder_decoder": (
        (*STEM_NORM, *LAYERS, "decoder."), (*STEM_NORM, *LAYERS, "decoder."), True,
    ),
    "stem": (STEM_NORM, STEM_NORM, True),
    "all_but_stem": (LAYERS, LAYERS, False),
    "batch_norm_statistics": ((), STEM_NORM + LAYERS, False),
}  # fmt: skip


@pytest.mark.parametrize("parts", TRANSFER_PARTS)
def test_each_part_takes_its_leaves_and_the_marks_name_them(parts, target):
    """Every leaf of parameters and statistics is either the pretraining's or as it was."""
    of_params, of_stats, stem = TAKEN[parts]
    given = _unet_source()
    modalities = (("t1", "t1gd"), ("flair", "t1gd", "t2", "t1"))
    marks = flat(transfer_mask(target[0], *modalities, parts))
    for theirs, ours, names in ((given[0], target[0], of_params), (given[1], target[1], of_stats)):
        result = flat(transfer_parts(theirs, ours, *modalities, parts))
        theirs, ours = flat(theirs), flat(ours)
        assert set(result) == set(ours)
        for name, value in result.items():
            if name == "encoder.conv1.kernel":
                from_source = {3: 0, 1: 1} if stem else {}
                for channel in range(4):
                    expected = ours[name][:, :, channel]
                    if channel in from_source:
                        expected = theirs[name][:, :, from_source[channel]]
                    np.testing.assert_array_equal(value[:, :, channel], expected)
                assert marks[name].shape == (1, 1, 4, 1)
                assert marks[name].ravel().tolist() == [c in from_source for c in range(4)]
                continue
            taken = name.startswith(names) and bool(names)
            np.testing.assert_array_equal(value, theirs[name] if taken else ours[name])
            if name in marks:
                assert marks[name] == taken
    assert set(marks) == set(flat(target[0]))


def test_a_decoder_of_another_kind_is_refused_with_the_name_of_the_leaf(source, target):
    with pytest.raises(BratsError, match=r"decoder\.stages\.0\..*; use the same decoder"):
        transfer_parts(source[0], target[0], ("t1", "t1gd"), ALL, "encoder_decoder")


def test_the_stem_of_another_network_replaces_that_leaf_alone(target):
    other = states(SegmentationModel(4, width=4, rngs=nnx.Rngs(5)), 5)[0]
    new, old, theirs = (flat(s) for s in (with_stem_of(other, target[0]), target[0], other))
    for name, value in new.items():
        expected = theirs if name == "encoder.conv1.kernel" else old
        np.testing.assert_array_equal(value, expected[name])


NEAR = ("t1", "flair", "t1@-1", "flair@-1", "t1@+1", "flair@+1")


@pytest.mark.parametrize(
    "source_channels, moves",
    [
        (("flair", "t1"), {0: 1, 1: 0}),  # without a context: the slice itself
        (("t1", "t1@-1", "t1@+1"), {0: 0, 1: 2, 2: 4}),
        (("t1", "t1@-1", "t1@+1", "t1@-2", "t1@+2"), {0: 0, 1: 2, 2: 4}),
    ],
)
def test_stems_with_a_context_are_transferred_by_modality_and_offset(source_channels, moves):
    one = states(ReconstructionModel(len(source_channels), width=4, rngs=nnx.Rngs(1)), 1)[0]
    other = states(SegmentationModel(6, width=4, rngs=nnx.Rngs(2)), 2)[0]
    name = "encoder.conv1.kernel"
    result = flat(transfer_parts(one, other, source_channels, NEAR))[name]
    theirs, ours = flat(one)[name], flat(other)[name]
    taken = {put: take for take, put in moves.items()}
    for channel in range(6):
        expected = theirs[:, :, taken[channel]] if channel in taken else ours[:, :, channel]
        np.testing.assert_array_equal(result[:, :, channel], expected)
    marks = flat(transfer_mask(other, source_channels, NEAR))[name]
    assert marks.ravel().tolist() == [channel in taken for channel in range(6)]
