"""A segmentation's labels of a store's slices, averaged over slices of several planes.

The planes are cut from whole volumes, which are read and predicted one after the other.
"""

from collections.abc import Collection, Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.planes import slices_along, to_axial
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.inference.ensemble import Ensemble
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.inference.several_runs import EnsembleOfRuns
from brats_jax.inference.trained_run import EnsembleMember
from brats_jax.tasks.segmentation_outputs import SegmentationOutputs


def check_whole(store: Store, indices: np.ndarray) -> None:
    """Refuses slices of a patient whose volume lacks some (BratsError)."""
    patients = np.unique(store.patient_of[indices])
    if not store.whole[patients].all():
        name = store.patients[patients[~store.whole[patients]][0]]
        raise BratsError(
            f"config.evaluation.planes: slices of {name} are missing in {store.path}, and other "
            "planes are cut from whole volumes: leave the setting out, or prepare whole volumes"
        )


class OverPlanes:
    """A segmentation whose mean probabilities over planes decide.

    Args:
      network: a segmentation that was trained on the planes.
      planes: to average over.
      tta: average over flips as well.
    """

    def __init__(self, network: RestoredNetwork, planes: Sequence[str], *, tta: bool) -> None:
        member = EnsembleMember(0, network, "")
        self._channels = network.channels
        self._ensemble = EnsembleOfRuns(
            [Ensemble([member], flips=tta, plane=plane) for plane in planes]
        )

    def labels(
        self,
        store: Store,
        indices: np.ndarray,
        batch_size: int,
        given: Collection[str] | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The labels of slices.

        Args:
          store, indices: the slices, patient by patient.
          batch_size: slices in a batch.
          given: the modalities that count, of those that a patient has; None: all.

        Yields:
          (prediction, truth, valid): uint8[B, H, W] twice, and bool[B], False for the slices that
          fill up the end of the last batch.

        Raises:
          BratsError: a patient's volume lacks slices.
        """
        check_whole(store, indices)
        waiting: list[tuple[np.ndarray, np.ndarray]] = []

        def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            """The first slices that wait, repeated up to the size of a batch."""
            at = np.arange(batch_size)
            filled = [waiting[k] for k in np.resize(at[: len(waiting)], batch_size)]
            valid = at < len(waiting)
            del waiting[:batch_size]
            prediction, truth = (np.stack(arrays) for arrays in zip(*filled, strict=True))
            return prediction, truth, valid

        for patient in dict.fromkeys(store.patient_of[indices].tolist()):
            chosen = indices[store.patient_of[indices] == patient]
            for pair in zip(*self._of_patient(store, patient, chosen, given), strict=True):
                waiting.append(pair)
                if len(waiting) == batch_size:
                    yield batch()
        if waiting:
            yield batch()

    def _of_patient(
        self, store: Store, patient: int, chosen: np.ndarray, given: Collection[str] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(prediction, truth) uint8[n, H, W] of some slices of one patient."""
        name = store.patients[patient]
        whole = np.asarray(store.slices_of(name))
        images, truth = store.read(whole)
        present = [one for one in modalities_of(store, name) if given is None or one in given]
        mean, _ = self._ensemble.mean_outputs(to_axial(images, store.plane), present)
        at = chosen - whole[0]
        return slices_along(decided(self._channels, mean), store.plane)[at], truth[at]


def modalities_of(store: Store, patient: str) -> list[str]:
    """The modalities that a patient has."""
    flags = store.present[store.patients.index(patient)]
    return [name for name, is_present in zip(MODALITIES, flags, strict=True) if is_present]


def decided(channels: SegmentationOutputs, mean: np.ndarray) -> np.ndarray:
    """uint8[S, H, W]: the labels of mean outputs [S, H, W, K]."""
    return np.asarray(channels.labels(jnp.asarray(mean)), np.uint8)
