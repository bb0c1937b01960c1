"""Layers of `brats_jax.models` as ONNX nodes.

Maps are [n, channels, H, W] here, as ONNX has them, and weights have torch's names and layouts.
Only the layers written here are known; any other one is refused, not guessed.
"""

from typing import Any

import numpy as np

from brats_jax.errors import BratsError
from brats_jax.inference.onnx_graph import Graph
from brats_jax.models import resnet
from brats_jax.models.layers import BatchNorm, Conv
from brats_jax.models.ops import BATCH_NORM_EPSILON


class LayerWriter:
    """Writes layers and encoders into a graph.

    Args:
      graph: to write to.
      prefix: of the names of the weights.
    """

    def __init__(self, graph: Graph, prefix: str = "") -> None:
        self.graph, self.prefix = graph, prefix

    def resnet(self, name: str, encoder: Any, x: str, shift: str = "") -> list[str]:
        """The five maps of `ResNet50`; `shift` is added to the stem's before its ReLU."""
        known(encoder, resnet.ResNet50)
        y = self.conv(f"{name}conv1", encoder.conv1, x)
        y = self.norm(f"{name}bn1", encoder.bn1, y)
        return self.maps_above(
            name, encoder, self.relu(self.graph.op("Add", y, shift) if shift else y)
        )

    def maps_above(self, name: str, stages: Any, c0: str) -> list[str]:
        """The five maps from the stem's."""
        maps = [c0]
        x = self.graph.op("MaxPool", c0, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        every = (stages.layer1, stages.layer2, stages.layer3, stages.layer4)
        for number, stage in enumerate(every, start=1):
            for place, block in enumerate(stage):
                x = self._bottleneck(f"{name}layer{number}.{place}", block, x)
            maps.append(x)
        return maps

    def _bottleneck(self, name: str, block: Any, x: str) -> str:
        known(block, resnet.Bottleneck)
        shortcut = x
        if len(block.downsample):
            conv, bn = block.downsample
            shortcut = self.conv(f"{name}.downsample.0", conv, x)
            shortcut = self.norm(f"{name}.downsample.1", bn, shortcut)
        for k, layer in ((1, (block.conv1, block.bn1)), (2, (block.conv2, block.bn2))):
            x = self.conv(f"{name}.conv{k}", layer[0], x)
            x = self.relu(self.norm(f"{name}.bn{k}", layer[1], x))
        x = self.norm(f"{name}.bn3", block.bn3, self.conv(f"{name}.conv3", block.conv3, x))
        return self.relu(self.graph.op("Add", x, shortcut))

    def conv(self, name: str, conv: Any, x: str) -> str:
        """A convolution."""
        known(conv, Conv)
        kernel = array(conv.kernel).transpose(3, 2, 0, 1)
        size = kernel.shape[-1]
        inputs = [self.weight(f"{name}.weight", kernel)]
        if conv.bias is not None:
            inputs.append(self.weight(f"{name}.bias", array(conv.bias)))
        return self.graph.op(
            "Conv", x, *inputs, kernel_shape=[size, size], strides=[conv.stride] * 2,
            pads=[(size - 1) // 2] * 4,
        )  # fmt: skip

    def norm(self, name: str, norm: Any, x: str) -> str:
        """A batch normalisation by its running statistics."""
        known(norm, BatchNorm)
        names = {"weight": norm.scale, "bias": norm.bias, "running_mean": norm.mean,
                 "running_var": norm.var}  # fmt: skip
        inputs = [self.weight(f"{name}.{n}", array(value)) for n, value in names.items()]
        return self.graph.op("BatchNormalization", x, *inputs, epsilon=BATCH_NORM_EPSILON)

    def relu(self, x: str, slope: float = 0.0) -> str:
        """max(x, slope x)."""
        return self.graph.op("LeakyRelu", x, alpha=slope) if slope else self.graph.op("Relu", x)

    def weight(self, name: str, value: np.ndarray) -> str:
        """A constant, by torch's name."""
        return self.graph.constant(value, "float32", self.prefix + name)


def array(variable: Any) -> np.ndarray:
    """The value of a parameter or statistic."""
    return np.asarray(variable[...], np.float32)


def known(layer: Any, *kinds: type) -> Any:
    """The layer, if its class is one of these, not a subclass of one.

    Raises:
      BratsError: it is another one.
    """
    if type(layer) not in kinds:
        raise BratsError(
            f"the network has a layer of the kind {type(layer).__name__}, which cannot be written "
            "as ONNX: use --format=stablehlo"
        )
    return layer
