"""The networks of `brats_jax.models` as ONNX nodes, layer by layer.

Maps are [n, channels, H, W] here, as ONNX has them, and weights have torch's names and layouts.
Only the layers written here are known; any other one is refused, not guessed.
"""

from typing import Any

import numpy as np
from flax import nnx

from brats_jax.errors import BratsError
from brats_jax.inference.onnx_graph import Graph
from brats_jax.models import reconstruction, resnet, unet
from brats_jax.models.encoder_decoder import EncoderDecoder
from brats_jax.models.layers import BatchNorm, Conv, ConvBNReLU
from brats_jax.models.ops import BATCH_NORM_EPSILON


class NetworkWriter:
    """Writes one network into a graph.

    Args:
      graph: to write to.
      prefix: of the names of the weights.
    """

    def __init__(self, graph: Graph, prefix: str = "") -> None:
        self.graph, self.prefix = graph, prefix

    def write(self, network: nnx.Module, x: str, size: tuple[int, int]) -> str:
        """The network's output float32[n, K, H, W] of x float32[n, C, H, W].

        Args:
          network: an `EncoderDecoder` in float32.
          x: the input.
          size: H and W.

        Raises:
          BratsError: a layer that is not known here.
        """
        model = _known(network, unet.SegmentationModel, reconstruction.ReconstructionModel)
        assert isinstance(model, EncoderDecoder)
        padding = [-length % resnet.STRIDE for length in size]
        padded = x
        if any(padding):
            ends = self.graph.ints(0, 0, *padding)
            padded = self.graph.op("Pad", x, ends, "", self.graph.ints(2, 3), mode="edge")
        maps = self._encoder(model.encoder, padded)
        y = self._decoder(model.decoder, maps)
        y = self._conv("head", model.head, y)
        if any(padding):
            corner = self.graph.ints(0, 0), self.graph.ints(*size), self.graph.ints(2, 3)
            y = self.graph.op("Slice", y, *corner)
        return y

    def _encoder(self, encoder: Any, x: str) -> list[str]:
        """The five maps of `ResNet50`."""
        _known(encoder, resnet.ResNet50)
        x = self._relu(self._norm("bn1", encoder.bn1, self._conv("conv1", encoder.conv1, x)))
        maps = [x]
        x = self.graph.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        stages = (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4)
        for number, stage in enumerate(stages, start=1):
            for place, block in enumerate(stage):
                x = self._bottleneck(f"layer{number}.{place}", block, x)
            maps.append(x)
        return maps

    def _bottleneck(self, name: str, block: Any, x: str) -> str:
        _known(block, resnet.Bottleneck)
        shortcut = x
        if len(block.downsample):
            conv, bn = block.downsample
            shortcut = self._conv(f"{name}.downsample.0", conv, x)
            shortcut = self._norm(f"{name}.downsample.1", bn, shortcut)
        for k, layer in ((1, (block.conv1, block.bn1)), (2, (block.conv2, block.bn2))):
            x = self._conv(f"{name}.conv{k}", layer[0], x)
            x = self._relu(self._norm(f"{name}.bn{k}", layer[1], x))
        x = self._norm(f"{name}.bn3", block.bn3, self._conv(f"{name}.conv3", block.conv3, x))
        return self._relu(self.graph.op("Add", x, shortcut))

    def _decoder(self, decoder: Any, maps: list[str]) -> str:
        """The map at full size of either decoder."""
        _known(decoder, unet.UNetDecoder, reconstruction.TransposedDecoder)
        *skips, x = maps
        with_skips = isinstance(decoder, unet.UNetDecoder)
        for k, stage in enumerate(decoder.stages):
            name = f"decoder.stages.{k}"
            if with_skips:
                skip = skips[-1 - k] if k < len(skips) else None
                x = self._up_block(name, stage, x, skip)
            else:
                x = self._up_conv(name, stage, x)
        return x

    def _up_block(self, name: str, block: Any, x: str, skip: str | None) -> str:
        _known(block, unet.UpBlock)
        scales = self.graph.constant([1, 1, 2, 2], "float32")
        x = self.graph.op(
            "Resize", x, "", scales, mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )  # fmt: skip
        if skip is not None:
            x = self.graph.op("Concat", x, skip, axis=1)
        for part in ("block1", "block2"):
            layer = _known(getattr(block, part), ConvBNReLU)
            x = self._conv(f"{name}.{part}.conv", layer.conv, x)
            x = self._relu(self._norm(f"{name}.{part}.bn", layer.bn, x), layer.slope)
        return x

    def _up_conv(self, name: str, layer: Any, x: str) -> str:
        _known(layer, reconstruction.UpConv)
        # See `models.ops.conv_transpose_4x4_stride2` for torch's form.
        kernel = _array(layer.kernel)[::-1, ::-1].transpose(2, 3, 0, 1)
        weight = self._weight(f"{name}.weight", kernel)
        x = self.graph.op(
            "ConvTranspose", x, weight, kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        return self._relu(self._norm(f"{name}.bn", layer.bn, x), layer.slope)

    def _conv(self, name: str, conv: Any, x: str) -> str:
        _known(conv, Conv)
        kernel = _array(conv.kernel).transpose(3, 2, 0, 1)
        size = kernel.shape[-1]
        inputs = [self._weight(f"{name}.weight", kernel)]
        if conv.bias is not None:
            inputs.append(self._weight(f"{name}.bias", _array(conv.bias)))
        return self.graph.op(
            "Conv", x, *inputs, kernel_shape=[size, size], strides=[conv.stride] * 2,
            pads=[(size - 1) // 2] * 4,
        )  # fmt: skip

    def _norm(self, name: str, norm: Any, x: str) -> str:
        _known(norm, BatchNorm)
        names = {"weight": norm.scale, "bias": norm.bias, "running_mean": norm.mean,
                 "running_var": norm.var}  # fmt: skip
        inputs = [self._weight(f"{name}.{n}", _array(value)) for n, value in names.items()]
        return self.graph.op("BatchNormalization", x, *inputs, epsilon=BATCH_NORM_EPSILON)

    def _relu(self, x: str, slope: float = 0.0) -> str:
        return self.graph.op("LeakyRelu", x, alpha=slope) if slope else self.graph.op("Relu", x)

    def _weight(self, name: str, value: np.ndarray) -> str:
        return self.graph.constant(value, "float32", self.prefix + name)


def _array(variable: Any) -> np.ndarray:
    return np.asarray(variable[...], np.float32)


def _known(layer: Any, *kinds: type) -> Any:
    """The layer, if it is of one of these classes and not of one made from them.

    Raises:
      BratsError: it is another one.
    """
    if type(layer) not in kinds:
        raise BratsError(
            f"the network has a layer of the kind {type(layer).__name__}, which cannot be written "
            "as ONNX: use --format=stablehlo"
        )
    return layer
