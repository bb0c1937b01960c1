"""The summary of a run: means over its folds, as JSON and as CSV."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brats_jax.runs.averaged_label import SOME_FOLDS
from brats_jax.runs.documents import (
    CROSS_VALIDATION,
    SCORE_KEYS,
    Evaluation,
    FoldsScore,
    Score,
    Summary,
)
from brats_jax.runs.folder import RunFolder
from brats_jax.runs.sidecars import LATER_S
from brats_jax.runtime import locks
from brats_jax.runtime.console import print_line
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.files import json_text
from brats_jax.runtime.own_files import OwnFiles
from brats_jax.runtime.text import csv_cell

_OPTIONAL = ("least_count", "of_count", "folds_without")  # columns of summary.csv, may be empty


def read_evaluations(run: RunFolder, num_folds: int) -> list[Evaluation]:
    """The evaluations of this version of a run's folds, in order."""
    # Scores of another version may be defined otherwise: they are not averaged with these.
    found = [
        read_if_readable(run.fold(fold).evaluation_json, Evaluation) for fold in range(num_folds)
    ]
    return [evaluation for evaluation in found if evaluation is not None]


def summarise_run(run: RunFolder, num_folds: int) -> Summary:
    """Averages the evaluated folds of a run into summary.json and summary.csv.

    Files of an earlier version with the same numbers are left as they are. A file that this program
    did not write, or that was edited since, is kept, and named in one line.
    """
    # Processes that work on the folds of one run may end together.
    with locks.hold(run.lock, str(run.path), patience_s=60):
        summary = average(read_evaluations(run, num_folds), num_folds)
        _write(run, summary)
    return summary


def average(folds: Sequence[Evaluation], num_folds: int) -> Summary:
    """The summary of evaluated folds, at least one, of the `num_folds` of a run."""
    first = folds[0]
    return Summary(
        folds=tuple(evaluation.fold for evaluation in folds),
        of_folds=num_folds,
        set=first.set,
        slices=first.slices,
        split_by=first.split_by,
        patients=_over_all([evaluation.patients for evaluation in folds], first.set),
        loss=first.loss,
        ssl=first.ssl,
        inputs=first.inputs,
        target=first.target,
        pretext=first.pretext,
        tta=first.tta,
        planes=first.planes if len({one.planes for one in folds}) == 1 else SOME_FOLDS,
        rows=_over_folds(folds),
        with_holes=_over_all([evaluation.with_holes for evaluation in folds], first.set),
    )


def _over_all(counts: Sequence[int], of_set: str) -> int:
    """Number of units of all folds, which share a test set or have their own."""
    return sum(counts) if of_set == CROSS_VALIDATION else max(counts)


def _write(run: RunFolder, summary: Summary) -> None:
    before = read_if_readable(run.summary_json, Summary)
    own = _own_files(run, before)
    made = {
        run.summary_json: json_text(summary.sealed().to_json()).encode(),
        run.summary_csv: _table(summary),
    }
    cut = any(own.is_cut(path.name, data) for path, data in made.items())
    if own.damage:
        own.adopt_equal({path.name: data for path, data in made.items()})
    same = before is not None and _plain(before) == _plain(summary)
    is_new = cut or not same or not run.summary_csv.exists()
    new = {}
    for path, data in made.items():
        if own.may_replace(path.name) or own.is_cut(path.name, data):
            new[path.name] = data
        elif own.damage and is_new:
            print_line(
                f"{own.damage}, so that an edit of {path} could not be found: kept; move it away, "
                "and give the same command again for a new one"
            )
        elif is_new or own.knows(path.name):
            print_line(
                f"{path} was not written by this program, or has changed since: kept; move it "
                "away, and give the same command again for a new one"
            )
    if is_new and new:
        own.write(new)


def _own_files(run: RunFolder, before: Summary | None) -> OwnFiles:
    """The files of the summary that this program wrote."""
    own = OwnFiles(run.path, run.ledger_json)
    if own.has_ledger or before is None:
        return own
    # Of version 0.1.0, which wrote the table last.
    own.adopt(run.summary_json.name)
    if run.summary_csv.is_file():
        written = run.summary_json.stat().st_mtime + LATER_S
        own.adopt(run.summary_csv.name, unchanged=run.summary_csv.stat().st_mtime <= written)
    return own


def _table(summary: Summary) -> bytes:
    """summary.csv."""
    facts = ("patients", "set", "slices", "split_by", "loss", "ssl")
    repeated = {name: getattr(summary, name) for name in facts}
    head = [*SCORE_KEYS, "mean", "sd_over_folds", "folds", "count", *_OPTIONAL, *facts]
    text = io.StringIO()
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    rows = ({**row.to_json(), **repeated} for row in summary.rows)
    writer.writerows({n: _cell(value) for n, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _plain(summary: Summary) -> Summary:
    """The summary without what earlier versions do not write."""
    rows = (
        dataclasses.replace(row, least_count=None, of_count=None, folds_without=())
        for row in summary.rows
    )
    return dataclasses.replace(summary, rows=tuple(rows))


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return csv_cell(value) if isinstance(value, str) else value


def _over_folds(folds: Sequence[Evaluation]) -> tuple[FoldsScore, ...]:
    """One row per score: mean and SD over the folds that have it, and the number of units.

    In a cross-validation the mean is over the units of all folds.
    """
    by_key: dict[tuple[str, ...], dict[int, Score]] = {}
    units: dict[tuple[str, ...], dict[int, int]] = {}
    of_set = folds[0].set
    for evaluation in folds:
        for row in evaluation.rows:
            by_key.setdefault(row.key, {})[evaluation.fold] = row
            own = units.setdefault(row.key[:3], {})
            own[evaluation.fold] = max(own.get(evaluation.fold, 0), row.count)
    rows = []
    for scores in by_key.values():
        first = next(iter(scores.values()))
        known = {fold: score.mean for fold, score in scores.items() if score.mean is not None}
        means = list(known.values())
        counts = [scores[e.fold].count if e.fold in scores else 0 for e in folds]
        rows.append(
            FoldsScore(
                stage=first.stage,
                unit=first.unit,
                over=first.over,
                of=first.of,
                metric=first.metric,
                convention=first.convention,
                mean=_mean(known, scores, of_set),
                sd_over_folds=float(np.std(means, ddof=1)) if len(means) > 1 else None,
                folds=len(means),
                count=_over_all(counts, of_set),
                least_count=None
                if min(counts) == max(counts) or of_set == CROSS_VALIDATION
                else min(counts),
                of_count=_over_all(list(units[first.key[:3]].values()), of_set),
                folds_without=tuple(e.fold for e in folds if e.fold not in known),
            )
        )
    return tuple(rows)


def _mean(known: Mapping[int, float], scores: Mapping[int, Score], of_set: str) -> float | None:
    if not known:
        return None
    weights = [scores[fold].count if of_set == CROSS_VALIDATION else 1 for fold in known]
    return float(np.average(list(known.values()), weights=weights if any(weights) else None))
