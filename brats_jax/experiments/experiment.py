"""An experiment: for each fold pretrain, transfer, segment and evaluate, and skip what is done.

`runs.folder` has the layout of the run folder that it writes.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from brats_jax import about
from brats_jax.data.audit import Audit, audit_leakage, describe_burden
from brats_jax.data.folds import fold_title
from brats_jax.data.selection import count_patients
from brats_jax.data.splits import Splits, fold_split, load_or_make_splits, make_splits
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.fold import FoldEvaluation
from brats_jax.experiments import borrowed_pretraining, initialisation, shared_batch
from brats_jax.experiments import config as experiment_config
from brats_jax.experiments.stage_slices import StageSlices
from brats_jax.experiments.stage_state import needs_no_training, note_if_damaged
from brats_jax.runs import checkpoints
from brats_jax.runs.documents import (
    CROSS_VALIDATION,
    TEST_SET,
    GridConfig,
    RunConfig,
    StageResult,
    StageTraining,
    Summary,
    TrainingFacts,
)
from brats_jax.runs.folder import (
    FoldFolder,
    GridFolder,
    RunFolder,
)
from brats_jax.runs.left_folds import check_config_is_there
from brats_jax.runs.settings import Settings, differences
from brats_jax.runtime import devices, distributed, locks
from brats_jax.runtime.console import print_line, print_lines
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.files import check_folder, make_folder
from brats_jax.runtime.text import listed, plural
from brats_jax.training.tracking import Tracking
from brats_jax.training.trainer import Stage

MODES = ("train", "pretrain", "evaluate")
NOTHING_TO_EVALUATE = (
    "trained on all patients (config.folds=all): there is nothing to evaluate it on"
)


def run(config: ConfigDict, workdir: Path, mode: str = "train") -> Summary | None:
    """Starts an experiment or continues it; prints and returns its summary.

    With config.folds=all there is nothing to evaluate, and no summary (None).

    Args:
      config: the settings, see configs/base.py.
      workdir: the run folder; created if it is not there.
      mode: 'train' trains and evaluates; 'pretrain' does so with the first stage alone;
        'evaluate' only evaluates.

    Raises:
      BratsError: for anything the user has to change.
    """
    settings = experiment_config.parse(config)
    folder = RunFolder(workdir)
    settings = experiment_config.as_begun(
        settings, distributed.broadcast_from_main(lambda: _recorded(folder))
    )
    distributed.broadcast_from_main(lambda: _check(settings, folder, mode))
    store = Store.open(Path(settings.data.store))
    # A run keeps to the patients that it was started with, though sources were added since.
    kept = distributed.broadcast_from_main(lambda: recorded_fingerprint(settings, folder))
    every, store = len(store.patients), store.as_of(kept)
    if len(store.patients) < every:
        print_line(
            f"{workdir}: keeps to the {len(store.patients):,} patients that the store had before "
            f"others were added ({every:,} now)"
        )
    devices.use_compilation_cache(settings.compilation_cache)
    mesh = devices.training_mesh()
    processes = distributed.gather_to_main([settings.document, store.fingerprint])

    def start() -> dict[str, Any]:
        _check_processes(processes)
        return _start(settings, store, folder, mode, mesh).to_json()

    splits = Splits.from_json(distributed.broadcast_from_main(start))
    print_line(
        f"{workdir}: {devices.describe()}, {_describe_dtype(settings)} activations, store "
        f"{store.path}"
    )
    with Tracking.of(settings, workdir) as trackers:
        for number in settings.folds:
            fold = Fold(settings, store, splits, folder.fold(number), mesh, trackers)
            with _locked(fold.folder):
                fold.run(mode)
    if settings.trains_on_all:
        return None
    summary = Summary.from_json(
        distributed.broadcast_from_main(lambda: _summarise(folder, splits.num_folds).to_json())
    )
    if settings.evaluation.subsets and mode != "pretrain":
        distributed.broadcast_from_main(lambda: _summarise_subsets(folder, splits.num_folds))
    return summary


def _recorded(folder: RunFolder) -> dict[str, Any] | None:
    """The settings that a run was begun with; None for a new run."""
    document = read_if_readable(folder.config_json, RunConfig)
    return None if document is None else document.config


def recorded_fingerprint(settings: Settings, folder: RunFolder) -> str:
    """The fingerprint of the store whose patients a run keeps to; '' if it takes all.

    That of the store which the run was started on; of a new run, that of its grid, or of the run
    whose pretraining it takes.
    """
    found: list[RunConfig | GridConfig | None] = [read_if_readable(folder.config_json, RunConfig)]
    for parent in folder.path.resolve().parents[:2]:
        found.append(read_if_readable(GridFolder(parent).grid_json, GridConfig))
    if settings.pretrain.run:
        other = RunFolder(Path(settings.pretrain.run))
        found.append(read_if_readable(other.config_json, RunConfig))
    return next((document.store.fingerprint for document in found if document), "")


def _check(settings: Settings, folder: RunFolder, mode: str) -> None:
    if mode not in MODES:
        raise BratsError(f"unknown --mode={mode}; valid: {', '.join(MODES)}")
    check_folder(folder.path, "--workdir")
    experiment_config.check(settings)
    Tracking.check(settings)
    if mode == "evaluate" and settings.trains_on_all:
        raise BratsError(
            f"{folder.path}: {NOTHING_TO_EVALUATE}; to estimate the quality of such a model, "
            "evaluate a run with folds, --config.folds=0,1,2,3,4, in another --workdir"
        )
    experiment_config.check_workdir(settings, folder.path)
    if mode == "pretrain" and (not settings.ssl or settings.pretrain.run):
        raise BratsError(
            "--mode=pretrain needs --config.ssl=true, and no --config.pretrain.run: there would be "
            "nothing to train"
        )


def _check_processes(processes: list[Any]) -> None:
    """Refuses processes that differ in settings or store from the main one (BratsError).

    Args:
      processes: (settings, fingerprint of the store) of each process.
    """
    (ours, our_store), *others = processes
    for number, (theirs, their_store) in enumerate(others, 1):
        changed = differences(ours, theirs)
        if changed or their_store != our_store:
            raise BratsError(
                f"process {number} was started with other settings than process 0 "
                f"({'; '.join(changed) or 'another store'}); give all the same"
            )


def _start(settings: Settings, store: Store, folder: RunFolder, mode: str, mesh: Mesh) -> Splits:
    """Creates or continues the run folder; returns its splits."""
    shared_batch.check_batches(settings, mesh)
    experiment_config.check_patches(settings, store)
    experiment_config.check_labels(store, mode)
    if mode == "evaluate" and not folder.exists:
        raise BratsError(f"{folder.path}: no run there to evaluate; train it first")
    check_config_is_there(folder.path)
    options = experiment_config.split_options(settings)
    if not folder.splits_json.exists():
        # Refuse impossible splits, pretrainings and weight files before anything is written.
        splits = make_splits(store, **options)
        for number in settings.folds:
            if settings.pretrain.run:
                borrowed_pretraining.find(settings, number, store, splits)
            StageSlices.of(settings, store, splits, number).check_start(mode)
        initialisation.check_weight_file(settings)
    make_folder(folder.path, "--workdir")
    _freeze_settings(settings, store, folder, mode)
    return load_or_make_splits(folder.splits_json, store, **options)


def _freeze_settings(settings: Settings, store: Store, folder: RunFolder, mode: str) -> None:
    """Writes config.json, or refuses settings that differ from it."""
    if folder.config_json.exists():
        # --mode=evaluate may evaluate with other settings than the run was started with.
        free = ("evaluation.",) if mode == "evaluate" else ()
        experiment_config.read_unchanged(
            folder.config_json, RunConfig, settings.document, store, free=free
        )
        return
    RunConfig(
        config=dict(settings.document),
        store=experiment_config.describe_store(store),
        versions=experiment_config.versions(),
        devices=devices.describe(),
    ).write(folder.config_json)


def _describe_dtype(settings: Settings) -> str:
    """'bfloat16', and how many epochs are in float32."""
    dtype, epochs = devices.compute_dtype(settings.dtype).__name__, settings.train.float32_epochs
    if dtype == "float32" or not epochs:
        return dtype
    return f"{dtype} (the first {plural(epochs, 'epoch')} of a stage float32)"


@contextlib.contextmanager
def _locked(folder: FoldFolder) -> Iterator[None]:
    """Holds the lock of a fold; the main process does so for all."""
    with contextlib.ExitStack() as held:
        lock = locks.hold(folder.lock, str(folder.path))
        distributed.broadcast_from_main(lambda: held.enter_context(lock))
        yield


def _summarise(folder: RunFolder, num_folds: int) -> Summary:
    # Imported here: a training need not wait for SciPy.
    from brats_jax.evaluation import summary as summaries

    summary = summaries.summarise_run(folder, num_folds)
    print_lines(summaries.format_summary(summary))
    return summary


def _summarise_subsets(folder: RunFolder, num_folds: int) -> None:
    from brats_jax.evaluation import subset_summary

    if (summary := subset_summary.summarise_subsets(folder, num_folds)) is not None:
        print_lines(subset_summary.format_subsets(summary))


class Fold:
    """One fold of an experiment.

    Args:
      settings: of the experiment.
      store, splits: the data.
      folder: the fold's folder.
      mesh: the devices.
      trackers: of the run; default: none.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        splits: Splits,
        folder: FoldFolder,
        mesh: Mesh,
        trackers: Tracking | None = None,
    ) -> None:
        self.settings, self.store, self.splits = settings, store, splits
        self.trackers = trackers or Tracking()
        self.folder, self.mesh, self.title = folder, mesh, fold_title(folder.number)
        self.split = fold_split(splits, store, folder.number)
        self.audit = audit_leakage(store, self.split)
        self.slices = StageSlices.of(settings, store, splits, folder.number)
        self.pretrained = folder.stage("pretrain")

    def run(self, mode: str) -> None:
        """Trains and evaluates the stages that `mode` asks for."""
        distributed.broadcast_from_main(self._write_audit)
        print_line(f"{self.title}: {self.audit.check(self.splits.split_by)}")
        if (kept := self.splits.training_only) and not self.splits.all_train:
            print_line(f"{self.title}: in training only: {listed(kept)}")
        stages = self._stages(mode)
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

    def _stages(self, mode: str) -> list[str]:
        """The stages that this run trains and evaluates."""
        pretrains = self.settings.ssl and not self.settings.pretrain.run
        return ["pretrain"] * pretrains + ["segment"] * (mode != "pretrain")

    def _check_splits(self, stages: list[str]) -> None:
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
        stage = self.stage(name)
        training = self.describe(name)
        labels = without = ""
        if training.patients < training.of_patients:
            labels = f"{'' if name == 'pretrain' else 'the labels of '}{training.patients} of "
        if training.unlabelled:
            without = f" ({training.unlabelled:,} with scans without labels)"
        words = self.slices.words(stage.task), stage.task.size_in_words(stage.options.patch_size)
        for line in (*self.slices.notes(stage.task), *filter(None, words)):
            print_line(f"{title}: {line}")
        print_line(
            f"{title}: trains on {labels}{plural(training.of_patients, 'patient')}{without}, "
            f"{training.slices:,} of {plural(training.of_slices, 'slice')}; "
            f"{plural(training.epochs, 'epoch')} of {plural(training.steps_per_epoch, 'step')}"
        )
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
        self.slices.check(task)
        all_slices = self.slices.all_training(task)
        options = experiment_config.train_options(self.settings, name, self.folder.number)
        options = dataclasses.replace(
            options,
            steps_per_epoch=options.epoch_length(len(all_slices)),
            keep_last=self.slices.selection(task) == "last",
        )
        facts = TrainingFacts(
            split_by=self.splits.split_by,
            leaks=self.audit.leaks,
            normalisation=self.store.manifest.normalisation,
            slice_shape=tuple(self.store.slice_shape),
            store=self.store.fingerprint,
            version=about.__version__,
            plane=self.store.plane,
        )
        start = initialisation.Initialisation(
            self.settings, task, self.pretrained, self.mesh, self.title
        )
        return Stage(
            task,
            self.store,
            self.slices.training(task),
            self.slices.validation(task),
            options,
            self.folder.stage(name),
            self.mesh,
            initialise=start.initialiser(),
            transferred=start.transferred(),
            record=facts,
            splits=self.splits.digest,
        )

    def describe(self, name: str) -> StageTraining:
        """The length of a stage and its share of the training set."""
        task = experiment_config.task(self.settings, name)
        options = experiment_config.train_options(self.settings, name, self.folder.number)
        chosen, all_slices = self.slices.training(task), self.slices.all_training(task)
        length = options.epoch_length(len(all_slices))
        bare = ~self.store.labelled[self.store.patient_of[chosen]]
        return StageTraining(
            patients=count_patients(self.store, chosen),
            of_patients=count_patients(self.store, all_slices),
            slices=len(chosen),
            of_slices=len(all_slices),
            epochs=options.epochs,
            steps_per_epoch=length,
            steps=options.epochs * length,
            unlabelled=count_patients(self.store, chosen[bare]),
            selection=self.slices.selection(task),
            held_out=count_patients(self.store, self.slices.held_out(task)),
        )
