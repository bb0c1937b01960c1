"""The encoder against torch, map by map, and its contract."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from brats_jax.errors import BratsError
from brats_jax.models import ResNet50, apply, split
from brats_jax.training.encoder_weights import load_encoder

GOLDEN_FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = np.load(GOLDEN_FOLDER / "torch_models.npz")

spec = importlib.util.spec_from_file_location("w", GOLDEN_FOLDER / "resnet50_weights.py")
torch_weights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(torch_weights)


def assert_near(actual, expected, tolerance, name):
    """The largest difference, relative to the largest expected value."""
    error = np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()
    assert error < tolerance, f"{name}: off by {error:.1e}"


def torch_leaf(state, name):
    """The leaf of a state under torch's name, as torch would store it."""
    *modules, leaf = name.split(".")
    for key in modules:
        state = state[int(key) if key.isdigit() else key]
    renamed = {"running_mean": ["mean"], "running_var": ["var"], "weight": ["kernel", "scale"]}
    value = next(state[n] for n in renamed.get(leaf, [leaf]) if n in state)
    value = np.asarray(value[...])
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet50.safetensors"
    save_file(torch_weights.random_weights(3, 8), path)
    graphdef, params, stats = split(ResNet50(3, width=8, rngs=nnx.Rngs(0)))
    params, stats = load_encoder(path, {"encoder": params}, {"encoder": stats})
    return graphdef, params["encoder"], stats["encoder"]


def test_evaluation_is_torchs_map_by_map(encoder):
    x = torch_weights.random_input(3)
    maps, _ = jax.jit(lambda x: apply(*encoder, x, train=False))(x)
    for i, y in enumerate(maps):
        assert_near(y, GOLDEN[f"eval/c{i}"], 1e-5, f"c{i}")


def test_training_step_is_torchs_maps_gradients_and_statistics(encoder):
    graphdef, params, stats = encoder
    x = torch_weights.random_input(3)
    expected = [GOLDEN[f"train/c{i}"] for i in range(5)]
    cotangents = torch_weights.random_cotangents(expected)

    @jax.jit
    def run(params, x):
        maps, vjp, new_stats = jax.vjp(
            lambda p, x: apply(graphdef, p, stats, x, train=True), params, x, has_aux=True
        )
        return maps, new_stats, *vjp(tuple(map(jnp.asarray, cotangents)))

    maps, new_stats, dparams, dx = run(params, x)
    for i, y in enumerate(maps):
        assert_near(y, expected[i], 1e-4, f"c{i}")
    names = [n for n in GOLDEN.files if n.startswith("train/grad/") and "input" not in n]
    assert len(names) == 7
    for name in names:
        leaf = torch_leaf(dparams, name.removeprefix("train/grad/"))
        assert_near(leaf, GOLDEN[name], 1e-3, name)
    assert_near(dx, GOLDEN["train/grad/input"], 1e-3, "input")
    names = [n for n in GOLDEN.files if n.startswith("train/stats/")]
    assert len(names) == 2 * (1 + 16 + 4)
    count = {"layer1": 16, "layer2": 8, "layer3": 4, "layer4": 2}  # sizes of 64x64 inputs
    for name in names:
        short = name.removeprefix("train/stats/")
        actual = torch_leaf(new_stats, short)
        layer, *rest = short.split(".")
        if short.endswith("var"):
            # torch's running variance takes in the unbiased batch variance: n / (n - 1) of ours.
            size = count.get(layer, 32)
            if rest[:2] == ["0", "bn1"] and layer in ("layer2", "layer3", "layer4"):
                size *= 2  # the stride comes after bn1
            n = 2 * size * size
            old = 0.9 * torch_leaf(stats, short)
            actual = old + (actual - old) * n / (n - 1)
        assert_near(actual, GOLDEN[name], 1e-4, name)


def test_parameter_count_is_torchvisions():
    model = nnx.eval_shape(lambda: ResNet50(3, rngs=nnx.Rngs(0)))
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == 23_508_032


@pytest.mark.parametrize(
    "channels, width, size", [(1, 4, (32, 64)), (2, 12, (64, 32)), (4, 64, (33, 95))]
)
def test_contract_of_five_maps_for_any_channels_and_width(channels, width, size):
    def run(x):
        model = ResNet50(channels, width=width, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        assert model.channels == tuple(width * c for c in (1, 4, 8, 16, 32))
        return model(x, train=False)

    maps = jax.eval_shape(run, jax.ShapeDtypeStruct((2, *size, channels), jnp.float32))
    for i, y in enumerate(maps):
        stride = 2 ** (i + 1)
        sizes = [-(-s // stride) for s in size]
        assert y.shape == (2, *sizes, width * (1, 4, 8, 16, 32)[i])
        assert y.dtype == jnp.bfloat16


def test_every_leaf_is_float32_whatever_the_compute_type():
    model = nnx.eval_shape(lambda: ResNet50(2, width=4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("width", [0, -4, 2, 6])
def test_widths_that_make_no_network_are_refused(width):
    with pytest.raises(BratsError, match="multiple of 4"):
        ResNet50(3, width=width, rngs=nnx.Rngs(0))


def test_no_input_channel_is_refused():
    with pytest.raises(BratsError, match="at least one"):
        ResNet50(0, rngs=nnx.Rngs(0))
