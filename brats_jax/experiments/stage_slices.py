"""The slices that each stage of a fold trains and validates on."""

from dataclasses import dataclass

import numpy as np

from brats_jax.data.selection import (
    labelled_slices,
    note_on_left_out,
    pretraining_slices,
    select_slices,
    usable_slices,
)
from brats_jax.data.splits import Split, Splits
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.runs.settings import Settings
from brats_jax.tasks import Task


@dataclass(frozen=True)
class StageSlices:
    """The data of a fold, by stage.

    Pretraining uses every patient with the modalities that it needs who is in no validation or
    test set, with labels or without; segmentation uses those with labels of the classes.

    Attributes:
      settings: of the experiment.
      store, splits: the data.
      split: the sets of the fold.
      fold: its number.
    """

    settings: Settings
    store: Store
    splits: Splits
    split: Split
    fold: int

    def all_training(self, task: Task) -> np.ndarray:
        """The slices that a stage trains on with all labels and all unlabelled patients."""
        return self._training(task, 1.0)

    def training(self, task: Task) -> np.ndarray:
        """The same with the shares of `label_fraction` and `unlabelled_fraction`."""
        if task.name == "pretrain":
            return self._training(task, self.settings.pretrain.unlabelled_fraction)
        found, fraction = self._training(task, 1.0), self.settings.data.label_fraction
        if fraction < 1:
            found = labelled_slices(self.store, found, fraction, self.splits, self.fold)
        return found

    def validation(self, task: Task) -> np.ndarray:
        """The slices of the validation set."""
        return self._used(self.split.validation, task)

    def check(self, task: Task) -> None:
        """Refuses a stage without slices (BratsError)."""
        for name, found in (
            ("training", self.training(task)),
            ("validation", self.validation(task)),
        ):
            if not len(found):
                raise BratsError(
                    f"fold {self.fold} {task.name}: {self.store.path} has no slice for the {name} "
                    f"set, which needs patients with {', '.join(task.needs)}: let the stage use "
                    "all slices (slices=all), choose other modalities, or prepare more patients"
                )

    def notes(self, task: Task) -> list[str]:
        """Lines on patients who are left out, because they lack what the task needs."""
        usable = task.usable(self.store.present)
        sets = {"training": self.split.train, "validation": self.split.validation}
        if task.name == "pretrain":
            sets["unlabelled"] = self.split.unlabelled
        notes = [
            note_on_left_out(self.store, indices, usable, task.needs, name)
            for name, indices in sets.items()
        ]
        return [note for note in notes if note]

    def _training(self, task: Task, unlabelled_fraction: float) -> np.ndarray:
        found = self.split.train
        if task.name == "pretrain":
            found = pretraining_slices(
                self.store, self.split, unlabelled_fraction, self.splits, self.fold
            )
        return self._used(found, task)

    def _used(self, indices: np.ndarray, task: Task) -> np.ndarray:
        usable = usable_slices(self.store, indices, task.usable(self.store.present))
        return select_slices(self.store, usable, self.settings.stage(task.name).slices)
