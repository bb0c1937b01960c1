"""The normalisation in ONNX gives the numbers of the one in NumPy, to the bit."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from brats_jax.data.normalise import NORMALISATIONS, normalise
from brats_jax.inference import onnx_normalise
from brats_jax.inference.onnx_graph import Graph, session

SHAPE = (13, 11)  # no axis is like another, and 10 slices are not a whole number of chunks


@pytest.fixture(scope="module")
def programs():
    made = {}
    for how in NORMALISATIONS:
        graph = Graph()
        graph.name(onnx_normalise.normalise(graph, "images", how), "x")
        shape = ("n", *SHAPE, 4)
        program = graph.model(
            [("images", "float32", shape)], ("x", "float32", shape), producer=("", ""), note="",
            facts={},
        )  # fmt: skip
        made[how] = session(program, threads=1)
    return made


def scan(slices=10):
    """One slice is blank, one modality is constant, values have ties and a sign."""
    rng = np.random.default_rng(slices)
    images = np.rint(rng.gamma(2.0, 60.0, (slices, *SHAPE, 4))).astype(np.float32)
    images[..., 1] *= 1e-3
    images[..., 2] = 7
    images[..., 3] -= 90
    images[:, :3] = 0
    images[2:3] = 0
    return images


@pytest.mark.parametrize("how", NORMALISATIONS)
def test_it_equals_numpys(programs, how):
    for images in (scan(), scan(1)):
        (found,) = programs[how].run(None, {"images": images})
        expected = normalise(images, how).astype(np.float32)
        assert len(np.unique(expected)) > 100
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("how", NORMALISATIONS)
def test_a_blank_scan_is_zeros(programs, how):
    (found,) = programs[how].run(None, {"images": np.zeros((9, *SHAPE, 4), np.float32)})
    assert found.shape == (9, *SHAPE, 4) and not found.any()


def test_numbers_are_rounded_once_to_the_nearest_half():
    graph = Graph()
    graph.name(onnx_normalise.round_to_half(graph, "x"), "y")
    program = graph.model(
        [("x", "float64", ("n",))], ("y", "float64", ("n",)), producer=("", ""), note="", facts={}
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20000) * 2.0 ** rng.integers(-26, 15, 20000)
    # By way of float32 this one would become 1 + 2^-10.
    x = np.concatenate([x, [1 + 2.0**-11 - 2.0**-40, 65504, -65504, 0, 2.0**-24, 2.0**-25 * 1.01]])
    (found,) = session(program, threads=1).run(None, {"x": x})
    np.testing.assert_array_equal(found, x.astype(np.float16).astype(np.float64))
