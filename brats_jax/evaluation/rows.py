"""The numbers of an evaluation: one row per mean, and CSV tables with one row per slice or patient.

Every number stands beside its convention.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from brats_jax.data.modalities import CLASSES
from brats_jax.evaluation.conventions import (
    SEVERAL_VOLUME_CONVENTIONS,
    Scores,
)
from brats_jax.evaluation.published_files import publish
from brats_jax.evaluation.tallies import SCORED, PretrainingTally, SegmentationTally
from brats_jax.runs.documents import FoldsScore, Score
from brats_jax.runs.folder import FoldFolder
from brats_jax.runtime.text import csv_cell

MEAN_FOREGROUND = "mean foreground"

_FROM_COUNTS = ("in_truth", "missed", "invented")  # follow from the counts of a slice

Row = TypeVar("Row", Score, FoldsScore)


def rows_of(stage: str, scores: Iterable[Scores]) -> list[Score]:
    """One row per score: its keys, its mean, and the number of units in the mean.

    For each convention of the Dice, a row with the mean over NCR/NET, ED and ET follows.
    """
    rows = [
        Score(stage, *score.key, mean=_defined(score.mean()), count=score.count())
        for score in scores
    ]
    dice = [row for row in rows if row.metric == "dice"]
    for unit, over, convention in dict.fromkeys((r.unit, r.over, r.convention) for r in dice):
        alike = [r for r in dice if (r.unit, r.over, r.convention) == (unit, over, convention)]
        means = [r.mean for r in alike if r.of in CLASSES[1:] and r.mean is not None]
        rows.append(
            Score(
                stage=stage,
                unit=unit,
                over=over,
                of=MEAN_FOREGROUND,
                metric="dice",
                convention=convention,
                mean=float(np.mean(means)) if means else None,
                count=max(r.count for r in alike),
            )
        )
    return rows


def find_row(rows: Iterable[Row], **wanted: str) -> Row | None:
    """The first row whose keys have the wanted values, or None."""
    for row in rows:
        if all(getattr(row, key) == value for key, value in wanted.items()):
            return row
    return None


def write_unit_tables(
    folder: FoldFolder,
    stage: str,
    tally: SegmentationTally | PretrainingTally,
    scores: Sequence[Scores],
) -> None:
    """Writes evaluation_<stage>.csv, one row per slice, and ..._patients.csv, one per volume.

    The cell of an undefined number (a distance to an empty mask, a Dice of two) is empty. Where no
    patient has all slices, the second table is not written, and removed if there is one.

    Args:
      folder: of the fold.
      stage: 'pretrain' or 'segment'.
      tally: the counts by slice.
      scores: `conventions.scores_of(tally)`.
    """
    slices = tally.slices
    names = slices.patients
    places = [(names[p], int(n)) for p, n in zip(slices.patient, slices.number, strict=True)]
    by_slice = dict(_slice_columns(tally, scores))
    publish(folder, folder.slices_csv(stage), _csv(("patient", "slice"), places, by_slice))
    if isinstance(tally, PretrainingTally):
        return
    of_volumes = folder.patients_csv(stage)
    if slices.whole.any():
        whole = [(name,) for name in names[slices.whole]]
        publish(folder, of_volumes, _csv(("patient",), whole, dict(_volume_columns(scores))))
    else:
        publish(folder, of_volumes, None)


def _slice_columns(
    tally: SegmentationTally | PretrainingTally, scores: Sequence[Scores]
) -> Iterator[tuple[str, np.ndarray]]:
    """Columns 'region metric' of the table by slice."""
    if isinstance(tally, PretrainingTally):
        yield from ((name.replace("/", " "), values) for name, values in tally.values.items())
        for yardstick, of_slices in tally.yardsticks.items():
            for name, values in of_slices.items():
                yield f"{yardstick} {name.replace('/', ' ')}", values
        return
    for r, of in enumerate(SCORED):
        yield from ((f"{of} {c}", tally.counts[:, r, k]) for k, c in enumerate(("tp", "fp", "fn")))
    for score in scores:
        if (score.unit, score.over) != ("slice", "all slices") or score.metric in _FROM_COUNTS:
            continue
        if score.convention == "penalised":  # follows from the counts and the plain column
            continue
        # The other conventions of the Dice follow from the empty cells of this one.
        if score.metric != "dice" or score.convention == "present_only":
            yield f"{score.of} {score.metric}", score.values


def _volume_columns(scores: Sequence[Scores]) -> Iterator[tuple[str, np.ndarray]]:
    """Columns 'region metric' of the table by patient, with the convention if there are several."""
    for score in scores:
        if (score.unit, score.over) == ("patient", "volumes") and score.convention != "penalised":
            several = score.metric in SEVERAL_VOLUME_CONVENTIONS
            suffix = f" ({score.convention})" if several else ""
            yield f"{score.of} {score.metric}{suffix}", score.values


def _csv(
    head: Sequence[str], places: Sequence[Sequence[Any]], columns: Mapping[str, np.ndarray]
) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, *columns])
    for row, place in enumerate(places):
        cells = [_cell(column[row]) for column in columns.values()]
        writer.writerow([*map(_place, place), *cells])
    return text.getvalue().encode("utf-8", "backslashreplace")


def _place(value: Any) -> Any:
    return csv_cell(value) if isinstance(value, str) else value


def _cell(value: Any) -> str:
    if isinstance(value, np.integer):
        return str(int(value))
    return "" if np.isnan(value) else f"{float(value):.6g}"


def _defined(mean: float) -> float | None:
    return None if np.isnan(mean) else mean
