"""The tables of a run's summary, as plain text for the terminal."""

import itertools
from collections.abc import Sequence

from brats_jax.data.modalities import CLASSES
from brats_jax.evaluation import conventions, yardsticks
from brats_jax.evaluation.rows import MEAN_FOREGROUND, find_row
from brats_jax.evaluation.tallies import LESION_REGIONS
from brats_jax.metrics import overlap
from brats_jax.runs.averaged_label import averaged_label
from brats_jax.runs.documents import CROSS_VALIDATION, FoldsScore, Summary
from brats_jax.runs.pretext_label import pretext_label
from brats_jax.runtime.text import plural

_FIRST_COLUMN = 26  # width of the row names in the printed tables
_COLUMN = 21
# Names of the metrics of the tables, and the conventions that their heads leave out.
_QUANTITIES = {
    "mse": "MSE",
    "psnr": "PSNR dB",
    "ssim": "SSIM",
    "dice": "Dice",
    "lesion_dice": "lesion-wise Dice",
    "asd_mm": "ASD mm",
    "hd95_mm": "HD95 mm",
}
_UNNAMED = ("", "target range", "both_present")
_BESIDE = ("ASD penalised", "missed", "invented")  # the columns beside every plain ASD


def format_summary(summary: Summary) -> str:
    """The tables that a run prints, in plain text, with their conventions and units."""
    folds = ", ".join(map(str, summary.folds))
    leak = "" if summary.split_by == "patient" else "  (patients on both sides: too good)"
    lines = [
        "",
        f"{_of_set(summary)}, {summary.slices} slices, split by {summary.split_by}{leak}; "
        f"{'pooled' if summary.set == CROSS_VALIDATION else 'mean'} over fold {folds} of "
        f"{summary.of_folds}" + averaged_label(summary.tta, ""),
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
        if label := averaged_label(False, summary.planes, ""):
            lines += ["", f"Of the segmentation {label}"]
        lines += _slice_table(summary)
        if any(row.over == "volumes" for row in rows):
            lines += _volume_table(summary)
    return "\n".join(lines)


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
        line += _counted(plain, 2).ljust(_COLUMN) + _beside(summary, rows, name)
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
        lines.append((line + _beside(summary, rows, name)).rstrip())
    lines.append(f"  brats2020: {conventions.NOTES['brats2020']}")
    return [*lines, *_beside_notes("region"), *_without(shown, summary)]


def _beside(summary: Summary, rows: Sequence[FoldsScore], name: str) -> str:
    """The columns `_BESIDE` of a region, from rows of a table: what its plain ASD leaves out."""
    if name == MEAN_FOREGROUND:
        return ""
    pooled = summary.set == CROSS_VALIDATION
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
        f"  {_quantity(row)} over {row.over}: fold {', '.join(map(str, row.folds_without))} of "
        f"{', '.join(map(str, summary.folds))} has no value and is not in the mean"
        for row in shown
        if row is not None and row.folds_without and row.folds
    ]


def _quantity(row: FoldsScore) -> str:
    """'HD95 mm of ET (present_only)': as the tables name it."""
    convention = f" ({row.convention})" if row.convention not in _UNNAMED else ""
    return f"{_QUANTITIES.get(row.metric, row.metric)} of {row.of}{convention}"


def _counted(row: FoldsScore | None, digits: int) -> str:
    """'45.30 (0 to 4)': the mean and the number of units, of the folds with least and most."""
    if row is None:
        return ""
    least = "" if row.least_count is None else f"{row.least_count} to "
    return f"{_number(row, digits)} ({least}{row.count})"


def _number(row: FoldsScore | None, digits: int) -> str:
    return "-" if row is None or row.mean is None else f"{row.mean:.{digits}f}"
