"""The slices of panels, and panels/segmentation.npz, which holds those of a segmentation as arrays.

The report draws the predictions of several models on the same slices from these files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from brats_jax.data.planes import AXIAL
from brats_jax.data.store.reader import Store
from brats_jax.runs.documents import REEVALUATE_HINT
from brats_jax.runtime.files import atomic_open
from brats_jax.runtime.npz import check_array, open_npz

APART = 10  # least distance, in slices, between two panel rows of one patient


def slices_to_draw(store: Store, indices: np.ndarray, count: int) -> np.ndarray:
    """Selects the slices of the panels: each patient's with most tumour, then the next ones.

    The selection depends on the store only: the panels of all models show the same slices. None of
    a store of another plane: pictures mark the sides of axial slices.

    Args:
      store, indices: candidates, by global index.
      count: number of slices; fewer where there are not so many.

    Returns:
      int64[<= count], ascending.
    """
    if store.plane != AXIAL:
        return np.zeros(0, np.int64)
    burden = store.pixels[:, 1:].sum(axis=1, dtype=np.int64)
    left = {
        p: indices[store.patient_of[indices] == p] for p in np.unique(store.patient_of[indices])
    }
    chosen: list[int] = []
    while left and len(chosen) < count:
        for patient, mine in list(left.items()):
            best = mine[np.argmax(burden[mine])]
            chosen.append(int(best))
            distance = np.abs(store.slice_number[mine].astype(int) - int(store.slice_number[best]))
            left[patient] = mine[distance >= APART]
            if not left[patient].size:
                del left[patient]
    return np.array(sorted(chosen[:count]), np.int64)


@dataclass(frozen=True)
class PanelSlices:
    """N slices of H x W pixels and a model's prediction for them.

    Attributes:
      patients, numbers: patient and slice number of each.
      images: float[N, H, W] by modality.
      truth, prediction: uint8[N, H, W] labels.
      dice: float[N, K] by class, NaN where a class is in neither mask.
    """

    patients: Sequence[str]
    numbers: Sequence[int]
    images: Mapping[str, np.ndarray]
    truth: np.ndarray
    prediction: np.ndarray
    dice: np.ndarray

    def save(self, path: Path) -> None:
        """Writes a .npz file atomically; images are stored in 16 bits."""
        with atomic_open(path, "wb") as file:
            np.savez_compressed(
                file,
                patients=np.array(list(self.patients)),
                numbers=np.array(list(self.numbers), np.int32),
                truth=np.asarray(self.truth, np.uint8),
                prediction=np.asarray(self.prediction, np.uint8),
                dice=np.asarray(self.dice, np.float32),
                **{f"image.{n}": np.asarray(x, np.float16) for n, x in self.images.items()},  # type: ignore[arg-type]
            )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file that `save` wrote.

        Raises:
          BratsError: the file is missing or damaged.
        """
        with open_npz(path, f"remove that fold's evaluation.json, and {REEVALUATE_HINT}") as file:
            images = {
                name.removeprefix("image."): file[name].astype(np.float32)
                for name in file
                if name.startswith("image.")
            }
            count, *plane = file["truth"].shape
            for name in ("truth", "prediction"):
                check_array(name, file[name], "u", (count, *plane[:2]))
            for name, image in images.items():
                check_array(f"image.{name}", image, "f", (count, *plane[:2]))
            check_array("patients", file["patients"], "U", (count,))
            check_array("numbers", file["numbers"], "i", (count,))
            check_array("dice", file["dice"], "f", (count, None))
            return cls(
                [str(name) for name in file["patients"]],
                [int(n) for n in file["numbers"]],
                images,
                file["truth"],
                file["prediction"],
                file["dice"],
            )
