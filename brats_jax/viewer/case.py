"""What is looked at: a case as arrays."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from brats_jax.data.modalities import CLASSES, MODALITIES
from brats_jax.data.normalise import brain_mask
from brats_jax.errors import BratsError


@dataclasses.dataclass(frozen=True)
class CaseView:
    """A case with its segmentation; D slices of H x W, running to Superior, Left, Posterior (LPS).

    Attributes:
      name: what the case is called.
      images: float[D, H, W, 4], modalities in canonical order, raw intensities, background 0; one
        that is 0 everywhere is absent.
      labels: integer[D, H, W] as in `modalities.CLASSES` (ET is 3): the prediction.
      truth: the same from a reader, or None.
      uncertainty: float[D, H, W] from 0 to 1, or None.
      spacing_mm: voxel size along H, W and D (x, y, z).
      facts: what is to be known of the prediction (model hash, configuration, version), as text.
      record: all that is known of it, JSON-able.

    Raises:
      BratsError: arrays that do not fit together, labels or uncertainties that are none.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    truth: np.ndarray | None = None
    uncertainty: np.ndarray | None = None
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.images.shape[:3]
        if self.images.ndim != 4 or self.images.shape[3] != len(MODALITIES):
            raise BratsError(
                f"{self.name}: images are {list(self.images.shape)}; give [D, H, W, 4], the "
                f"modalities {', '.join(MODALITIES)}"
            )
        for what in ("labels", "truth", "uncertainty"):
            array = getattr(self, what)
            if array is not None and array.shape != shape:
                raise BratsError(
                    f"{self.name}: {what} are {list(array.shape)}, images {list(shape)}; give "
                    "all on one grid"
                )
        for what in ("labels", "truth"):
            array = getattr(self, what)
            if array is not None and not np.isin(array, range(len(CLASSES))).all():
                raise BratsError(f"{self.name}: {what} hold other values than 0 to 3 (ET is 3)")
        if not np.isfinite(self.images).all():
            raise BratsError(f"{self.name}: images hold values that are not finite; repair them")
        if self.uncertainty is not None and not (
            (self.uncertainty >= 0).all() and (self.uncertainty <= 1).all()
        ):
            raise BratsError(f"{self.name}: uncertainties are not within 0 and 1; scale them")

    @cached_property
    def brain(self) -> np.ndarray:
        """bool[D, H, W]: where any modality is not 0."""
        return brain_mask(self.images)

    @cached_property
    def present(self) -> tuple[str, ...]:
        """The modalities that there are; all of them where no voxel tells."""
        there = tuple(m for c, m in enumerate(MODALITIES) if self.images[..., c].any())
        return there or MODALITIES

    @property
    def under(self) -> str:
        """The modality that labels are laid over: T1Gd where there is one."""
        return "t1gd" if "t1gd" in self.present else self.present[0]

    def volumes_ml(self, labels: np.ndarray) -> dict[str, float]:
        """Millilitres of each class but the background, and of the whole tumour (WT)."""
        counts = np.bincount(labels.ravel().astype(np.uint8), minlength=len(CLASSES))[1:]
        ml = counts * (np.prod(self.spacing_mm) / 1000)
        named = {name: float(v) for name, v in zip(CLASSES[1:], ml, strict=True)}
        return {**named, "WT": float(ml.sum())}

    def to_look_at(self) -> np.ndarray:
        """bool[D, H, W]: the tumour, predicted or true; the brain where there is none."""
        tumour = self.labels != 0
        if self.truth is not None:
            tumour = tumour | (self.truth != 0)
        return tumour if tumour.any() else self.brain
