"""Networks in ONNX; test_onnx_program.py compares their numbers."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from flax import nnx

from brats_jax.inference.onnx_graph import Graph, session
from brats_jax.inference.onnx_network import NetworkWriter
from brats_jax.models import ReconstructionModel

pytestmark = pytest.mark.usefixtures("shallow")


def test_weights_have_torchs_names_and_the_file_runs_at_any_batch():
    model = ReconstructionModel(2, width=4, rngs=nnx.Rngs(0))
    graph = Graph()
    y = NetworkWriter(graph, "fold_0.").write(model, "x", (40, 32))
    graph.name(y, "y")
    names = set(graph.constants)
    assert {
        "fold_0.conv1.weight", "fold_0.layer1.0.downsample.1.running_var",
        "fold_0.decoder.stages.4.weight", "fold_0.decoder.stages.0.bn.bias", "fold_0.head.bias",
    } < names  # fmt: skip
    program = graph.model(
        [("x", "float32", ("n", 2, 40, 32))], ("y", "float32", ("n", 1, 40, 32)),
        producer=("", ""), note="", facts={},
    )  # fmt: skip
    running = session(program, threads=1)
    x = np.random.default_rng(0).standard_normal((3, 2, 40, 32)).astype(np.float32)
    (three,), (one,) = (running.run(None, {"x": part}) for part in (x, x[1:2]))
    assert three.shape == (3, 1, 40, 32) and three.std() > 0
    np.testing.assert_allclose(three[1:2], one, atol=1e-5)
