"""Weights under torch's names, in torch's layouts, and their digest."""

import hashlib

import jax
import numpy as np
import pytest
from flax import nnx

from brats_jax.models import ReconstructionModel, SegmentationModel, split
from brats_jax.models import torch_weights as weights


@pytest.mark.parametrize(
    "path, name",
    [
        (("encoder", "conv1", "kernel"), "conv1.weight"),
        (("encoder", "layer1", "0", "bn1", "scale"), "layer1.0.bn1.weight"),
        (("encoder", "layer4", "2", "bn3", "var"), "layer4.2.bn3.running_var"),
        (("decoder", "stages", "0", "bn", "mean"), "decoder.stages.0.bn.running_mean"),
        (("head", "bias"), "head.bias"),
    ],
)
def test_the_encoder_has_torchvisions_names_and_other_parts_their_own(path, name):
    assert weights.torch_name(path) == name


def test_convolutions_are_written_with_output_channels_first():
    kernel = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    (weight,) = weights.torch_state({"encoder": {"conv1": {"kernel": kernel}}}, {}).values()
    assert weight.shape == (5, 4, 2, 3) and weight.dtype == np.float32
    assert weight[1, 2, 0, 1] == kernel[0, 1, 2, 1]


def test_transposed_convolutions_are_rotated_with_input_channels_first():
    params = {"decoder": {"stages": {0: {"kernel": np.arange(96.0).reshape(4, 4, 2, 3)}}}}
    (weight,) = weights.torch_state(params, {}).values()
    assert weight.shape == (2, 3, 4, 4)
    # torch: y[2 y0 - 1 + i] += x[y0] w[i]; ours reads row 0 for x above, i.e. torch's row 3.
    assert weight[1, 2, 3, 3] == params["decoder"]["stages"][0]["kernel"][0, 0, 1, 2]


@pytest.mark.parametrize("network", [ReconstructionModel, SegmentationModel])
def test_every_leaf_of_a_network_has_a_name_of_its_own(network):
    _, params, stats = split(network(2, width=4, rngs=nnx.Rngs(0)))
    state = weights.torch_state(params, stats)
    paths = [path for path, _ in [*weights.leaves(params), *weights.leaves(stats)]]
    assert len(state) == len(paths) and list(state) == sorted(state)
    assert {path[0] for path in paths} == {"encoder", "decoder", "head"}
    below = weights.leaves(params, "head")
    assert {path for path, _ in below} == {("head", "kernel"), ("head", "bias")}


@pytest.mark.parametrize("network", [ReconstructionModel, SegmentationModel])
def test_a_network_comes_back_from_torchs_names_bit_by_bit(network):
    _, params, stats = split(network(2, width=4, rngs=nnx.Rngs(1)))
    state = weights.torch_state(params, stats)
    found = weights.from_torch_state(state, params, stats)
    jax.tree.map(np.testing.assert_array_equal, found, (params, stats))
    for name, wrong, message in (
        ("conv1.weight", None, "'conv1.weight' is missing"),
        ("other.weight", np.zeros(1), "'other.weight' is of another network"),
        ("head.bias", np.zeros(99), "'head.bias' is of another network"),
    ):
        changed = {n: a for n, a in {**state, name: wrong}.items() if a is not None}
        with pytest.raises(ValueError, match=message):
            weights.from_torch_state(changed, params, stats)


def test_the_digest_is_of_names_shapes_and_values():
    state = {"b": np.ones((2, 1), np.float32), "a": np.zeros(3, np.float32)}
    by_hand = b"a [3]\n" + bytes(12) + b"b [2, 1]\n" + b"\x00\x00\x80\x3f" * 2
    assert weights.digest(state) == hashlib.sha256(by_hand).hexdigest()
    for other in ({**state, "a": state["a"] + 1}, {"b": state["b"], "c": state["a"]}):
        assert weights.digest(other) != weights.digest(state)
