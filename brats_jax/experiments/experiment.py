"""Folds x (pretrain -> transfer -> segment -> evaluate), and what of it is already done.

RUN/config.json            the settings, the store and the versions it was started with
RUN/splits.json            who trains, validates, tests; frozen
RUN/fold_K/lock            held while a process works on the fold
RUN/fold_K/audit.json      what the sets of the fold have in common
RUN/fold_K/pretrain/       best/ and last/ checkpoint, training.json (how many patients, slices,
                           steps), metrics.jsonl, tensorboard/, complete.json
RUN/fold_K/segment/        the same
RUN/fold_K/pretraining.json   where the encoder comes from, if from another run
RUN/fold_K/tally_{pretrain,segment}.npz  statistics of every test slice and volume
RUN/fold_K/evaluation.json, evaluation_*.csv, panels/*.png
RUN/summary.json, .csv     over the folds
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from brats_jax import about, models
from brats_jax.data.splits import (
    Split,
    Splits,
    audit_leakage,
    check_audit,
    count_patients,
    describe_burden,
    fold_split,
    labelled_slices,
    load_or_make_splits,
    make_splits,
    select_slices,
)
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.fold import FoldEvaluation
from brats_jax.experiments import config as settings
from brats_jax.experiments import frozen, pretraining
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.models import Weights
from brats_jax.runtime import devices, distributed, locks
from brats_jax.runtime.console import print_line
from brats_jax.runtime.files import check_folder, make_folder, write_json
from brats_jax.runtime.text import plural
from brats_jax.tasks import Task
from brats_jax.training import transfer
from brats_jax.training.trainer import Initialiser, Stage, TrainOptions

MODES = ("train", "pretrain", "evaluate")


def run(config: ConfigDict, workdir: Path, mode: str = "train") -> dict[str, Any]:
    """Does what is left to do of an experiment, and prints and returns its summary.

    Args:
      config: the settings, see configs/base.py.
      workdir: the run folder; created, or continued.
      mode: 'train' trains and evaluates; 'pretrain' the same with the first stage alone;
        'evaluate' only restores and evaluates.

    Raises:
      BratsError: for anything the user has to change.
    """
    distributed.broadcast_from_main(lambda: _check_asked(config, workdir, mode))
    store = Store.open(Path(config.data.store))
    devices.use_compilation_cache(config.compilation_cache)
    mesh = devices.training_mesh()
    everyone = distributed.gather_to_main(
        [json.loads(config.to_json_best_effort()), store.fingerprint]
    )
    splits = Splits.from_json(
        distributed.broadcast_from_main(
            lambda: _begin(config, store, workdir, mode, mesh, everyone).to_json()
        )
    )
    dtype = devices.compute_dtype(config.dtype).__name__  # what 'auto' is here
    first, plain = config.train.float32_epochs, ""
    if dtype != "float32" and first:
        plain = f" (the first {'epoch' if first == 1 else f'{first} epochs'} of a stage float32)"
    print_line(f"{workdir}: {devices.describe()}, {dtype} activations{plain}, store {store.path}")
    for fold in config.folds:
        directory = workdir / f"fold_{fold}"
        with _locked(directory):
            _Fold(config, store, splits, fold, directory, mesh, mode).run()
    return distributed.broadcast_from_main(lambda: _summarise(workdir, splits.num_folds))


def _check_asked(config: ConfigDict, workdir: Path, mode: str) -> None:
    if mode not in MODES:
        raise BratsError(f"unknown --mode={mode}; valid: {', '.join(MODES)}")
    check_folder(workdir, "--workdir")
    settings.check(config)
    settings.check_workdir(config, workdir)
    if mode == "pretrain" and (not config.ssl or config.pretrain.run):
        raise BratsError(
            "--mode=pretrain needs --config.ssl=true, and no --config.pretrain.run: there would be "
            "nothing to train"
        )


def _begin(
    config: ConfigDict,
    store: Store,
    workdir: Path,
    mode: str,
    mesh: Mesh,
    everyone: list[tuple[dict[str, Any], str]],
) -> Splits:
    """Makes or continues the run folder; returns its splits.

    `everyone` is what each process was started with: its settings and its store's fingerprint.
    """
    for number, (theirs, fingerprint) in enumerate(everyone):
        changed = settings.differences(everyone[0][0], theirs)
        if changed or fingerprint != store.fingerprint:
            raise BratsError(
                f"process {number} was started with other settings than process 0 "
                f"({'; '.join(changed) or 'another store'}); give all the same"
            )
    settings.check_fit(config, store, mesh)
    if mode == "evaluate" and not (workdir / "config.json").exists():
        raise BratsError(f"{workdir}: no run there to evaluate; train it first")
    options = settings.split_options(config)
    if not (workdir / "splits.json").exists():
        # What cannot be split, or goes on from nothing, is refused with nothing written.
        splits = make_splits(store, **options)
        if config.pretrain.run:
            for fold in config.folds:
                _other_pretraining(config, store, splits, fold)
        _check_encoder_init(config)
    make_folder(workdir, "--workdir")
    _freeze_settings(config, store, workdir, mode)
    return load_or_make_splits(workdir / "splits.json", store, **options)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Holds the fold while it is entered: the first process does, for all."""
    with contextlib.ExitStack() as held:
        lock_ = locks.hold(directory / "lock", str(directory))
        distributed.broadcast_from_main(lambda: held.enter_context(lock_))
        yield


def _summarise(workdir: Path, num_folds: int) -> dict[str, Any]:
    from brats_jax.evaluation import summary as results  # brings SciPy, see fold_evaluation

    summary = results.summarise_run(workdir, num_folds)
    print_line(results.format_summary(summary))
    return summary


def _other_pretraining(config: ConfigDict, store: Store, splits: Splits, fold: int) -> Path:
    task = settings.reconstruction(config)
    return pretraining.find(Path(config.pretrain.run), fold, store, splits, task)


def _check_encoder_init(config: ConfigDict) -> None:
    """Refuses a weight file that does not fit the stage that would start from it."""
    if config.encoder_init == "random" or (config.ssl and config.pretrain.run):
        return
    stage = settings.reconstruction if config.ssl else settings.segmentation
    task: Task = stage(config)
    _, params, stats = models.split(task.build(0))
    transfer.load_encoder(config.encoder_init, params, stats, task.inputs)


class _Fold:
    def __init__(
        self,
        config: ConfigDict,
        store: Store,
        splits: Splits,
        fold: int,
        directory: Path,
        mesh: Mesh,
        mode: str,
    ) -> None:
        self.config, self.store, self.fold, self.mesh = config, store, fold, mesh
        self.directory, self.mode = directory, mode
        self.splits, self.pretrained = splits, directory / "pretrain"
        self.split: Split = fold_split(splits, store, fold)
        self.split_by = splits.split_by
        self.tasks: dict[str, Task] = {}
        if config.ssl and not config.pretrain.run:
            self.tasks["pretrain"] = settings.reconstruction(config)
        if mode != "pretrain":
            self.tasks["segment"] = settings.segmentation(config)

    def run(self) -> None:
        audit = audit_leakage(self.store, self.split)
        distributed.broadcast_from_main(lambda: write_json(self.directory / "audit.json", audit))
        print_line(f"fold {self.fold}: {check_audit(audit, self.split_by)}")
        if self.mode != "evaluate":
            sets = [(n, getattr(self.split, n)) for n in ("train", "validation", "test")]
            for line in describe_burden(self.store, sets):
                print_line(f"fold {self.fold}: {line}")
            if self.config.pretrain.run and not self._is_complete("segment"):
                self.pretrained = Path(distributed.broadcast_from_main(self._pin_pretraining))
            for stage in self.tasks:
                self._train(stage, audit)
        # The others wait: what is done by batches is less than what is done by patient, on the
        # host, and a result of one process cannot differ from that of several.
        evaluation = FoldEvaluation(
            settings.evaluation_options(self.config),
            settings.evaluation_facts(self.config),
            self.tasks,
            self.store,
            self.split,
            self.split_by,
            self.fold,
            self.directory,
            self.mesh.local_mesh,
        )
        distributed.broadcast_from_main(lambda: evaluation.run(again=self.mode == "evaluate"))

    def _is_complete(self, stage: str) -> bool:
        path = self.directory / stage / "complete.json"
        return distributed.broadcast_from_main(path.exists)

    def _pin_pretraining(self) -> str:
        source = _other_pretraining(self.config, self.store, self.splits, self.fold)
        pretraining.pin(source, self.directory)
        return str(source)

    def _train(self, stage: str, audit: dict[str, Any]) -> None:
        directory = self.directory / stage
        if self._is_complete(stage):
            print_line(f"fold {self.fold} {stage}: complete, skipped")
            return
        train_slices, options = self._training(stage)
        result = Stage(
            self.tasks[stage],
            self.store,
            train_slices,
            select_slices(self.store, self.split.validation, self.config[stage].slices),
            options,
            directory,
            self.mesh,
            initialise=self._initialiser(stage),
            record={
                "split_by": self.split_by,
                "leaks": audit["leaks"],
                "normalisation": self.store.manifest.normalisation,
                "slice_shape": list(self.store.slice_shape),
                "store": self.store.fingerprint,
                "version": about.__version__,
            },
        ).run()
        distributed.broadcast_from_main(lambda: write_json(directory / "complete.json", result))
        print_line(
            f"fold {self.fold} {stage}: done, best {result['metric']} {result['best']:.4f} at "
            f"step {result['best_step']}"
        )

    def _training(self, stage: str) -> tuple[np.ndarray, TrainOptions]:
        """The slices a stage trains on, and its numbers; says and records how many they are."""
        every = select_slices(self.store, self.split.train, self.config[stage].slices)
        options = settings.train_options(self.config, stage, self.fold)
        # With few labels too an epoch is as long as with all.
        options = dataclasses.replace(options, steps_per_epoch=options.epoch_length(len(every)))
        fraction = 1.0 if stage == "pretrain" else self.config.data.label_fraction
        chosen = every
        if fraction < 1:
            chosen = labelled_slices(self.store, every, fraction, self.splits, self.fold)
        patients, of = (count_patients(self.store, indices) for indices in (chosen, every))
        share = "" if fraction == 1 else f"the labels of {patients} of "
        print_line(
            f"fold {self.fold} {stage}: trains on {share}{plural(of, 'patient')}, {len(chosen):,} "
            f"of {plural(len(every), 'slice')}; {plural(options.epochs, 'epoch')} of "
            f"{plural(options.steps_per_epoch, 'step')}"
        )
        document = {
            "schema": "brats_jax.training",
            "version": 1,
            "patients": patients,
            "of_patients": of,
            "slices": len(chosen),
            "of_slices": len(every),
            "epochs": options.epochs,
            "steps_per_epoch": options.steps_per_epoch,
            "steps": options.epochs * options.steps_per_epoch,
        }
        path = self.directory / stage / "training.json"
        distributed.broadcast_from_main(lambda: write_json(path, document))
        return chosen, options

    def _initialiser(self, stage: str) -> Initialiser | None:
        """Where the encoder of a stage comes from; None: its random initialisation."""
        if stage == "segment" and self.config.ssl:
            return self._from_pretraining
        if self.config.encoder_init != "random":
            path, inputs = Path(self.config.encoder_init), self.tasks[stage].inputs
            return lambda params, stats: transfer.load_encoder(path, params, stats, inputs)
        return None

    def _from_pretraining(self, params: Weights, stats: Weights) -> tuple[Weights, Weights]:
        task = settings.reconstruction(self.config)
        source = RestoredNetwork(task, self.pretrained, self.mesh.local_mesh)
        print_line(
            f"fold {self.fold} segment: encoder from {self.pretrained}, step {source.meta['step']} "
            f"({task.metric} {source.meta['value']:.4f})"
        )
        inputs = (task.inputs, self.tasks["segment"].inputs)
        return (
            transfer.transfer_encoder(source.params, params, *inputs),
            transfer.transfer_encoder(source.stats, stats, *inputs),
        )


def _freeze_settings(config: ConfigDict, store: Store, workdir: Path, mode: str) -> None:
    path = workdir / "config.json"
    now = json.loads(config.to_json_best_effort())
    if path.exists():
        # What is evaluated, and how, may be asked anew.
        frozen.check_same(path, now, store, free=("evaluation.",) if mode == "evaluate" else ())
        return
    document = {"schema": "brats_jax.config", "version": 1, **frozen.describe(now, store)}
    write_json(path, {**document, "devices": devices.describe()})
