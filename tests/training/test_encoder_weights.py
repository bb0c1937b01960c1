"""Weight files of every kind, read into an encoder."""

import importlib.util
import pickle
import re
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx, traverse_util
from safetensors.numpy import save_file

from brats_jax.errors import BratsError
from brats_jax.models import ReconstructionModel, SegmentationModel, split
from brats_jax.training.encoder_weights import load_encoder

spec = importlib.util.spec_from_file_location(
    "w", Path(__file__).parents[1] / "golden" / "resnet50_weights.py"
)
torch_weights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(torch_weights)


@pytest.fixture(scope="module")
def target():
    """Parameters and statistics of a network of width 4."""
    return split(SegmentationModel(4, width=4, rngs=nnx.Rngs(2)))[1:]


def flat(state):
    """{'encoder.layer1.0.conv1.kernel': array}."""
    return {
        ".".join(map(str, k)): np.array(v) for k, v in traverse_util.flatten_dict(state).items()
    }


def rename(weights, prefix):
    return {prefix + name: value for name, value in weights.items()}


@pytest.mark.parametrize("prefix", ["", "encoder.", "module.backbone."])
def test_a_weight_file_is_read_leaf_by_leaf(tmp_path, target, prefix):
    weights = torch_weights.random_weights(4, 4)
    extra = {
        "fc.weight": np.zeros((10, 128), np.float32),
        "fc.bias": np.zeros(10, np.float32),
        "bn1.num_batches_tracked": np.array(7),
    }
    save_file(rename({**weights, **extra}, prefix), tmp_path / "w.safetensors")
    params, stats = load_encoder(tmp_path / "w.safetensors", *target)
    # Restated by patterns, apart from the table of names in the package.
    found = 0
    for name, value in {**flat(params), **flat(stats)}.items():
        if not name.startswith("encoder."):
            np.testing.assert_array_equal(value, {**flat(target[0]), **flat(target[1])}[name])
            continue
        torch_name = name.removeprefix("encoder.")
        for ours, theirs in (
            (r"\.mean$", ".running_mean"),
            (r"\.var$", ".running_var"),
            (r"\.(kernel|scale)$", ".weight"),
        ):
            torch_name = re.sub(ours, theirs, torch_name)
        expected = weights[torch_name]
        if expected.ndim == 4:
            expected = np.moveaxis(expected, (2, 3, 1, 0), (0, 1, 2, 3))
        np.testing.assert_array_equal(value, expected)
        found += 1
    assert found == len(weights) == 53 * 5


@pytest.mark.parametrize(
    "channels, rule",
    [
        (1, lambda rgb: [rgb[0] + rgb[1] + rgb[2]]),
        (2, lambda rgb: [1.5 * rgb[0], 1.5 * rgb[1]]),
        (3, lambda rgb: [rgb[0], rgb[1], rgb[2]]),
        (4, lambda rgb: [0.75 * rgb[0], 0.75 * rgb[1], 0.75 * rgb[2], 0.75 * rgb[0]]),
    ],
)
def test_an_rgb_stem_is_adapted_as_in_timm(tmp_path, channels, rule):
    weights = torch_weights.random_weights(3, 4)
    save_file(weights, tmp_path / "w.safetensors")
    model = ReconstructionModel(channels, width=4, rngs=nnx.Rngs(0))
    params, _ = load_encoder(tmp_path / "w.safetensors", *split(model)[1:])
    kernel = params["encoder"]["conv1"]["kernel"][...]
    rgb = weights["conv1.weight"].transpose(1, 2, 3, 0)
    expected = np.stack(rule(rgb), axis=2)
    np.testing.assert_allclose(kernel, expected, rtol=1e-6, atol=1e-7)


def test_half_precision_files_are_read(tmp_path, target):
    weights = torch_weights.random_weights(4, 4)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        cast = {name: value.astype(dtype) for name, value in weights.items()}
        save_file(cast, tmp_path / "w.safetensors")
        params, _ = load_encoder(tmp_path / "w.safetensors", *target)
        scale = params["encoder"]["bn1"]["scale"][...]
        assert scale.dtype == jnp.float32
        np.testing.assert_array_equal(scale, cast["bn1.weight"].astype(np.float32))


def without(weights, name):
    return {k: v for k, v in weights.items() if k != name}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: without(w, "layer4.2.bn3.running_var"), "missing layer4.2.bn3.running_var;"),
        (lambda w: {**w, "layer1.3.conv1.weight": np.zeros(3)}, "unexpected layer1.3.conv1.weight"),
        (lambda w: {**w, "bn1.bias": np.zeros(5)}, r"bn1.bias is \(5,\), .* \(4,\)"),
        (
            lambda w: {**w, "conv1.weight": np.zeros((4, 5, 7, 7))},
            r"conv1.weight is \(4, 5, 7, 7\)",
        ),
        (lambda w: {**w, "encoder.bn1.bias": w["bn1.bias"]}, "two tensors are called bn1.bias"),
        (
            lambda w: torch_weights.random_weights(3, 8),
            r"safetensors: width is 8 there, 4 here; give",
        ),
        (lambda w: {"x": np.zeros(1)}, "missing .* and 261 more"),
        (
            lambda w: {f"segment.fold_0.{n}": array for n, array in w.items()},
            "stand in place of a run, not those of one encoder; export the run with",
        ),
    ],
)
def test_weights_of_another_network_are_refused_in_one_line(tmp_path, target, change, message):
    path = tmp_path / "w.safetensors"
    save_file(change(torch_weights.random_weights(4, 4)), path)
    with pytest.raises(BratsError, match=message) as error:
        load_encoder(path, *target)
    assert "w.safetensors" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".pkl", ".PTH"])
def test_pickles_are_never_opened(tmp_path, target, suffix):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    path = tmp_path / f"resnet50{suffix}"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BratsError, match="convert them once to safetensors"):
        load_encoder(path, *target)
    # The same bytes under an innocent name.
    path = path.rename(tmp_path / "resnet50.safetensors")
    with pytest.raises(BratsError, match="not a readable safetensors file"):
        load_encoder(path, *target)
    assert not (tmp_path / "exploded").exists()


def test_files_that_are_missing_or_cut_short_are_refused(tmp_path, target):
    with pytest.raises(BratsError, match="no such weight file"):
        load_encoder(tmp_path / "none.safetensors", *target)
    path = tmp_path / "short.safetensors"
    save_file(torch_weights.random_weights(4, 4), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BratsError, match="not a readable safetensors file"):
        load_encoder(path, *target)
