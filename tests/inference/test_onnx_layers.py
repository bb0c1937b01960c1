"""Layers that cannot be written as ONNX."""

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from flax import nnx

from brats_jax.errors import BratsError
from brats_jax.inference.onnx_graph import Graph
from brats_jax.inference.onnx_network import NetworkWriter
from brats_jax.models import SegmentationModel, layers, resnet

pytestmark = pytest.mark.usefixtures("shallow")


def test_an_unknown_layer_is_refused_not_guessed():
    class Sharper(layers.BatchNorm):
        """A layer with other numbers."""

    model = SegmentationModel(2, width=4, rngs=nnx.Rngs(0))
    model.encoder.layer2[0].bn2 = Sharper(8)
    with pytest.raises(BratsError, match="a layer of the kind Sharper, which cannot be written as"):
        NetworkWriter(Graph()).write(model, "x", (32, 32))
    model.encoder = resnet.ResNet50.__new__(type("Other", (resnet.ResNet50,), {}))
    with pytest.raises(BratsError, match="kind Other"):
        NetworkWriter(Graph()).write(model, "x", (32, 32))
