"""Loss curves by fold and their mean (Figure 5 and Appendix Figure 1 of the paper)."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from brats_jax.reporting import captions
from brats_jax.reporting.arms import LOSS_NAMES
from brats_jax.reporting.figures.figure import SIDES, Figure, axes, canvas, drawn, styled
from brats_jax.reporting.read_runs import FoldFiles, Run, Study
from brats_jax.reporting.variants import variants_of
from brats_jax.runtime.text import plural

EVENTS = (("train", "training", "-"), ("validation", "validation", "--"))
_COLUMNS = 3  # of panels, at most
_Training = tuple[Run, FoldFiles]  # one training: the run and the fold of a given stage


def trainings(study: Study, stage: str) -> list[_Training]:
    """Trainings with a loss curve for a stage; equal curves of several runs are there once."""
    found: dict[tuple[object, ...], _Training] = {}
    for run in study.runs:
        for fold in run.folds.values():
            curve = fold.stages[stage].curve("train") if stage in fold.stages else []
            if curve:
                arm = (run.loss, run.ssl, run.fraction) if stage == "segment" else ()
                found.setdefault((arm, run.seed, fold.number, *curve), (run, fold))
    return list(found.values())


@styled
def pretraining_curves(study: Study) -> Figure | None:
    """Figure 5: loss of the pretraining, mean over folds and each; a panel for each pretext."""
    group = trainings(study, "pretrain")
    if not group:
        return None
    names = variants_of(study.runs)
    panels: dict[str, list[_Training]] = {}
    for run, fold in group:
        panels.setdefault(names[run.name][2] if run.ssl else "", []).append((run, fold))
    columns = min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / columns)
    drawing = canvas(6.4, 3.4) if len(panels) == 1 else canvas(3.2 * columns, 2.3 * rows + 0.5)
    grid = axes(drawing, rows, columns)
    cells = [axis for row in grid for axis in row]
    for axis, (name, mine) in zip(cells, panels.items(), strict=False):
        _draw(axis, mine, "pretrain", SIDES[True][1])
        if len(panels) > 1:
            axis.set_title(name or "the others")
    for axis in cells[len(panels) :]:
        axis.set_axis_off()
    for row in grid:
        row[0].set_ylabel("mean squared error" if len(panels) == 1 else "loss")
    _add_legend(drawing)
    apart = " Losses of different pretexts do not compare." if len(panels) > 1 else ""
    return drawn(
        drawing,
        "figure_5",
        "Figure 5",
        "Training and validation loss of the pretraining",
        f"{_trainings(group, len(panels))}. Training loss is over random patches, validation loss "
        f"over whole slices.{apart}{_unfinished(group, 'pretrain')}",
        "Line chart of the losses of the pretraining by epoch",
    )


@styled
def segmentation_curves(study: Study) -> Figure | None:
    """Appendix Figure 1: loss of the segmentation by fold, for each loss and start."""
    group = trainings(study, "segment")
    if not group:
        return None
    most = {
        (r.loss, r.ssl): max(x.fraction for x, _ in group if x.loss == r.loss) for r, _ in group
    }
    group = [(r, f) for r, f in group if r.fraction == most[r.loss, r.ssl]]
    losses = [x for x in LOSS_NAMES if any(r.loss == x for r, _ in group)]
    losses += sorted({r.loss for r, _ in group} - set(losses))
    sides = [ssl for ssl in (False, True) if any(r.ssl == ssl for r, _ in group)]
    drawing = canvas(3.6 * len(sides) if len(sides) > 1 else 5.4, 2.3 * len(losses) + 0.5)
    grid = axes(drawing, len(losses), len(sides), sharex=True, sharey="row")
    for row, loss in zip(grid, losses, strict=True):
        for axis, ssl in zip(row, sides, strict=True):
            mine = [(r, f) for r, f in group if r.loss == loss and r.ssl == ssl]
            start = "SSL" if ssl else "baseline"
            axis.set_title(f"{LOSS_NAMES.get(loss, loss)}, {start}")
            if mine:
                _draw(axis, mine, "segment", SIDES[ssl][1])
            else:
                axis.text(0.5, 0.5, "not trained", ha="center", transform=axis.transAxes)
        row[0].set_ylabel("loss")
        for axis in row:
            axis.set_xlabel("epoch" if row is grid[-1] else "")
    _add_legend(drawing)
    return drawn(
        drawing,
        "appendix_figure_1",
        "Appendix Figure 1",
        "Training and validation loss of the segmentation, by fold",
        f"{_trainings(group, len(losses) * len(sides))}. One row for each loss; values of "
        f"different losses do not compare.{_unfinished(group, 'segment')}",
        "Line charts of the losses of the segmentation by epoch, a panel for each loss and start",
    )


def _add_legend(drawing: Canvas) -> None:
    """What solid and dashed lines are; in black, as the sides have colours of their own."""
    lines = [Line2D([], [], color="black", ls=style, label=name) for _, name, style in EVENTS]
    drawing.legend(handles=lines, loc="outside upper right", ncols=len(lines))


def _draw(axis: Axes, group: Sequence[_Training], stage: str, colour: str) -> None:
    for event, _, style in EVENTS:
        by_epoch: dict[int, list[float]] = {}
        for _, fold in group:
            points = fold.stages[stage].curve(event)
            if len(group) > 1:
                axis.plot(*zip(*points, strict=True), color=colour, alpha=0.3, lw=0.8, ls=style)
            for epoch, loss in points:
                by_epoch.setdefault(epoch, []).append(loss)
        # Only epochs that every fold has: elsewhere the mean would jump where a fold ends.
        full = {e: v for e, v in sorted(by_epoch.items()) if len(v) == len(by_epoch[min(by_epoch)])}
        means = [float(np.mean(v)) for v in full.values()]
        mark = "o" if len(means) < 3 else None
        axis.plot(list(full), means, color=colour, ls=style, marker=mark, ms=4)
    axis.set_xlabel("epoch")
    axis.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    values = [y for line in axis.lines for y in np.asarray(line.get_ydata(), float)]
    if values and min(values) > 0 and max(values) > 20 * min(values):
        axis.set_yscale("log")


def _trainings(group: Sequence[_Training], panels: int) -> str:
    """The lines in words; the mean is mentioned if a panel has several trainings."""
    folds = captions.fold_names([*{fold.number for _, fold in group}])
    seeds = {run.seed for run, _ in group}
    many = f", {len(seeds)} seeds" if len(seeds) > 1 else ""
    count = plural(len(group), "training")
    lines = "Thick: mean; thin: each of " if len(group) > panels else ""
    return f"{lines}{count} ({folds}{many})"


def _unfinished(group: Sequence[_Training], stage: str) -> str:
    count = sum(fold.stages[stage].result is None for _, fold in group)
    return f" Not trained to the end: {count}." if count else ""
