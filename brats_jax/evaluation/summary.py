"""The summary of a run: means over its folds as JSON, as CSV and as printed tables."""

import csv
import dataclasses
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brats_jax.data.modalities import CLASSES
from brats_jax.evaluation import conventions, yardsticks
from brats_jax.evaluation.rows import MEAN_FOREGROUND, find_row
from brats_jax.evaluation.tallies import LESION_REGIONS
from brats_jax.metrics import overlap
from brats_jax.runs.documents import CROSS_VALIDATION, KEYS, Evaluation, FoldsScore, Score, Summary
from brats_jax.runs.folder import RunFolder
from brats_jax.runs.pretext_label import pretext_label
from brats_jax.runs.sidecars import LATER_S
from brats_jax.runtime import locks
from brats_jax.runtime.console import print_line
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.files import json_text
from brats_jax.runtime.own_files import OwnFiles
from brats_jax.runtime.text import csv_cell, plural

_OPTIONAL = ("least_count", "of_count", "folds_without")  # columns of summary.csv, may be empty
_FIRST_COLUMN = 26  # width of the row names in the printed tables
_COLUMN = 21
_BESIDE = ("ASD penalised", "missed", "invented")  # what stands beside every plain ASD


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
    head = [*KEYS, "mean", "sd_over_folds", "folds", "count", *_OPTIONAL, *facts]
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


def format_summary(summary: Summary) -> str:
    """The tables that a run prints, in plain text, with their conventions and units."""
    folds = ", ".join(map(str, summary.folds))
    leak = "" if summary.split_by == "patient" else "  (patients on both sides: too good)"
    lines = [
        "",
        f"{_of_set(summary)}, {summary.slices} slices, split by {summary.split_by}{leak}; "
        f"{'pooled' if summary.set == CROSS_VALIDATION else 'mean'} over fold {folds} of "
        f"{summary.of_folds}" + "; predictions averaged over flips" * summary.tta,
    ]
    if summary.with_holes:
        over = " and over all slices" if summary.slices == "all" else ""
        lines.append(
            f"Slices of {plural(summary.with_holes, 'patient')} are missing: left out of scores of "
            f"volumes{over}"
        )
    rows = summary.rows
    if any(row.stage == "pretrain" for row in rows):
        lines += _pretraining_table(summary)
    if any(row.stage == "segment" for row in rows):
        lines += _slice_table(summary)
        if any(row.over == "volumes" for row in rows):
            lines += _volume_table(summary)
    return "\n".join(lines)


def _mean(known: Mapping[int, float], scores: Mapping[int, Score], of_set: str) -> float | None:
    if not known:
        return None
    weights = [scores[fold].count if of_set == CROSS_VALIDATION else 1 for fold in known]
    return float(np.average(list(known.values()), weights=weights if any(weights) else None))


def _of_set(summary: Summary) -> str:
    patients = plural(summary.patients, "patient")
    if summary.set == CROSS_VALIDATION:
        return f"Cross-validation: {patients}, each tested by the fold that it does not train"
    return f"Test set: {patients}"


def _pretraining_table(summary: Summary) -> list[str]:
    title = pretext_label(summary.target, summary.inputs, summary.pretext)
    names = ("MSE (slices)", "PSNR dB (slices)", "SSIM (slices)")
    # A long title has a line of its own.
    above, first = ([title], "") if len(title) >= _FIRST_COLUMN else ([], title)
    head = first.ljust(_FIRST_COLUMN) + "".join(n.ljust(_COLUMN) for n in names).rstrip()
    lines = ["", *above, head]
    shown: list[FoldsScore | None] = []
    # Of tumour slices alone, "all slices" would be the same numbers again.
    overs = ("all slices", "tumour slices") if summary.slices == "all" else ("tumour slices",)
    for region in ("slice", "brain", "tumour"):
        for over in overs if region != "tumour" else overs[-1:]:
            cells = _image_cells(summary, "pretrain", region, over)
            lines.append(_image_line(f"  {region}, {over}", cells))
            shown += cells
            for name in yardsticks.YARDSTICKS:
                beside = _image_cells(summary, name, region, over)
                if any(beside):
                    lines.append(_image_line(f"    {name}", beside))
    lines.append("  PSNR and SSIM: range of each target slice; in brackets: number of slices")
    return [*lines, *_without(shown, summary), *_against_yardsticks(summary, overs)]


def _image_cells(
    summary: Summary, stage: str, region: str, over: str
) -> tuple[FoldsScore | None, ...]:
    """MSE, PSNR and SSIM of the first stage or of a yardstick."""
    rows = [row for row in summary.rows if row.stage == stage]
    return tuple(
        find_row(rows, of=region, over=over, metric=metric, convention=rule)
        for metric, rule in (("mse", ""), ("psnr", "target range"), ("ssim", "target range"))
    )


def _image_line(name: str, cells: Sequence[FoldsScore | None]) -> str:
    shown = (_counted(c, d).ljust(_COLUMN) for c, d in zip(cells, (4, 2, 4), strict=True))
    return (name.ljust(_FIRST_COLUMN) + "".join(shown)).rstrip()


def _against_yardsticks(summary: Summary, overs: Sequence[str]) -> list[str]:
    """Whether the network predicts the brain better than what needs no network."""
    lines = []
    for name, over in itertools.product(yardsticks.YARDSTICKS, overs):
        own, other = (
            _image_cells(summary, stage, "brain", over)[0] for stage in ("pretrain", name)
        )
        if own is None or other is None or own.mean is None or other.mean is None:
            continue
        beats = "beats" if own.mean < other.mean else "does NOT beat"
        lines.append(
            f"  the network {beats} the {name} over the brain: MSE {own.mean:.4f} against "
            f"{other.mean:.4f}, ratio {own.mean / other.mean:.2f} ({over})"
        )
    return [f"  {line}" for line in yardsticks.explain(summary.inputs) if lines] + lines


def _slice_table(summary: Summary) -> list[str]:
    rows = [r for r in summary.rows if r.over == "all slices" and r.stage == "segment"]
    loss = f"{summary.loss}, {'SSL' if summary.ssl else 'no SSL'}"
    head = "  by slice".ljust(_FIRST_COLUMN)
    head += "".join(f"Dice {c}".ljust(_COLUMN) for c in overlap.CONVENTIONS)
    head += "".join(t.ljust(_COLUMN) for t in ("ASD mm (slices)", *_BESIDE)).rstrip()
    lines = ["", f"Segmentation ({loss})", head]
    shown = []
    for name in (*CLASSES, MEAN_FOREGROUND):
        line = f"    {name}".ljust(_FIRST_COLUMN)
        for convention in overlap.CONVENTIONS:
            cell = find_row(rows, of=name, metric="dice", convention=convention)
            # The foreground's is a mean of three means, and has no count of slices of its own.
            show = _number if name == MEAN_FOREGROUND else _counted
            line += show(cell, 4).ljust(_COLUMN)
            shown.append(cell)
        plain = find_row(rows, of=name, metric="asd_mm", convention="both_present")
        line += _counted(plain, 2).ljust(_COLUMN) + _beside(summary, name)
        shown.append(plain)
        lines.append(line.rstrip())
    lines += [f"  {c}: {conventions.NOTES[c]}" for c in overlap.CONVENTIONS]
    lines.append("  mean foreground: of the three classes' means")
    lines.append("  ASD: pooled over both boundaries, slices where both masks hold the class")
    return [*lines, *_beside_notes("class"), *_without(shown, summary)]


def _volume_table(summary: Summary) -> list[str]:
    rows = [r for r in summary.rows if r.over == "volumes"]
    columns = (
        ("Dice brats2020", "dice", "brats2020", 4),
        ("Dice lesion-wise", "lesion_dice", "brats2023", 4),
        ("HD95 mm brats2020", "hd95_mm", "brats2020", 2),
        ("HD95 mm (patients)", "hd95_mm", "present_only", 2),
        ("ASD mm (patients)", "asd_mm", "both_present", 2),
    )
    lines = ["", "  by patient, in 3D".ljust(_FIRST_COLUMN)]
    titles = (*(title for title, *_ in columns), *_BESIDE)
    lines[-1] += "".join(title.ljust(_COLUMN) for title in titles).rstrip()
    shown = []
    for name in dict.fromkeys((*LESION_REGIONS, *CLASSES[1:])):
        line = f"    {name}".ljust(_FIRST_COLUMN)
        for _, metric, convention, digits in columns:
            cell = find_row(rows, of=name, metric=metric, convention=convention)
            line += ("" if cell is None else _counted(cell, digits)).ljust(_COLUMN)
            shown.append(cell)
        lines.append((line + _beside(summary, name)).rstrip())
    lines.append(f"  brats2020: {conventions.NOTES['brats2020']}")
    return [*lines, *_beside_notes("region"), *_without(shown, summary)]


def _beside(summary: Summary, name: str) -> str:
    """The columns `_BESIDE` of a region: what its plain ASD leaves out."""
    if name == MEAN_FOREGROUND:
        return ""
    rows, pooled = summary.rows, summary.set == CROSS_VALIDATION
    penalised = find_row(rows, of=name, metric="asd_mm", convention="penalised")
    absent = (find_row(rows, of=name, metric=metric) for metric in ("missed", "invented"))
    cells = (_counted(penalised, 2), *(_number_of(row, pooled=pooled) for row in absent))
    return "".join(cell.ljust(_COLUMN) for cell in cells)


def _beside_notes(region: str) -> list[str]:
    return [
        f"  ASD penalised: {conventions.NOTES['penalised']}",
        f"  missed: the truth holds the {region}, the prediction does not; invented: the reverse; "
        "summed over the folds",
    ]


def _number_of(row: FoldsScore | None, *, pooled: bool) -> str:
    """'3 of 20': units with the value 1, summed over the folds; `pooled`: `count` is a sum."""
    if row is None or row.mean is None:
        return "-" if row is None else "0 of 0"
    count = row.count if pooled else row.count * row.folds
    return f"{round(row.mean * count)} of {count}"


def _without(shown: Sequence[FoldsScore | None], summary: Summary) -> list[str]:
    """A line for each printed mean that some folds do not have."""
    return [
        f"  {row.of} {row.metric} {row.convention}".rstrip()
        + f" over {row.over}: fold {', '.join(map(str, row.folds_without))} of "
        f"{', '.join(map(str, summary.folds))} has no value and is not in the mean"
        for row in shown
        if row is not None and row.folds_without and row.folds
    ]


def _counted(row: FoldsScore | None, digits: int) -> str:
    """'45.30 (0 to 4)': the mean and the number of units, of the folds with least and most."""
    if row is None:
        return ""
    least = "" if row.least_count is None else f"{row.least_count} to "
    return f"{_number(row, digits)} ({least}{row.count})"


def _number(row: FoldsScore | None, digits: int) -> str:
    return "-" if row is None or row.mean is None else f"{row.mean:.{digits}f}"
