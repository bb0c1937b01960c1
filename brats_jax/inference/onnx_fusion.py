"""The encoders of `brats_jax.models`, for every fusion of modalities, as ONNX nodes."""

import math
from typing import Any

from brats_jax.inference.onnx_layers import LayerWriter, array, known
from brats_jax.models import resnet
from brats_jax.models.fusion.attention import HEADS, AttentionEncoders, PositionAttention
from brats_jax.models.fusion.base import ModalityAttention
from brats_jax.models.fusion.encoders import Encoders
from brats_jax.models.fusion.stem import Stem, Stems
from brats_jax.models.layers import Bias

_FAR = -1e30  # the score of a missing modality


class FusionWriter(LayerWriter):
    """Writes encoders into a graph; arguments as in `LayerWriter`."""

    def encoder(self, encoder: Any, x: str) -> list[str]:
        """The five maps of the encoder of any fusion."""
        known(encoder, resnet.ResNet50, Encoders, AttentionEncoders, Stems)
        if type(encoder) is resnet.ResNet50:
            return self.resnet("", encoder, x)
        images, present = self._split(encoder.fusion, x)
        names = encoder.fusion.modalities
        if type(encoder) is Stems:
            return self._stems(encoder, dict(zip(names, images, strict=True)), present)
        of_each = []
        for name, image in zip(names, images, strict=True):
            if encoder.fusion.weights == "shared":
                bias = array(known(encoder.identity[name], Bias).bias).reshape(1, -1, 1, 1)
                shift = self.weight(f"identity.{name}.bias", bias)
                of_each.append(self.resnet("shared.", encoder.shared, image, shift))
            else:
                of_each.append(self.resnet(f"own.{name}.", encoder.own[name], image))
        maps = []
        for level, of_level in enumerate(zip(*of_each, strict=True)):
            if type(encoder) is AttentionEncoders:
                layer, own = encoder.over_modalities[level], f"over_modalities.{level}"
                maps.append(self._over_modalities(own, layer, list(of_level), present))
            else:
                maps.append(self._mean(list(of_level), present))
        if type(encoder) is AttentionEncoders:
            maps[-1] = self._over_positions("over_positions", encoder.over_positions, maps[-1])
        return maps

    def _stems(self, encoder: Any, images: dict[str, str], present: list[str]) -> list[str]:
        found = []
        for name, image in images.items():
            stem = known(encoder.stems[name], Stem)
            y = self.conv(f"stems.{name}.conv1", stem.conv1, image)
            found.append(self.relu(self.norm(f"stems.{name}.bn1", stem.bn1, y)))
        c0 = self._over_modalities("over_modalities", encoder.over_modalities, found, present)
        return self.maps_above("", encoder, c0)

    def _split(self, fusion: Any, x: str) -> tuple[list[str], list[str]]:
        """By modality the images [n, slices, H, W] and bool[n, 1, 1, 1]; see `Fusion.split`."""
        count, graph = len(fusion.modalities), self.graph
        images = [
            graph.op(
                "Gather", x, graph.ints(*(s * count + m for s in range(fusion.slices))), axis=1
            )
            for m in range(count)
        ]
        if not fusion.with_presence:
            return images, []
        # The flags are the same in every pixel.
        corner = graph.op("Slice", x, graph.ints(0, 0), graph.ints(1, 1), graph.ints(2, 3))
        there = graph.op("Greater", corner, graph.constant(0, "float32"))
        flags = [count * fusion.slices + m for m in range(count)]
        return images, [graph.op("Gather", there, graph.ints(k), axis=1) for k in flags]

    def _of_present(self, maps: list[str], present: list[str], other: float) -> list[str]:
        """The maps, with a number in place of those of missing modalities."""
        if not present:
            return maps
        value = self.graph.constant(other, "float32")
        return [self.graph.op("Where", p, y, value) for p, y in zip(present, maps, strict=True)]

    def _mean(self, maps: list[str], present: list[str]) -> str:
        """See `fusion.base.mean_of_present`."""
        total = self.graph.op("Sum", *self._of_present(maps, present, 0.0))
        if not present:
            return self.graph.op("Div", total, self.graph.constant(len(maps), "float32"))
        count = self.graph.op("Sum", *(self.graph.cast(p, "float32") for p in present))
        one = self.graph.constant(1, "float32")
        return self.graph.op("Div", total, self.graph.op("Max", count, one))

    def _over_modalities(self, name: str, layer: Any, maps: list[str], present: list[str]) -> str:
        """See `fusion.base.ModalityAttention`."""
        known(layer, ModalityAttention)
        graph = self.graph
        query = self.conv(f"{name}.query", layer.query, self._mean(maps, present))
        scores = []
        for y in maps:
            key = self.conv(f"{name}.key", layer.key, y)
            product = graph.reduced("ReduceSum", graph.op("Mul", query, key), 1)
            scale = graph.constant(math.sqrt(layer.size), "float32")
            scores.append(graph.op("Div", product, scale))
        every = graph.op("Concat", *self._of_present(scores, present, _FAR), axis=1)
        weights = graph.op("Softmax", every, axis=1)
        parts = []
        for m, y in enumerate(self._of_present(maps, present, 0.0)):
            weight = graph.op("Gather", weights, graph.ints(m), axis=1)
            parts.append(graph.op("Mul", weight, y))
        return graph.op("Sum", *parts)

    def _over_positions(self, name: str, layer: Any, x: str) -> str:
        """See `fusion.attention.PositionAttention`."""
        known(layer, PositionAttention)
        graph, own = self.graph, layer.size // HEADS
        shape = graph.ints(0, HEADS, own, -1)
        query, key, value = (
            graph.op("Reshape", self.conv(f"{name}.{part}", getattr(layer, part), x), shape)
            for part in ("query", "key", "value")
        )
        # [n, heads, own, positions]; the scores are [n, heads, positions of query, of key].
        scores = graph.op("MatMul", graph.op("Transpose", query, perm=[0, 1, 3, 2]), key)
        scores = graph.op("Div", scores, graph.constant(math.sqrt(own), "float32"))
        weights = graph.op("Softmax", scores, axis=-1)
        turned = graph.op("Transpose", weights, perm=[0, 1, 3, 2])
        found = graph.op("MatMul", value, turned)  # [n, heads, own, positions of query]
        space = graph.op("Shape", x, start=2)
        size = graph.op("Concat", graph.ints(0, layer.size), space, axis=0)
        y = self.conv(f"{name}.output", layer.output, graph.op("Reshape", found, size))
        return graph.op("Add", x, y)
