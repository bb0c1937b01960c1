"""The slices that each stage of a fold trains and validates on."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from brats_jax.data.folds import ALL, fold_title
from brats_jax.data.selection import (
    HELD_OUT,
    LabelBudget,
    count_labelled,
    count_patients,
    every_kth_patient,
    label_budget,
    labelled_slices,
    note_on_left_out,
    pretraining_slices,
    select_slices,
    usable_slices,
)
from brats_jax.data.splits import Split, Splits, fold_split
from brats_jax.data.store.reader import Store
from brats_jax.data.store.several_planes import SeveralPlanes
from brats_jax.errors import BratsError
from brats_jax.experiments import config as experiment_config
from brats_jax.runs.settings import Settings
from brats_jax.runtime.text import plural
from brats_jax.tasks import Task

# Without a validation set, a stage is validated on the training slices of every fifth patient. This
# takes as long as the validation of one of five folds, and shows whether the training diverges.
VALIDATE_EVERY = 5


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
      planes: the store with those of other planes, which training reads too; None without them.
    """

    settings: Settings
    store: Store
    splits: Splits
    split: Split
    fold: int
    planes: SeveralPlanes | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        store: Store,
        splits: Splits,
        fold: int,
        planes: SeveralPlanes | None = None,
    ) -> Self:
        """The slices of a fold."""
        return cls(settings, store, splits, fold_split(splits, store, fold), fold, planes)

    @property
    def training_store(self) -> Store:
        """The store that training reads; its first slices are those of `store`."""
        return self.planes or self.store

    def in_all_planes(self, task: Task, indices: np.ndarray) -> np.ndarray:
        """Slices of `training_store`: the given ones, and those of their patients in other planes.

        Args:
          task: of the stage, whose rule chooses among the slices of other planes.
          indices: int64[n] ascending, of `training` or `all_training`.
        """
        if self.planes is None:
            return indices
        slices = self.settings.stage(task.name).slices
        return select_slices(self.planes, self.planes.in_all_planes(indices), slices)

    def all_training(self, task: Task) -> np.ndarray:
        """The slices that a stage trains on with all labels and all unlabelled patients."""
        return self._training(task, 1.0)

    def training(self, task: Task) -> np.ndarray:
        """The same with the label budget and the share `unlabelled_fraction`."""
        if task.name == "pretrain":
            return self._training(task, self.settings.pretrain.unlabelled_fraction)
        budget = self._budget(task)
        return self._training(task, 1.0) if budget is None else budget.train

    def validation(self, task: Task) -> np.ndarray:
        """The slices that are scored at the end of an epoch, by the rule of `selection`.

        'validation': the slices of the validation set. 'held_out': those held out of the label
        budget. 'last': the training slices; without a validation set, those of every fifth patient.
        A task that validates volumes gets all slices of the same patients.
        """
        selection = self.selection(task)
        if selection == "validation":
            indices = self._used(self.split.validation, task)
        else:
            indices = self.held_out(task) if selection == "held_out" else self.training(task)
        if task.validates_volumes:
            if selection == "validation":  # patients without a slice of the stage, too
                indices = self._of_usable(self.split.validation, task)
            patients = np.unique(self.store.patient_of[indices])
            indices = np.flatnonzero(np.isin(self.store.patient_of, patients))
        if self._has_validation:
            return indices
        return every_kth_patient(self.store, indices, VALIDATE_EVERY)

    @property
    def _has_validation(self) -> bool:
        """False if all patients train, and in a cross-validation."""
        return self.fold != ALL and not self.splits.cross_validates

    def held_out(self, task: Task) -> np.ndarray:
        """The slices of the label budget that are not trained on."""
        budget = self._budget(task)
        return np.zeros(0, np.int64) if budget is None else budget.held_out

    def selection(self, task: Task) -> str:
        """Where the best checkpoint is chosen: 'validation', 'held_out' or 'last'.

        `StageTraining.selection` explains the three.
        """
        if not self._has_validation:
            return "last"
        budget = self._budget(task)
        if budget is None or self.settings.data.selection == "validation":
            return "validation"
        return "held_out" if len(budget.held_out) else "last"

    def _budget(self, task: Task) -> LabelBudget | None:
        """The budget of a segmentation with the labels of some patients; None: of all."""
        data = self.settings.data
        if task.name == "pretrain" or not self.settings.uses_few_labels:
            return None
        found = self._training(task, 1.0)
        count, every = count_labelled(self.store, found, data.label_fraction, self.splits)
        count = data.label_patients or count
        if count >= every:
            return None
        if data.selection == "validation" or not self._has_validation:
            train = labelled_slices(self.store, found, count, self.splits, self.fold)
            return LabelBudget(train, np.zeros(0, np.int64))
        return label_budget(self.store, found, count, self.splits, self.fold)

    def check_labels(self) -> None:
        """Refuses a label budget of more patients than there are (BratsError)."""
        asked = self.settings.data.label_patients
        task = experiment_config.segmentation(self.settings)
        _, every = count_labelled(self.store, self._training(task, 1.0), 1.0, self.splits)
        if asked > every:
            raise BratsError(
                f"config.data.label_patients={asked}: the training set of {fold_title(self.fold)} "
                f"has {plural(every, 'patient')} with labels; give at most {every}, or 0 for all"
            )

    def check_start(self, mode: str) -> None:
        """Refuses, before a run begins, a fold that it cannot train or evaluate (BratsError)."""
        if mode != "pretrain":
            self.check_labels()
        for name in experiment_config.stages_of(self.settings, mode):
            task = experiment_config.task(self.settings, name)
            self.check_not_empty(task)
            if not self.splits.all_train and not len(self.test(task)):
                raise BratsError(
                    f"{fold_title(self.fold)} {name}: no test slice of a patient with "
                    f"{', '.join(task.test_needs)}, which the evaluation needs: give another split "
                    "(--config.data.split_seed)"
                    + ", or --config.evaluation.slices=all"
                    * (self.settings.evaluation.slices != "all")
                )

    def test(self, task: Task) -> np.ndarray:
        """The slices that a stage is evaluated on."""
        found = usable_slices(self.store, self.split.test, task.testable(self.store.present))
        return select_slices(self.store, found, self.settings.evaluation.slices)

    def selection_note(self, task: Task) -> str:
        """A line on how the checkpoint is chosen; '' for the score on the validation set."""
        if not self._has_validation:
            return (
                "the last checkpoint is taken; validation is on slices that it trains on, of one "
                f"patient in {VALIDATE_EVERY}"
            )
        if self._budget(task) is None:
            return ""
        if self.settings.data.selection == "validation":
            return (
                "the checkpoint is chosen on the fold's validation set, whose labels are not "
                "counted (config.data.selection=validation)"
            )
        held_out = count_patients(self.store, self.held_out(task))
        if held_out:
            return (
                f"one in {HELD_OUT} {self.splits.split_by}s with labels is held out "
                f"({plural(held_out, 'patient')}) and chooses the checkpoint"
            )
        return (
            f"fewer than {HELD_OUT} {self.splits.split_by}s with labels: none is held out, and the "
            "last checkpoint is taken; validation is on the training slices"
        )

    def check_not_empty(self, task: Task) -> None:
        """Refuses a stage without slices (BratsError)."""
        for name, found in (
            ("training", self.training(task)),
            ("validation", self.validation(task)),
        ):
            if not len(found):
                raise BratsError(
                    f"{fold_title(self.fold)} {task.name}: {self.store.path} has no slice for the "
                    f"{name} set, which needs patients with "
                    f"{', '.join(task.needs) or 'any modality'}: let the "
                    "stage use all slices (slices=all), choose other modalities, or prepare more "
                    "patients"
                )

    def left_out_notes(self, task: Task) -> list[str]:
        """Lines on patients who are left out because they lack a modality or labels."""
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
        """Of these slices, those of usable patients that the stage's setting `slices` chooses."""
        usable = self._of_usable(indices, task)
        return select_slices(self.store, usable, self.settings.stage(task.name).slices)

    def _of_usable(self, indices: np.ndarray, task: Task) -> np.ndarray:
        """Of these slices, those of patients with the modalities that the task needs."""
        return usable_slices(self.store, indices, task.usable(self.store.present))
