"""A run's held-out patients: their labels, predicted by the networks that have not seen them."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brats_jax.data.selection import usable_slices
from brats_jax.data.splits import Splits, fold_split
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.slices import air_in, predicted_labels, voxel_spacing_mm
from brats_jax.inference.several_runs import chosen_planes
from brats_jax.inference.trained_run import EnsembleMember, TrainedRun
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime import devices
from brats_jax.runtime.console import progress_bar


class Volume(NamedTuple):
    """A patient's predicted and true labels, voxel size in mm, and air.

    Labels are uint8[H, W, slices], air is bool[H, W, slices], at least where the prediction is
    tumour. The axes may have another order if the voxel size has the same one.
    """

    prediction: np.ndarray
    truth: np.ndarray
    spacing_mm: tuple[float, float, float]
    air: np.ndarray

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing_mm))


class PackedVolume:
    """A volume with compressed labels, about 100 kB for one of BraTS."""

    def __init__(self, volume: Volume) -> None:
        self._shape, self._spacing_mm = volume.truth.shape, volume.spacing_mm
        air = volume.air & (volume.prediction != 0)
        arrays = (volume.prediction, volume.truth, air)
        self._arrays = [zlib.compress(one.astype(np.uint8).tobytes(), 1) for one in arrays]

    def unpacked(self) -> Volume:
        """The volume, whose arrays cannot be written to."""
        prediction, truth, air = (
            np.frombuffer(zlib.decompress(one), np.uint8).reshape(self._shape)
            for one in self._arrays
        )
        return Volume(prediction, truth, self._spacing_mm, air.astype(bool))


class Average(NamedTuple):
    """What predictions are averaged over, and the file of the sizes that are fitted to them.

    `planes` has commas; it is '' for the first plane of the training.
    """

    planes: str
    tta: bool
    path: Path


def average_of(
    trained: TrainedRun, planes: str | Sequence[str] | None, tta: bool | None
) -> Average:
    """The average that `cleaning_fit.fit_cleaning` is asked for."""
    own, known = trained.document.settings.evaluation, trained.record.planes
    of_run = chosen_planes(known, own.planes, "config.evaluation.planes: the run")
    chosen = of_run if planes is None else chosen_planes(known, planes, "--planes: the run")
    tta = own.tta if tta is None else tta
    run = RunFolder(trained.run)
    path = run.cleaning_json
    if ({*chosen}, tta) != ({*of_run}, own.tta):
        path = run.cleaning_of(chosen or known[:1], tta=tta)
    return Average(",".join(name for name in known if name in chosen), tta, path)


class HeldOutPatients:
    """A run's held-out patients: their labels, predicted by the fold that has not seen them."""

    def __init__(
        self,
        trained: TrainedRun,
        store: Store,
        splits: Splits,
        batch_size: int,
        average: Average,
    ) -> None:
        self.trained, self._store, self._splits = trained, store, splits
        self._batch_size = devices.round_up(batch_size, trained.members[0].network.mesh)
        self.average = average

    def patients(self, member: EnsembleMember, of_set: str) -> list[str]:
        """The patients of a set ('validation' or 'test') with whole volumes."""
        store = self._store
        found = getattr(fold_split(self._splits, store, member.fold), of_set)
        usable = member.network.task.testable(store.present)
        numbers = np.unique(store.patient_of[usable_slices(store, found, usable)])
        names = [store.patients[number] for number in numbers if store.whole[number]]
        if not names:
            raise BratsError(
                f"{self.trained.run}: fold {member.fold} has no whole volume with labels in its "
                f"{of_set} set; train with other patients (config.data.split_seed) in another "
                "--workdir"
            )
        return names

    def volumes(self, member: EnsembleMember, of_set: str) -> Iterator[Volume]:
        """Predicts the patients of a set; one volume is in memory at a time."""
        store, names = self._store, self.patients(member, of_set)
        slices = np.concatenate([np.asarray(store.slices_of(name)) for name in names])
        waiting: list[tuple[np.ndarray, np.ndarray]] = []
        batches = predicted_labels(
            member.network,
            store,
            slices,
            self._batch_size,
            tta=self.average.tta,
            planes=self.average.planes,
        )
        ends = {store.slices_of(name)[-1]: name for name in names}
        number = iter(slices)
        with progress_bar(len(slices), f"fold {member.fold} {of_set}", "slice") as progress:
            for predicted, truth, valid in batches:
                pairs = zip(np.asarray(predicted)[valid], np.asarray(truth)[valid], strict=True)
                for pair in pairs:
                    waiting.append(pair)
                    if (name := ends.get(int(next(number)))) is not None:
                        prediction, true = map(_stacked, zip(*waiting, strict=True))
                        waiting = []
                        whole = np.asarray(store.slices_of(name))
                        air = np.moveaxis(air_in(store, whole, store.read(whole)[0]), 0, -1)
                        yield Volume(prediction, true, voxel_spacing_mm(store, name), air)
                progress.update(int(valid.sum()))


def _stacked(slices: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(slices, axis=-1)
