"""Documents of run and grid folders, for folders made by hand. Not tests."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.runs.axes import Axes
from brats_jax.runs.documents import (
    CellRecord,
    EvaluatedCheckpoint,
    Evaluation,
    GridConfig,
    StageResult,
    StageTraining,
    TallyHead,
)
from brats_jax.runs.documents.cleaning import (
    CleanedFold,
    CleanedScores,
    FittedCleaning,
    FittedSizes,
)
from brats_jax.runs.store_facts import StoreFacts

STORE = StoreFacts("abc", {"kind": "phantom"}, "slice")


def result_of(step: int = 5) -> StageResult:
    return StageResult("mse", 0.5, best_step=step, steps=step, seconds=1.0)


def training_of(steps: int) -> StageTraining:
    return StageTraining(2, 2, 20, 20, epochs=1, steps_per_epoch=steps, steps=steps)


def evaluation_of(stage: str, step: int = 5) -> Evaluation:
    """An evaluation of one stage's checkpoint, without a score."""
    return Evaluation(
        fold=0,
        set="test",
        slices="all",
        split_by="patient",
        patients=2,
        inputs=("t1", "t1gd"),
        target="flair",
        loss="focal",
        ssl=True,
        tolerance_mm=1.0,
        checkpoints={stage: EvaluatedCheckpoint(step, 1, 0.5)},
        rows=(),
    )


def sizes_of(component: float, et: float, **changes: Any) -> FittedSizes:
    """Fitted sizes of a cleaning that found the ET of one of two cases without it."""
    sizes = FittedSizes(
        min_component_mm3=component,
        min_et_mm3=et,
        patients=5,
        measured_on="cross-validation",
        measured_patients=5,
        trainings=2,
        without_et=2,
        before=CleanedScores(dict(WT=0.8, TC=0.7, ET=0.6), dict(WT=9.0, TC=8.0, ET=7.0), 2),
        after=CleanedScores(dict(WT=0.81, TC=0.71, ET=0.75), dict(WT=4.0, TC=8.0, ET=6.0), 1),
    )
    return dataclasses.replace(sizes, **changes)


def cleaning_of(sizes: FittedSizes, *hashes: str, step: int = 5) -> FittedCleaning:
    """Sizes that belong to folds 0, 1, ... with these weights."""
    return FittedCleaning(tuple(CleanedFold(k, h, step) for k, h in enumerate(hashes)), sizes)


def record_of(cell: str, state: str = "done", seconds: float = 1.0, **changes: Any) -> CellRecord:
    record = CellRecord(
        cell=cell,
        attempts=1,
        host="here",
        process=7,
        started="2026-01-01T00:00:00+00:00",
        command=("python",),
        state=state,
        seconds=seconds,
    )
    return dataclasses.replace(record, **changes)


def grid_of(*axes: Axes) -> GridConfig:
    return GridConfig({}, STORE, {}, axes)


def write_tally_head(path: Path, stage: str, version: int = TallyHead.VERSION) -> None:
    """A tally that has a head alone, which is all that a grid reads of it."""
    head = {**TallyHead(stage, {}).to_json(), "version": version}
    np.savez(path, head=np.array(json.dumps(head)))
