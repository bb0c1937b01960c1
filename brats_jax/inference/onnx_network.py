"""The networks of `brats_jax.models` as ONNX nodes, from input to output."""

from typing import Any

from flax import nnx

from brats_jax.inference.onnx_fusion import FusionWriter
from brats_jax.inference.onnx_layers import array, known
from brats_jax.models import reconstruction, resnet, unet
from brats_jax.models.encoder_decoder import EncoderDecoder
from brats_jax.models.layers import ConvBNReLU


class NetworkWriter(FusionWriter):
    """Writes one network into a graph; arguments as in `LayerWriter`."""

    def write(self, network: nnx.Module, x: str, size: tuple[int, int]) -> str:
        """The network's output float32[n, K, H, W] of x float32[n, C, H, W].

        Args:
          network: an `EncoderDecoder` in float32.
          x: the input.
          size: H and W.

        Raises:
          BratsError: a layer that is not known here.
        """
        model = known(network, unet.SegmentationModel, reconstruction.ReconstructionModel)
        assert isinstance(model, EncoderDecoder)
        padding = [-length % resnet.STRIDE for length in size]
        padded = x
        if any(padding):
            ends = self.graph.ints(0, 0, *padding)
            padded = self.graph.op("Pad", x, ends, "", self.graph.ints(2, 3), mode="edge")
        maps = self.encoder(model.encoder, padded)
        y = self._decoder(model.decoder, maps)
        y = self.conv("head", model.head, y)
        if any(padding):
            corner = self.graph.ints(0, 0), self.graph.ints(*size), self.graph.ints(2, 3)
            y = self.graph.op("Slice", y, *corner)
        return y

    def _decoder(self, decoder: Any, maps: list[str]) -> str:
        """The map at full size of either decoder."""
        known(decoder, unet.UNetDecoder, reconstruction.TransposedDecoder)
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
        known(block, unet.UpBlock)
        scales = self.graph.constant([1, 1, 2, 2], "float32")
        x = self.graph.op(
            "Resize", x, "", scales, mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )  # fmt: skip
        if skip is not None:
            x = self.graph.op("Concat", x, skip, axis=1)
        for part in ("block1", "block2"):
            layer = known(getattr(block, part), ConvBNReLU)
            x = self.conv(f"{name}.{part}.conv", layer.conv, x)
            x = self.relu(self.norm(f"{name}.{part}.bn", layer.bn, x), layer.slope)
        return x

    def _up_conv(self, name: str, layer: Any, x: str) -> str:
        known(layer, reconstruction.UpConv)
        # See `models.ops.conv_transpose_4x4_stride2` for torch's form.
        kernel = array(layer.kernel)[::-1, ::-1].transpose(2, 3, 0, 1)
        weight = self.weight(f"{name}.weight", kernel)
        x = self.graph.op(
            "ConvTranspose", x, weight, kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        return self.relu(self.norm(f"{name}.bn", layer.bn, x), layer.slope)
