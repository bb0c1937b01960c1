"""Temperature scaling of every fold of a run, on the store that it was trained on.

The temperature is fitted on the fold's validation set; see `metrics.calibration`. For a network
that predicts regions, each pixel counts once for every region, as inside or outside of it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from brats_jax.data.brain import brain_mask
from brats_jax.data.selection import count_patients, usable_slices
from brats_jax.data.splits import Splits, check_splits, fold_split
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.slices import device_batches, facts_of
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.inference.trained_run import EnsembleMember, TrainedRun
from brats_jax.metrics.calibration import (
    BINS,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
)
from brats_jax.models import Weights
from brats_jax.runs import checkpoints
from brats_jax.runs.documents import Calibration, CalibrationScores, CalibrationSet
from brats_jax.runs.folder import RunFolder
from brats_jax.runs.store_facts import path_of_store
from brats_jax.runtime import devices
from brats_jax.runtime.console import progress_bar
from brats_jax.runtime.document import read_document
from brats_jax.runtime.own_files import check_own_document
from brats_jax.runtime.text import plural
from brats_jax.tasks import Batch
from brats_jax.tasks.segmentation_outputs import SegmentationOutputs

# About one pixel in six is brain: a million samples, which determine T to three digits.
_SAMPLED_PIXELS = 6_000_000


def calibrate(trained: TrainedRun, store: str | None, batch_size: int) -> Iterator[str]:
    """Fits the temperature of each fold and writes fold_K/calibration.json; yields a line each.

    Args:
      trained: a segmentation.
      store: path of the store; None for the path in the run's settings.
      batch_size: slices at a time; rounded up to a multiple of the number of devices.

    Raises:
      BratsError: no store there, or another one than the run was trained on; or a
        calibration.json that this program did not write, or that was edited since.
    """
    data, splits = opened_data(trained, store)
    folder = RunFolder(trained.run)
    if splits.all_train or splits.cross_validates:
        how = "on all patients (config.folds=all)"
        if splits.cross_validates:
            how = "in a cross-validation (config.data.test_fraction=0)"
        raise BratsError(
            f"{trained.run} was trained {how}: there is no validation set to fit a temperature to; "
            "calibrate a run with folds and a test set"
        )
    for member in trained.members:
        check_own_document(
            folder.fold(member.fold).calibration_json,
            Calibration,
            "move it away, and calibrate again",
        )
    for member in trained.members:
        yield _calibrate_fold(trained, member, data, splits, batch_size)


def opened_data(trained: TrainedRun, store: str | None) -> tuple[Store, Splits]:
    """The store and the splits that a run was trained with.

    Raises:
      BratsError: exported weights; no store there, or another one; splits that were changed.
    """
    if trained.weights is not None:
        raise BratsError(
            f"{trained.run} holds exported weights, which do not name the validation patients: "
            "calibrate the run, and export it again; its temperatures and sizes go with it"
        )
    recorded = trained.document.settings.data.store
    data = Store.open(Path(store) if store else path_of_store(recorded, trained.run))
    data = data.as_of(trained.record.store or "")
    if data.fingerprint != trained.record.store:
        raise BratsError(
            f"{trained.run} was trained on another store than {data.path}: give it as --store"
        )
    folder = RunFolder(trained.run)
    splits = read_document(folder.splits_json, Splits)
    check_splits(splits, data, folder.splits_json)
    for member in trained.members:
        stage = folder.fold(member.fold).stage("segment")
        checkpoints.check_splits(stage, folder.splits_json, splits.digest)
    return data, splits


def _calibrate_fold(
    trained: TrainedRun, member: EnsembleMember, store: Store, splits: Splits, batch_size: int
) -> str:
    split = fold_split(splits, store, member.fold)
    batch_size = devices.round_up(batch_size, member.network.mesh)
    usable = member.network.task.usable(store.present)
    indices = {
        name: usable_slices(store, found, usable)
        for name, found in (("validation", split.validation), ("test", split.test))
    }
    samples = {
        name: sample_logits(member.network, store, chosen, batch_size, f"fold {member.fold} {name}")
        for name, chosen in indices.items()
    }
    channels = member.network.channels
    temperature = fit_temperature(*channels.choices(*samples["validation"]))
    sets = {
        name: measure(
            *samples[name],
            temperature,
            channels,
            patients=count_patients(store, indices[name]),
            slices=len(indices[name]),
        )
        for name in indices
    }
    calibration = Calibration(
        model=member.hash,
        temperature=temperature,
        over=f"{channels.samples}; ECE in {BINS} bins of the largest probability",
        fold=member.fold,
        split_by=splits.split_by,
        sets=sets,
    )
    calibration.write(RunFolder(trained.run).fold(member.fold).calibration_json)
    return f"fold {member.fold}: temperature {temperature:.3f}; {describe(sets)}"


def sample_logits(
    network: RestoredNetwork, store: Store, indices: np.ndarray, batch_size: int, title: str
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of every k-th brain pixel, about a million.

    Args:
      network: a segmentation.
      store, indices: the slices, by global index.
      batch_size: slices at a time, a multiple of the number of devices.
      title: label of the progress bar.

    Returns:
      (logits float32[n, K], labels uint8[n]).
    """

    @jax.jit
    def logits_of(params: Weights, stats: Weights, batch: Batch) -> tuple[jax.Array, jax.Array]:
        x = network.task.test_input(batch)
        return network.output(params, stats, x), brain_mask(batch["image"])

    facts = facts_of(network.task, store)
    height, width = store.slice_shape
    step = max(1, len(indices) * height * width // _SAMPLED_PIXELS)
    logits, labels, passed = [], [], 0
    with progress_bar(len(indices), title, "slice") as progress:
        for batch, valid in device_batches(network.mesh, store, indices, batch_size, facts):
            z, brain = jax.device_get(logits_of(network.params, network.stats, batch))
            brain = brain & valid[:, None, None]
            count = int(brain.sum())
            chosen = np.arange(-passed % step, count, step)
            passed += count
            logits.append(z[brain][chosen])
            labels.append(np.asarray(batch["label"])[brain][chosen])
            progress.update(int(valid.sum()))
    return np.concatenate(logits), np.concatenate(labels)


def measure(
    logits: np.ndarray,
    labels: np.ndarray,
    temperature: float,
    channels: SegmentationOutputs,
    *,
    patients: int,
    slices: int,
) -> CalibrationSet:
    """NLL and ECE of a set before and after the division by the temperature.

    Args:
      logits: float[n, K].
      labels: int[n], the true classes.
      temperature: divides the logits.
      channels: what they mean.
      patients, slices: of the set.

    Returns:
      The scores; those of the tumour are over the pixels whose truth or prediction is tumour.
    """
    predicted = np.asarray(channels.labels_of_logits(jnp.asarray(logits)))
    choices, truth = channels.choices(logits, labels)
    tumour = (labels > 0) | (predicted > 0)
    of_tumour = np.repeat(tumour, len(truth) // len(labels))

    def scores(divisor: float) -> CalibrationScores:
        scaled = choices / divisor
        p = special.softmax(scaled, axis=1)
        return CalibrationScores(
            nll=negative_log_likelihood(scaled, truth),
            ece=expected_calibration_error(p, truth),
            ece_tumour=expected_calibration_error(p[of_tumour], truth[of_tumour]),
        )

    return CalibrationSet(
        patients=patients,
        slices=slices,
        pixels=len(labels),
        tumour_pixels=int(tumour.sum()),
        before=scores(1.0),
        after=scores(temperature),
    )


def describe(sets: Mapping[str, CalibrationSet]) -> str:
    """One line with the ECE of each set before and after; it notes where the ECE rose."""
    parts = []
    rose = False
    for name, numbers in sets.items():
        errors = []
        for where, key in (("ECE", "ece"), ("in tumour", "ece_tumour")):
            before, after = (getattr(scores, key) for scores in (numbers.before, numbers.after))
            errors.append(f"{where} {before:.4f} -> {after:.4f}")
            if after > before:
                errors[-1] += " (rose)"
                rose = True
        parts.append(f"{name} ({plural(numbers.patients, 'patient')}) {', '.join(errors)}")
    if rose:
        parts.append(
            "where ECE rose: the temperature minimises the NLL of the validation set, which need "
            "not lower the ECE"
        )
    return "; ".join(parts)
