"""An experiment: for each fold pretrain, transfer, segment and evaluate, and skip what is done.

`runs.folder` has the layout of the run folder that it writes.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from brats_jax.data.splits import Splits, load_or_make_splits, make_splits
from brats_jax.data.store.reader import Store
from brats_jax.data.store.several_planes import SeveralPlanes, open_planes
from brats_jax.errors import BratsError
from brats_jax.experiments import borrowed_pretraining, checks, continuation, initialisation
from brats_jax.experiments import config as experiment_config
from brats_jax.experiments.fold import NOTHING_TO_EVALUATE, Fold
from brats_jax.experiments.modes import check_mode
from brats_jax.experiments.stage_slices import StageSlices
from brats_jax.runs.documents import RunConfig, Summary
from brats_jax.runs.folder import FoldFolder, RunFolder
from brats_jax.runs.missing_config import check_config_exists
from brats_jax.runs.settings import Settings
from brats_jax.runs.settings_comparison import differences
from brats_jax.runtime import devices, distributed, locks
from brats_jax.runtime.console import print_line, print_lines
from brats_jax.runtime.files import check_folder, make_folder
from brats_jax.runtime.text import plural
from brats_jax.training.tracking import Tracking


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
    settings = continuation.as_begun(
        settings, distributed.broadcast_from_main(lambda: continuation.recorded_settings(folder))
    )
    distributed.broadcast_from_main(lambda: _check(settings, folder, mode))
    store = Store.open(Path(settings.data.store))
    # A run keeps to the patients that it was started with, though sources were added since.
    kept = distributed.broadcast_from_main(
        lambda: continuation.recorded_fingerprint(settings, folder)
    )
    every, store = len(store.patients), store.as_of(kept)
    if len(store.patients) < every:
        print_line(
            f"{workdir}: keeps to the {len(store.patients):,} patients that the store had before "
            f"others were added ({every:,} now)"
        )
    planes = None
    if mode != "evaluate":  # which reads no other planes, and asks the checkpoints for theirs
        planes = open_planes(store, settings.data.other_stores)
        checks.check_evaluated_planes(settings, store, planes)
    devices.use_compilation_cache(settings.compilation_cache)
    mesh = devices.training_mesh()
    stores = [store.fingerprint, continuation.fingerprints(planes)]
    processes = distributed.gather_to_main([settings.document, stores])

    def start() -> dict[str, Any]:
        _check_processes(processes)
        return _start(settings, store, planes, folder, mode, mesh).to_json()

    splits = Splits.from_json(distributed.broadcast_from_main(start))
    print_line(
        f"{workdir}: {devices.describe()}, {_describe_dtype(settings)} activations, store "
        f"{store.path}"
    )
    with Tracking.of(settings, workdir) as trackers:
        for number in settings.folds:
            fold = Fold(settings, store, splits, folder.fold(number), mesh, trackers, planes)
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


def _check(settings: Settings, folder: RunFolder, mode: str) -> None:
    check_mode(mode)
    check_folder(folder.path, "--workdir")
    checks.check_settings(settings)
    Tracking.check(settings)
    if mode == "evaluate" and settings.trains_on_all:
        raise BratsError(
            f"{folder.path}: {NOTHING_TO_EVALUATE}; to estimate the quality of such a model, "
            "evaluate a run with folds, --config.folds=0,1,2,3,4, in another --workdir"
        )
    checks.check_workdir(settings, folder.path)
    if not experiment_config.stages_of(settings, mode):
        raise BratsError(
            "--mode=pretrain needs --config.ssl=true, and no --config.pretrain.run: there would be "
            "nothing to train"
        )


def _check_processes(processes: list[Any]) -> None:
    """Refuses processes that differ in settings or store from the main one (BratsError).

    Args:
      processes: (settings, fingerprints of the stores) of each process.
    """
    (ours, our_store), *others = processes
    for number, (theirs, their_store) in enumerate(others, 1):
        changed = differences(ours, theirs)
        if changed or their_store != our_store:
            raise BratsError(
                f"process {number} was started with other settings than process 0 "
                f"({'; '.join(changed) or 'another store'}); give all the same"
            )


def _start(
    settings: Settings,
    store: Store,
    planes: SeveralPlanes | None,
    folder: RunFolder,
    mode: str,
    mesh: Mesh,
) -> Splits:
    """Creates or continues the run folder; returns its splits."""
    checks.check_batches(settings, mesh)
    checks.check_patches(settings, store)
    checks.check_labels(store, mode)
    if mode == "evaluate" and not folder.exists:
        raise BratsError(f"{folder.path}: no run there to evaluate; train it first")
    check_config_exists(folder.path)
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
    _freeze_settings(settings, store, planes, folder, mode)
    return load_or_make_splits(folder.splits_json, store, **options)


def _freeze_settings(
    settings: Settings,
    store: Store,
    planes: SeveralPlanes | None,
    folder: RunFolder,
    mode: str,
) -> None:
    """Writes config.json, or refuses settings and data that differ from it."""
    if folder.config_json.exists():
        # --mode=evaluate may evaluate with other settings than the run was started with.
        free = ("evaluation.",) if mode == "evaluate" else ()
        started = continuation.read_unchanged(
            folder.config_json, RunConfig, settings.document, store, free=free
        )
        if mode != "evaluate":  # which reads no other planes
            continuation.check_planes(folder.path, started.store, planes)
        return
    RunConfig(
        config=dict(settings.document),
        store=continuation.describe_store(store, planes),
        versions=continuation.versions(),
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
    from brats_jax.evaluation.summary import summarise_run
    from brats_jax.evaluation.summary_tables import format_summary

    summary = summarise_run(folder, num_folds)
    print_lines(format_summary(summary))
    return summary


def _summarise_subsets(folder: RunFolder, num_folds: int) -> None:
    from brats_jax.evaluation import subset_summary

    if (summary := subset_summary.summarise_subsets(folder, num_folds)) is not None:
        print_lines(subset_summary.format_subsets(summary))
