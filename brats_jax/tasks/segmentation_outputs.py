"""The meaning of a segmentation network's channels: classes, or the regions of the challenge.

classes   a softmax over background, NCR/NET, ED and ET; the label is the largest
regions   three sigmoids, of WT, TC and ET, as in nnU-Net's region-based training

Regions are nested: TC lies in WT, ET in TC. With p the probabilities of WT, TC and ET,

    q_WT = p_WT,   q_TC = min(p_TC, q_WT),   q_ET = min(p_ET, q_TC)

a pixel is ED where q_WT > 0.5, but NCR/NET where q_TC > 0.5, but ET where q_ET > 0.5; else
background. The probabilities of the classes are 1 - q_WT (background), q_WT - q_TC (ED),
q_TC - q_ET (NCR/NET) and q_ET (ET). Probabilities of several networks or flips are averaged first.

Reference: Isensee et al. 2020 (nnU-Net for BraTS), https://arxiv.org/abs/2011.00848
"""

import abc
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from brats_jax.data.modalities import CLASSES, LABEL_SETS, REGIONS

Channels = Float[Array, "*n k"]
Labels = Integer[Array, "*n"]
LabelSets = tuple[tuple[int, ...], ...]

# Of each region, the label of a pixel in it and in none of the regions within it.
_INNER = (*list(REGIONS.values())[1:], ())
OWN_LABELS = tuple(
    next(value for value in values if value not in inner)
    for values, inner in zip(REGIONS.values(), _INNER, strict=True)
)
_THRESHOLD = 0.5


class SegmentationOutputs(abc.ABC):
    """The meaning of the channels of a segmentation network.

    Attributes:
      channels: their names, in order.
      loss_regions: the labels of each channel, if channels overlap; None: channel k is label k.
      counted: the sets of labels whose Dice is logged, by name.
      scored: those over which the score is averaged that selects the best checkpoint.
      metric: the name of this score.
      samples: the samples of a calibration, in words.
      decision: how the channels become labels, in words; '' where it is the largest.
    """

    channels: ClassVar[tuple[str, ...]]
    loss_regions: ClassVar[LabelSets | None]
    counted: ClassVar[dict[str, tuple[int, ...]]]
    scored: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]
    samples: ClassVar[str]
    decision: ClassVar[str] = ""

    @abc.abstractmethod
    def probabilities(self, logits: Channels) -> Channels:
        """The probability of each channel."""

    @abc.abstractmethod
    def labels_of_logits(self, logits: Channels) -> Labels:
        """The labels of one network."""

    @abc.abstractmethod
    def labels(self, total: Channels, count: int = 1) -> Labels:
        """The labels of an average.

        Args:
          total: the sum of the `probabilities` of several networks or flips.
          count: of how many.
        """

    @abc.abstractmethod
    def class_probabilities(self, probabilities: Channels) -> Float[Array, "*n 4"]:
        """The probability of each class, which add up to 1, from averaged `probabilities`."""

    @abc.abstractmethod
    def choices(self, logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The decisions that a temperature is fitted to, as a choice between exclusive classes.

        Args:
          logits: float[n, K] of n pixels.
          labels: int[n], their true labels.

        Returns:
          (logits float[m, C], true classes int[m]), m / n decisions for each pixel.
        """


class ClassOutputs(SegmentationOutputs):
    """A softmax over the classes."""

    channels = CLASSES
    loss_regions = None
    counted: ClassVar = {name: (value,) for value, name in enumerate(CLASSES)}
    scored = CLASSES[1:]
    metric = "mean_foreground_dice"
    samples = "every k-th brain pixel"

    def probabilities(self, logits: Channels) -> Channels:
        """See `SegmentationOutputs`: the softmax."""
        return jax.nn.softmax(logits, axis=-1)

    def labels_of_logits(self, logits: Channels) -> Labels:
        """See `SegmentationOutputs`: the class of the largest logit."""
        return jnp.argmax(logits, axis=-1)

    def labels(self, total: Channels, count: int = 1) -> Labels:
        """See `SegmentationOutputs`: the class of the largest probability."""
        return jnp.argmax(total, axis=-1)

    def class_probabilities(self, probabilities: Channels) -> Float[Array, "*n 4"]:
        """See `SegmentationOutputs`: they are the same."""
        return probabilities

    def choices(self, logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `SegmentationOutputs`: the class of each pixel."""
        return logits, labels


class RegionOutputs(SegmentationOutputs):
    """A sigmoid for each of the nested regions, largest first."""

    channels = tuple(REGIONS)
    loss_regions = tuple(REGIONS.values())
    counted: ClassVar = {**REGIONS, **LABEL_SETS}
    scored = tuple(REGIONS)
    metric = "mean_region_dice"
    samples = f"every k-th brain pixel, as inside or outside of each of {', '.join(REGIONS)}"
    decision = "sigmoid above 0.5: ED in WT, but NCR/NET in WT and TC, but ET in all three"

    def probabilities(self, logits: Channels) -> Channels:
        """See `SegmentationOutputs`: the sigmoids."""
        return jax.nn.sigmoid(logits)

    def labels_of_logits(self, logits: Channels) -> Labels:
        """See `SegmentationOutputs`: a logit above 0 is a probability above 0.5."""
        return _labels_where(logits > 0)

    def labels(self, total: Channels, count: int = 1) -> Labels:
        """See `SegmentationOutputs`: the innermost region, by the rule of this module."""
        return _labels_where(total > _THRESHOLD * count)

    def class_probabilities(self, probabilities: Channels) -> Float[Array, "*n 4"]:
        """See `SegmentationOutputs`: differences of the nested probabilities."""
        nested = [probabilities[..., 0]]
        for k in range(1, len(OWN_LABELS)):
            nested.append(jnp.minimum(probabilities[..., k], nested[-1]))
        of_class = {0: 1 - nested[0]}
        inner = (*nested[1:], jnp.zeros_like(nested[0]))
        for value, outside, inside in zip(OWN_LABELS, nested, inner, strict=True):
            of_class[value] = outside - inside
        return jnp.stack([of_class[value] for value in range(len(CLASSES))], axis=-1)

    def choices(self, logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `SegmentationOutputs`: inside (1) or outside (0) of each region, of each pixel.

        A sigmoid is the softmax over 0 and its logit.
        """
        inside = np.stack([np.isin(labels, values) for values in REGIONS.values()], axis=-1)
        own = logits.reshape(-1, 1)
        return np.concatenate([np.zeros_like(own), own], axis=1), inside.reshape(-1).astype(int)


def _labels_where(inside: Bool[Array, "*n 3"]) -> Labels:
    labels = jnp.zeros(inside.shape[:-1], jnp.uint8)
    nested = jnp.ones(inside.shape[:-1], bool)
    for k, value in enumerate(OWN_LABELS):
        nested = nested & inside[..., k]
        labels = jnp.where(nested, jnp.uint8(value), labels)
    return labels


# By name, as in config.segment.outputs; the default first.
OUTPUTS: dict[str, SegmentationOutputs] = {"classes": ClassOutputs(), "regions": RegionOutputs()}
DEFAULT_OUTPUTS = next(iter(OUTPUTS))


def outputs_named(channels: tuple[str, ...]) -> str:
    """The key of `OUTPUTS` whose channels these are; LookupError if there is none."""
    for name, outputs in OUTPUTS.items():
        if outputs.channels == channels:
            return name
    raise LookupError(f"no segmentation has the channels {', '.join(channels)}")
