"""Stage 2: the tumour's classes or regions from the modalities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from brats_jax import losses
from brats_jax.data.augment import augment
from brats_jax.data.modalities import CLASSES, REGIONS, channel_indices
from brats_jax.metrics import overlap
from brats_jax.models import DeeplySupervisedModel, SegmentationModel, Supervised, presence
from brats_jax.tasks.base import Batch, Images, Task
from brats_jax.tasks.segmentation_outputs import (
    DEFAULT_OUTPUTS,
    OUTPUTS,
    SegmentationOutputs,
    outputs_named,
)

VOLUME_DICE = "volume_dice"
# dice: a mean over slices (the paper's); volume_dice: of whole volumes, as the challenge reports.
SELECTION_METRICS = ("dice", VOLUME_DICE)


@dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """Stage 2: background, NCR/NET, ED and ET from four modalities.

    Attributes:
      outputs_name: a key of `segmentation_outputs.OUTPUTS`: the meaning of the network's channels.
      loss_name: a key of `losses.SEGMENTATION_LOSSES`.
      focal_gamma, focal_alpha: see `losses.focal`.
      label_smoothing: see `losses.cross_entropy`.
      dice_present: see `present` of `losses.dice_loss`.
      selection_metric: of `SELECTION_METRICS`: what selects the best checkpoint.
      deep_supervision: see `losses.deeply_supervised`.
      modality_dropout: probability that a training example lacks modalities which its patient has
        (`models.presence.dropped`). Above 0 the network takes missing modalities.
    """

    inputs: tuple[str, ...] = ("t1", "t1gd", "t2", "flair")
    outputs_name: str = DEFAULT_OUTPUTS
    loss_name: str = "dice_ce"
    focal_gamma: float = 2.0
    focal_alpha: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    dice_present: bool = False
    selection_metric: str = SELECTION_METRICS[0]
    deep_supervision: bool = False
    modality_dropout: float = 0.0

    name: ClassVar[str] = "segment"

    @property
    def metric(self) -> str:
        """See `Task.metric`: by slice, the mean Dice of the classes or regions that are trained."""
        return VOLUME_DICE if self.validates_volumes else self.channels.metric

    @property
    def validates_volumes(self) -> bool:
        """See `Task.validates_volumes`."""
        return self.selection_metric == VOLUME_DICE

    @property
    def larger_is_better(self) -> bool:
        """See `Task.larger_is_better`."""
        return True

    @property
    def slice_facts(self) -> frozenset[str]:
        """See `Task.slice_facts`."""
        needed = self.augmentation is not None and self.augmentation.needs_background
        return frozenset({"background"} if needed else ())

    @property
    def takes_missing(self) -> bool:
        """See `Task.takes_missing`."""
        return self.modality_dropout > 0

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Task.needs`: () if any one is enough."""
        return () if self.takes_missing else self.inputs

    @property
    def test_needs(self) -> tuple[str, ...]:
        """See `Task.test_needs`: scores of patients with all inputs and with some do not mix."""
        return self.inputs

    def usable(self, present: np.ndarray) -> np.ndarray:
        """See `Task.usable`."""
        if self.takes_missing:
            return np.asarray(present[:, channel_indices(self.inputs)].any(axis=1))
        return super().usable(present)

    @property
    def channels(self) -> SegmentationOutputs:
        """The meaning of the network's channels."""
        return OUTPUTS[self.outputs_name]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The classes, or the regions."""
        return self.channels.channels

    def build(self, seed: int) -> nnx.Module:
        """A newly initialised network."""
        return self._build(SegmentationModel, seed)

    def build_to_train(self, seed: int) -> nnx.Module:
        """See `Task.build_to_train`."""
        kind = DeeplySupervisedModel if self.deep_supervision else SegmentationModel
        return self._build(kind, seed)

    def _build(self, kind: type[SegmentationModel], seed: int) -> SegmentationModel:
        return kind(
            len(self.stem_channels),
            len(self.outputs),
            width=self.width,
            slope=self.slope,
            fusion=self.fusion,
            dtype=self.dtype,
            rngs=nnx.Rngs(seed),
        )

    @classmethod
    def described_by(cls, description: Mapping[str, Any], dtype: DTypeLike) -> Self:
        """See `Task.described_by`."""
        return cls(
            inputs=tuple(description["inputs"]),
            outputs_name=outputs_named(tuple(description["outputs"])),
            context=description.get("context", 0),
            width=description["width"],
            slope=description.get("slope", 0.0),
            **cls.described_fusion(description),
            modality_dropout=description.get("modality_dropout", 0.0),
            dtype=dtype,
        )

    def prepare(self, batch: Batch, *, training: bool) -> tuple[Images, UInt8[Array, "b h w"]]:
        """See `Task.prepare`; the target is the labels.

        In training, modality dropout comes last: it sees neither the noise nor the interpolation of
        the augmentation.
        """
        x, labels = self._images(batch), batch["label"]
        if training and self.augmentation is not None:
            outside = None
            if self.augmentation.needs_background:
                outside = self.background(batch, channel_indices(self.inputs))
            x, _, moved = augment(
                x, None, labels, batch["seed"], self.augmentation, outside, slices=self.slices_read
            )
            assert moved is not None
            labels = moved
        if not self.takes_missing:
            return x, labels
        present = self._present(batch)
        if training:
            present = presence.dropped(batch["seed"], present, self.modality_dropout)
        return presence.encoded(x, present), labels

    def test_input(self, batch: Batch) -> jax.Array:
        """See `Task.test_input`."""
        x = self._images(batch)
        return presence.encoded(x, self._present(batch)) if self.takes_missing else x

    def _images(self, batch: Batch) -> jax.Array:
        """float32[B, H, W, C] of the inputs; 0 where a missing modality is known to the network."""
        images = batch["image"].astype(jnp.float32)
        x = self.read(images, batch, channel_indices(self.inputs))
        # Hidden before the augmentation as well, some of which reads whole patches.
        return presence.hidden(x, self._present(batch)) if self.takes_missing else x

    def _present(self, batch: Batch) -> jax.Array:
        """bool[B, inputs]: the inputs that each patient has."""
        if "present" not in batch:
            return jnp.ones((len(batch["image"]), len(self.inputs)), bool)
        return jnp.asarray(batch["present"])[:, jnp.array(channel_indices(self.inputs))]

    def describe(self) -> dict[str, Any]:
        """See `Task.describe`. Networks that take no missing modalities do not mention them."""
        found = super().describe()
        if self.modality_dropout:
            found["modality_dropout"] = self.modality_dropout
        return found

    def result(self, output: jax.Array) -> jax.Array:
        """See `Task.result`: labels uint8[B, H, W]."""
        return self.channels.labels_of_logits(output).astype(jnp.uint8)

    def loss(
        self, output: Float[Array, "b h w k"] | Supervised, target: Int[Array, "b h w"]
    ) -> jax.Array:
        """The segmentation loss called `loss_name`; with deep supervision of every head."""
        loss = losses.get_segmentation_loss(
            self.loss_name,
            alpha=self.focal_alpha,
            gamma=self.focal_gamma,
            regions=self.channels.loss_regions,
            smoothing=self.label_smoothing,
            present=self.dice_present,
        )
        if isinstance(output, Supervised):
            return losses.deeply_supervised(loss, *output, target)
        return loss(output, target)

    def validate(
        self, output: Float[Array, "b h w k"], target: Int[Array, "b h w"]
    ) -> dict[str, jax.Array]:
        """True positives, false positives and false negatives of each slice and set of labels."""
        prediction = self.channels.labels_of_logits(output)
        sets = tuple(self.channels.counted.values())
        found = {"counts": overlap.region_counts(prediction, target, sets)}
        if self.validates_volumes:
            regions = tuple(REGIONS.values())
            found["regions"] = overlap.region_counts(prediction, target, regions)
        return found

    def summarise(self, statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Dice of each class, and the mean of the foreground classes; with regions theirs, too.

        A slice counts for a class that is in its truth or its prediction (present-only). A class
        that is in no slice is left out of the mean; without any foreground the mean is 0.

        With `selection_metric='volume_dice'` also the mean over patients of the Dice of WT, TC and
        ET in 3D, and the mean of the three. A region that a patient has in neither truth nor
        prediction counts 1, in one of them 0, as in BraTS 2020.
        """
        dice = overlap.mean_dice(statistics["counts"], "present_only").dice
        by_name = dict(zip(self.channels.counted, dice.tolist(), strict=True))

        def mean(names: tuple[str, ...]) -> float:
            present = np.array([by_name[name] for name in names])
            present = present[~np.isnan(present)]
            return float(present.mean()) if present.size else 0.0

        # By class with every kind of outputs, so that trainings can be compared.
        means = {self.channels.metric: self.channels.scored, "mean_foreground_dice": CLASSES[1:]}
        return {
            **(_volume_dice(statistics) if self.validates_volumes else {}),
            **{name: mean(of) for name, of in means.items()},
            **{f"dice_{name}": value for name, value in by_name.items()},
        }


def _volume_dice(statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean Dice of whole volumes, from the counts and the patient of each slice."""
    counts = np.asarray(statistics["regions"], np.int64)
    _, patient = np.unique(statistics["patient"], return_inverse=True)
    volumes = np.zeros((patient.max() + 1, *counts.shape[1:]), np.int64)
    np.add.at(volumes, patient, counts)
    dice = overlap.dice_under(volumes, "brats2020").mean(axis=0)
    by_region = {f"{VOLUME_DICE}_{name}": float(d) for name, d in zip(REGIONS, dice, strict=True)}
    return {VOLUME_DICE: float(dice.mean()), **by_region}
