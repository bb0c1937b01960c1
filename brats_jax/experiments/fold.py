"""One fold of an experiment: its stages are trained and evaluated, and what is done is skipped."""

import dataclasses
from pathlib import Path

from jax.sharding import Mesh

from brats_jax import about
from brats_jax.data.audit import Audit, audit_leakage, describe_burden
from brats_jax.data.folds import fold_title
from brats_jax.data.selection import count_patients
from brats_jax.data.splits import Splits, fold_split
from brats_jax.data.store.reader import Store
from brats_jax.data.store.several_planes import SeveralPlanes
from brats_jax.evaluation.fold import FoldEvaluation
from brats_jax.experiments import borrowed_pretraining, initialisation
from brats_jax.experiments import config as experiment_config
from brats_jax.experiments.stage_slices import StageSlices
from brats_jax.experiments.stage_state import needs_no_training, note_if_damaged
from brats_jax.runs import checkpoints
from brats_jax.runs.documents import (
    CROSS_VALIDATION,
    TEST_SET,
    StageResult,
    StageTraining,
    TrainingFacts,
)
from brats_jax.runs.folder import FoldFolder
from brats_jax.runs.settings import Settings
from brats_jax.runtime import distributed
from brats_jax.runtime.console import print_line
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.text import abridged, plural
from brats_jax.training.tracking import Tracking
from brats_jax.training.trainer import Stage

NOTHING_TO_EVALUATE = (
    "trained on all patients (config.folds=all): there is nothing to evaluate it on"
)


class Fold:
    """One fold of an experiment.

    Args:
      settings: of the experiment.
      store, splits: the data.
      folder: the fold's folder.
      mesh: the devices.
      trackers: of the run; default: none.
      planes: the store with those of other planes, which training reads too.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        splits: Splits,
        folder: FoldFolder,
        mesh: Mesh,
        trackers: Tracking | None = None,
        planes: SeveralPlanes | None = None,
    ) -> None:
        self.settings, self.store, self.splits = settings, store, splits
        self.trackers = trackers or Tracking()
        self.folder, self.mesh, self.title = folder, mesh, fold_title(folder.number)
        self.split = fold_split(splits, store, folder.number)
        self.audit = audit_leakage(store, self.split)
        self.slices = StageSlices.of(settings, store, splits, folder.number, planes)
        self.pretrained = folder.stage("pretrain")

    def run(self, mode: str) -> None:
        """Trains and evaluates the stages that `mode` asks for."""
        distributed.broadcast_from_main(self._write_audit)
        print_line(f"{self.title}: {self.audit.check(self.splits.split_by)}")
        if (kept := self.splits.training_only) and not self.splits.all_train:
            print_line(f"{self.title}: in training only: {abridged(kept)}")
        stages = experiment_config.stages_of(self.settings, mode)
        distributed.broadcast_from_main(lambda: self._check_splits(stages))
        if mode != "evaluate":
            sets = [(n, getattr(self.split, n)) for n in ("train", "validation", "test")]
            sets = [(name, indices) for name, indices in sets if len(indices)]
            if len(self.split.unlabelled):
                sets.append(("unlabelled", self.split.unlabelled))
            for line in describe_burden(self.store, sets):
                print_line(f"{self.title}: {line}")
            if self.settings.pretrain.run and not self._is_complete("segment"):
                self._take_pretraining()
            for name in stages:
                self._train(name)
        if self.splits.all_train:
            print_line(f"{self.title}: {NOTHING_TO_EVALUATE}")
            return
        # The main process evaluates alone: most of the work is on the host, by patient, and its
        # results must not depend on the number of processes.
        tasks = {name: experiment_config.task(self.settings, name) for name in stages}
        trained_on = {name: self.slices.training(task) for name, task in tasks.items()}
        evaluation = FoldEvaluation(
            self.settings,
            tasks,
            self.store,
            self.split,
            self.splits.split_by,
            CROSS_VALIDATION if self.splits.cross_validates else TEST_SET,
            self.folder,
            self.mesh.local_mesh,
            trained_on,
        )
        if distributed.broadcast_from_main(lambda: evaluation.run(again=mode == "evaluate")):
            self.trackers.test_results(self.folder, stages)

    def _write_audit(self) -> None:
        if read_if_readable(self.folder.audit_json, Audit) != self.audit:
            self.audit.write(self.folder.audit_json)

    def _check_splits(self, stages: tuple[str, ...]) -> None:
        path, digest = self.folder.run.splits_json, self.splits.digest
        for name in stages:
            checkpoints.check_splits(self.folder.stage(name), path, digest)

    def _is_complete(self, name: str) -> bool:
        return distributed.broadcast_from_main(lambda: self.folder.stage(name).is_complete)

    def _take_pretraining(self) -> None:
        """Finds the first stage in another run, and records where the encoder comes from."""

        def find() -> str:
            source = borrowed_pretraining.find(
                self.settings, self.folder.number, self.store, self.splits
            )
            borrowed_pretraining.record(source, self.folder)
            return str(source.path)

        source = Path(distributed.broadcast_from_main(find))
        self.pretrained = dataclasses.replace(self.pretrained, path=source)

    def _train(self, name: str) -> None:
        title, folder = f"{self.title} {name}", self.folder.stage(name)
        if distributed.broadcast_from_main(lambda: needs_no_training(folder)):
            print_line(f"{title}: complete, skipped")
            distributed.broadcast_from_main(lambda: self._repair_training(name))
            return
        stage, training = self.stage(name), self.describe(name)
        self._announce(stage, training, title)
        distributed.broadcast_from_main(lambda: self._write_training(name))
        distributed.broadcast_from_main(
            lambda: note_if_damaged(folder.complete_json, StageResult, title)
        )
        with self.trackers.stage(folder, title) as tracked:
            result = stage.run(tracked)
            distributed.broadcast_from_main(lambda: result.write(folder.complete_json))
            tracked.results("result", dataclasses.asdict(result))
        chosen = "last" if training.selection == "last" else "best"
        print_line(
            f"{title}: done, {chosen} {result.metric} {result.best:.4f} at step {result.best_step}"
        )

    def _announce(self, stage: Stage, training: StageTraining, title: str) -> None:
        """Prints the data, the length and the cost of a stage before it begins."""
        task = stage.task
        notes = [*self.slices.left_out_notes(task), self.slices.selection_note(task)]
        if (planes := self.slices.planes) is not None:
            others = " and ".join(one.plane for one in planes.stores[1:])
            notes.append(f"trains on {others} slices of its patients, too")
        for line in filter(None, (*notes, task.cost_note(stage.options.patch_size))):
            print_line(f"{title}: {line}")
        budget = unlabelled = ""
        if training.patients < training.of_patients:
            whose = "" if task.name == "pretrain" else "the labels of "
            budget = f"{whose}{training.patients} of "
        if training.unlabelled:
            unlabelled = f" ({training.unlabelled:,} with scans without labels)"
        print_line(
            f"{title}: trains on {budget}{plural(training.of_patients, 'patient')}{unlabelled}, "
            f"{training.slices:,} of {plural(training.of_slices, 'slice')}; "
            f"{plural(training.epochs, 'epoch')} of {plural(training.steps_per_epoch, 'step')}"
        )

    def _write_training(self, name: str) -> None:
        """Writes training.json, and names one that was damaged or edited."""
        path = self.folder.stage(name).training_json
        note_if_damaged(path, StageTraining, f"{self.title} {name}")
        self.describe(name).write(path)

    def _repair_training(self, name: str) -> None:
        """Makes the training.json of a complete stage again where it is damaged or missing."""
        path = self.folder.stage(name).training_json
        if read_if_readable(path, StageTraining) is None:
            if not path.exists():
                print_line(f"{self.title} {name}: {path} is missing: made again")
            self._write_training(name)

    def stage(self, name: str) -> Stage:
        """The training of the stage 'pretrain' or 'segment', to be run.

        With labels of some patients only, an epoch is as long as with the labels of all; with a
        share of the unlabelled patients it is as long as with all of them.
        """
        task = experiment_config.task(self.settings, name)
        self.slices.check_not_empty(task)
        all_slices = self.slices.in_all_planes(task, self.slices.all_training(task))
        options = experiment_config.train_options(self.settings, name, self.folder.number)
        options = dataclasses.replace(
            options,
            steps_per_epoch=options.epoch_length(len(all_slices)),
            keep_last=self.slices.selection(task) == "last",
        )
        planes = self.slices.planes
        facts = TrainingFacts(
            split_by=self.splits.split_by,
            leaks=self.audit.leaks,
            normalisation=self.store.manifest.normalisation,
            slice_shape=tuple(self.store.slice_shape),
            store=self.store.fingerprint,
            version=about.__version__,
            plane=self.store.plane,
            other_planes=tuple(one.plane for one in planes.stores[1:]) if planes else (),
        )
        start = initialisation.Initialisation(
            self.settings, task, self.pretrained, self.mesh, self.title
        )
        return Stage(
            task,
            self.slices.training_store,
            self.slices.in_all_planes(task, self.slices.training(task)),
            self.slices.validation(task),
            options,
            self.folder.stage(name),
            self.mesh,
            initialise=start.initialiser(),
            transferred=start.transferred(),
            record=facts,
            splits=self.splits.digest,
            validation_store=self.store if planes else None,
        )

    def describe(self, name: str) -> StageTraining:
        """The length of a stage and its share of the training set."""
        task = experiment_config.task(self.settings, name)
        options = experiment_config.train_options(self.settings, name, self.folder.number)
        store = self.slices.training_store
        chosen, all_slices = (
            self.slices.in_all_planes(task, of_plane)
            for of_plane in (self.slices.training(task), self.slices.all_training(task))
        )
        length = options.epoch_length(len(all_slices))
        without_labels = ~store.labelled[store.patient_of[chosen]]
        return StageTraining(
            patients=count_patients(store, chosen),
            of_patients=count_patients(store, all_slices),
            slices=len(chosen),
            of_slices=len(all_slices),
            epochs=options.epochs,
            steps_per_epoch=length,
            steps=options.epochs * length,
            unlabelled=count_patients(store, chosen[without_labels]),
            selection=self.slices.selection(task),
            held_out=count_patients(self.store, self.slices.held_out(task)),
        )
