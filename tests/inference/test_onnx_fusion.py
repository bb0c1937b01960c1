"""Encoders of every fusion in ONNX give the coarsest map of those in JAX."""

import jax
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from flax import nnx

from brats_jax.inference.onnx_fusion import FusionWriter
from brats_jax.inference.onnx_graph import Graph, session
from brats_jax.models.fusion import FUSIONS, Fusion

pytestmark = pytest.mark.usefixtures("shallow")

NAMES = ("t2", "flair", "t1")


@pytest.mark.parametrize(
    "fusion",
    [
        Fusion("encoders", NAMES, slices=3, with_presence=True),
        Fusion("attention", NAMES[:2], weights="own"),
        Fusion("stem", NAMES, with_presence=True),
    ],
    ids=lambda fusion: fusion.name,
)
def test_every_fusion_gives_its_maps(fusion):
    encoder = FUSIONS[fusion.name](fusion, width=4, dtype="float32", rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    for _, part in nnx.iter_graph(encoder):
        if isinstance(part, nnx.Param) and not np.asarray(part[...]).any():
            # Biases and the queries of attention, which are 0 at first.
            part[...] = rng.normal(0, 0.5, part[...].shape).astype(np.float32)
    count = len(fusion.modalities)
    x = rng.standard_normal((2, 32, 64, count * fusion.slices)).astype(np.float32)
    if fusion.with_presence:
        present = np.array([[1, 0, 1], [0, 1, 0]], np.float32)[:, None, None]
        x = np.concatenate([x, np.broadcast_to(present, (2, 32, 64, count))], -1)
    expected = jax.jit(lambda x: encoder(x, train=False))(x)
    graph = Graph()
    maps = FusionWriter(graph).encoder(encoder, "x")
    for level, channels in ((0, 4), (4, 128)):
        graph.name(maps[level], f"c{level}")
        y = (f"c{level}", "float32", ("n", channels, "h", "w"))
        given = [("x", "float32", ("n", x.shape[-1], "h", "w"))]
        program = graph.model(given, y, producer=("", ""), note="", facts={})
        (found,) = session(program, threads=1).run(None, {"x": x.transpose(0, 3, 1, 2)})
        np.testing.assert_allclose(
            found.transpose(0, 2, 3, 1), expected[level], rtol=1e-3, atol=1e-3
        )
        assert found.std() > 0.01
