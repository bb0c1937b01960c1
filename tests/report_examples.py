"""Hand-made run folders: tallies of small label maps, and the JSON files of a run. Not tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tally_examples import slices_of, tally_of

from brats_jax.data.audit import Audit
from brats_jax.data.splits import Splits
from brats_jax.evaluation import conventions
from brats_jax.evaluation.panel_slices import PanelSlices
from brats_jax.evaluation.rows import rows_of
from brats_jax.evaluation.tallies import (
    IMAGE_METRICS,
    IMAGE_REGIONS,
    YARDSTICK_METRICS,
    PretrainingTally,
    SegmentationTally,
    Slices,
)
from brats_jax.runs.documents import (
    EvaluatedCheckpoint,
    Evaluation,
    RunConfig,
    Score,
    StageResult,
)
from brats_jax.runs.folder import FoldFolder, RunFolder, StageFolder
from brats_jax.runs.store_facts import StoreFacts
from configs import base

SLICES = 6  # of each patient
SIZE = 16


def truth_of(patients: int) -> np.ndarray:
    """uint8[N, H, W]: nested boxes in four of six slices; the first patient has no ET."""
    truth = np.zeros((patients, SLICES, SIZE, SIZE), np.uint8)
    for p in range(patients):
        low = 1 + p % 3
        truth[p, 1:5, low : low + 9, low : low + 9] = 2
        truth[p, 1:4, low + 2 : low + 6, low + 2 : low + 6] = 1
        if p:
            truth[p, 2:4, low + 3 : low + 5, low + 3 : low + 5] = 3
    return truth.reshape(-1, SIZE, SIZE)


def predict(truth: np.ndarray, error: float, seed: Sequence[int]) -> np.ndarray:
    """The truth with wrong pixels near the tumour; their share differs between patients."""
    rng = np.random.default_rng(list(seed))
    near = np.zeros_like(truth, bool)
    for shift in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
        near |= np.roll(truth > 0, shift, (1, 2))
    worse = np.repeat(rng.uniform(0.5, 1.5, len(truth) // SLICES), SLICES)[:, None, None]
    wrong = near & (rng.random(truth.shape) < error * worse)
    return np.where(wrong, rng.integers(0, 4, truth.shape), truth).astype(np.uint8)


def write_run(
    directory: Path,
    *,
    loss: str = "dice_ce",
    ssl: bool = True,
    folds: Sequence[int] = (0,),
    wanted: Sequence[int] | None = None,
    seed: int = 0,
    fraction: float = 1.0,
    patients: int = 4,
    error: float = 0.2,
    slices: str = "all",
    split_by: str = "patient",
    stages: Sequence[str] = ("pretrain", "segment"),
    source: str = "nifti",
    store: str = "",
    fingerprint: str = "0123456789abcdef",
    settings: dict[str, Any] | None = None,
    regression: float | None = 0.06,
) -> Path:
    """Writes a run folder like brats_jax.main, without checkpoints.

    The pretraining has an MSE near 0.04, the regression beside it of `regression`; None: no
    yardsticks.
    """
    config = base.get_config()
    config.loss, config.ssl, config.seed = loss, ssl, seed
    config.folds = tuple(folds if wanted is None else wanted)
    config.data.split_by = split_by
    config.data.label_fraction = fraction
    config.data.store = store
    config.evaluation.slices = slices
    config.update_from_flattened_dict(settings or {})
    run = RunFolder(directory)
    RunConfig(
        config=json.loads(config.to_json_best_effort()),
        store=StoreFacts(fingerprint, {"kind": source, "patients": 20, "seed": 0}, "slice"),
        versions={"brats_jax": "0.1.0", "jax": "0.10.2", "python": "3.11.7"},
        devices="1 x cpu",
    ).write(run.config_json)
    names = tuple(chr(ord("A") + p) for p in range(patients))
    Splits(split_by, 0, 0.15, 5, names, test=names, folds=((),) * 5).write(run.splits_json)
    stages = [s for s in stages if ssl or s != "pretrain"]
    for fold in folds:
        _write_fold(run.fold(fold), stages, patients, error, slices, split_by, config, regression)
    return directory


def _write_fold(
    folder: FoldFolder,
    stages: Sequence[str],
    patients: int,
    error: float,
    slices: str,
    split_by: str,
    config: Any,
    regression: float | None,
) -> None:
    leaks = split_by == "slice"
    Audit(
        patients={"train": 10, "validation": 3, "test": patients},
        slices={"train": 60, "validation": 18, "test": patients * SLICES},
        patients_in_train_and_validation=3 * leaks,
        slices_in_train_and_validation=0,
        patients_in_train_and_test=patients * leaks,
        slices_in_train_and_test=0,
        patients_in_validation_and_test=3 * leaks,
        slices_in_validation_and_test=0,
        validation_slices_beside_a_training_slice=0.9 * leaks,
        test_slices_beside_a_training_slice=0.9 * leaks,
        leaks=leaks,
    ).write(folder.audit_json)
    rows: list[Score] = []
    for stage in stages:
        write_history(folder.stage(stage), epochs=4, seed=folder.number)
        tally = None
        if stage == "pretrain":
            tally = _pretraining(patients, folder.number, regression)
            for name, scores in conventions.yardstick_scores(tally).items():
                rows += rows_of(name, scores)
        if tally is None:
            seeds = (config.seed, folder.number, int(config.ssl), len(config.loss))
            tally = _segmentation(patients, error, slices, leaks, seeds)
            _write_panel(folder, patients, error, seeds)
        tally.save(folder.tally(stage), {"fold": folder.number})
        rows += rows_of(stage, conventions.scores_of(tally))
    Evaluation(
        fold=folder.number,
        set="test",
        slices=slices,
        split_by=split_by,
        patients=patients,
        inputs=("t1", "t1gd"),
        target="flair",
        loss=config.loss,
        ssl=bool(config.ssl),
        tolerance_mm=1.0,
        checkpoints={stage: EvaluatedCheckpoint(8, 4, 0.5) for stage in stages},
        rows=tuple(rows),
        files=tuple(folder.tally(stage).name for stage in stages),
    ).write(folder.evaluation_json)


def write_history(stage: StageFolder, epochs: int, seed: int = 0, complete: bool = True) -> None:
    """Writes metrics.jsonl, and complete.json if the training is complete."""
    rng = np.random.default_rng(seed)
    stage.path.mkdir(parents=True, exist_ok=True)
    lines = []
    for epoch in range(1, epochs + 1):
        loss = float(np.exp(-epoch / 3) + 0.02 * rng.random())
        lines.append({"event": "train", "step": 2 * epoch, "epoch": epoch, "loss": loss})
        lines[-1]["patches_per_second"] = 10.0
        lines.append({"event": "validation", "step": 2 * epoch, "epoch": epoch, "loss": 1.2 * loss})
    stage.metrics_jsonl.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if complete:
        result = StageResult(metric="dice", best=0.5, best_step=8, steps=8, seconds=75.0)
        result.write(stage.complete_json)


def _segmentation(
    patients: int, error: float, slices: str, leaks: bool, seeds: Sequence[int]
) -> SegmentationTally:
    truth = truth_of(patients)
    prediction = predict(truth, error, seeds)
    if slices == "all":
        return tally_of(prediction, truth, [SLICES] * patients, [not leaks] * patients)
    keep = truth.any(axis=(1, 2))
    sizes = keep.reshape(patients, SLICES).sum(axis=1).tolist()
    return tally_of(prediction[keep], truth[keep], sizes, [False] * patients)


def _pretraining(patients: int, fold: int, regression: float | None) -> PretrainingTally:
    truth = truth_of(patients)
    described: Slices = slices_of([SLICES] * patients, truth.any(axis=(1, 2)), [True] * patients)
    rng = np.random.default_rng(fold)
    level = {"mse": 0.04, "psnr": 29.0, "psnr_fixed": 30.0, "ssim": 0.9, "ssim_gaussian": 0.88}
    values = {}
    for region in IMAGE_REGIONS:
        for metric in IMAGE_METRICS:
            found = level[metric] * rng.uniform(0.95, 1.05, len(truth))
            if region == "tumour":
                found[~described.tumour] = np.nan
            values[f"{region}/{metric}"] = found.astype(np.float32)
    if regression is None:
        return PretrainingTally(described, values)
    yardsticks = {}
    for name, mse in (("regression", regression), ("mean", 1.0)):
        each = {"mse": mse, "psnr": 24.9, "ssim": 0.857}
        yardsticks[name] = {
            f"{region}/{metric}": np.where(
                np.isnan(values[f"{region}/{metric}"]), np.nan, each[metric]
            ).astype(np.float32)
            for region in IMAGE_REGIONS
            for metric in YARDSTICK_METRICS
        }
    return PretrainingTally(described, values, yardsticks)


def _write_panel(folder: FoldFolder, patients: int, error: float, seeds: Sequence[int]) -> None:
    truth = truth_of(patients)
    prediction = predict(truth, error, seeds)
    rows = np.arange(2, len(truth), SLICES)[:4]
    rng = np.random.default_rng(0)
    images = {n: rng.normal(size=(len(rows), SIZE, SIZE)) for n in ("flair", "t1", "t1gd")}
    dice = np.full((len(rows), 4), 0.5)
    dice[0, 3] = np.nan
    PanelSlices(
        [chr(ord("A") + r // SLICES) for r in rows],
        [int(r % SLICES) for r in rows],
        images,
        truth[rows],
        prediction[rows],
        dice,
    ).save(folder.segmentation_npz)
