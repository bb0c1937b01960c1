"""Charts of the results: conventions, differences, distributions by patient, label fractions."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats

from brats_jax.data.modalities import CLASSES
from brats_jax.reporting import captions
from brats_jax.reporting.arms import Arm, Results
from brats_jax.reporting.attribution import name_of
from brats_jax.reporting.averages import mean_over_folds, patient_values
from brats_jax.reporting.comparisons import (
    PRIMARY,
    PRIMARY_BY_SLICE,
    Comparison,
    Quantity,
    are_too_few,
)
from brats_jax.reporting.figures.figure import (
    GREY,
    OTHERS,
    SIDES,
    Figure,
    axes,
    canvas,
    drawn,
    styled,
)
from brats_jax.reporting.paired_trainings import interval_over_trainings
from brats_jax.reporting.paper.printed_numbers import printed_numbers
from brats_jax.reporting.statistics import Interval, PairedDifference
from brats_jax.runtime.text import joined

TUMOUR_CLASSES = CLASSES[1:]
_BOXED = 10  # patients; fewer are points with their median
_MORE_MARKERS = "Dd<>ph"  # of a second round of the same colours


@styled
def convention_figure(results: Results) -> Figure | None:
    """Dice of the three classes under each convention, its ceiling, and the paper's numbers."""
    measured = results.evaluated()
    if not captions.all_slices(measured):
        return None
    theirs = {
        of: [float(n.value) for n in printed_numbers() if n.table in "345" and n.of == of]
        for of in TUMOUR_CLASSES
    }
    theirs = {of: [v for v in values if v <= 1] for of, values in theirs.items()}
    drawing = canvas(7.2, 4.4)
    ((axis,),) = axes(drawing, 1, 1)
    styles = (
        ("slice", "paper", "v", "ours, the paper's convention"),
        ("slice", "present_only", "s", "ours, present only"),
        ("slice", "both_empty_1", "^", "ours, both empty 1"),
        ("patient", "brats2020", "P", "ours, by patient in 3D (BraTS 2020)"),
    )
    for y, of in enumerate(reversed(TUMOUR_CLASSES)):
        ceiling = mean_over_folds(measured, ("slice", "all slices", of, "in_truth", ""))[0]
        axis.barh(y, ceiling, height=0.76, color="#E3E3E3", zorder=0)
        axis.plot([ceiling] * 2, [y - 0.38, y + 0.38], color=GREY, lw=1.4)
        axis.plot(theirs[of], [y - 0.28] * len(theirs[of]), "x", color="black", ms=5, mew=1.2)
        for k, (unit, convention, mark, _) in enumerate(styles):
            over = "volumes" if unit == "patient" else "all slices"
            height = y + 0.14 * (k - 1)
            for arm, group in results.arms.items():
                mean = mean_over_folds(group, (unit, over, of, "dice", convention))[0]
                _, colour, _ = SIDES[arm.ssl]
                axis.plot(mean, height, mark, color=colour, ms=6.5, mec="white", mew=0.5)
    for unit, _, mark, name in styles:
        if unit == "slice" or any(key[0] == unit for one in measured for key in one.rows):
            axis.plot([], [], mark, color="white", mec="black", label=name)
    axis.plot([], [], "x", color="black", label="the paper")
    axis.plot([], [], color=GREY, label="largest possible under the paper's convention")
    for ssl in sorted({arm.ssl for arm in results.arms}):
        name, colour, _ = SIDES[ssl]
        axis.plot([], [], color=colour, lw=7, label=name)
    axis.set_yticks(range(len(TUMOUR_CLASSES)), list(reversed(TUMOUR_CLASSES)))
    axis.set_xlim(0, 1.02)
    axis.set_xlabel("mean Dice")
    axis.grid(axis="y", visible=False)
    drawing.legend(loc="outside lower center", ncols=2)
    return drawn(
        drawing,
        "conventions",
        "",
        "The same predictions under four conventions",
        "Each marker is an arm (loss, with or without SSL), its form is the convention, its "
        "colour the start. Light grey: the share of slices that hold the class, which no model can "
        "exceed under the paper's convention. " + captions.over(measured),
        "Dice of the three classes under each convention, beside the paper's numbers",
    )


@styled
def difference_figure(comparisons: Sequence[Comparison]) -> Figure | None:
    """Mean difference and interval of each comparison; each fold and seed as a point."""
    shown = [c for c in comparisons if not np.isnan(c.result.mean_difference)]
    if not shown:
        return None
    few = [c for c in shown if are_too_few(c.result)]
    repeated = ""
    if any(len(c.repeats) > 1 for c in shown):
        repeated = " Small grey points: each fold and seed."
    if few:
        repeated += (
            " Crosses: the patients, where they are too few to find a difference of any size; such "
            "a line has no interval."
        )
    # The settings of an arm take a line of their own.
    several = len({c.ssl.settings for c in shown}) > 1
    drawing = canvas(7.2, (0.45 if several else 0.34) * len(shown) + 1.1)
    ((axis,),) = axes(drawing, 1, 1)
    for y, c in enumerate(reversed(shown)):
        points = list(c.repeats.values())
        if len(points) > 1:
            axis.plot(points, [y - 0.2] * len(points), "o", color=GREY, ms=3, alpha=0.6)
        low, high = c.result.low, c.result.high
        if are_too_few(c.result):
            axis.plot(c.differences, [y + 0.2] * len(c.differences), "x", color=GREY, ms=5)
        elif not np.isnan(low):
            axis.plot([low, high], [y, y], color="black", lw=2, solid_capstyle="butt")
        mark, fill = ("D", "black") if c.found else ("o", "white")
        axis.plot(c.result.mean_difference, y, mark, color=fill, mec="black", mew=1.4, ms=6)
    axis.axvline(0, color="black", lw=0.9)
    names = [
        (f"{c.ssl.settings}\n" if several else "")
        + f"{c.ssl.loss_name}: {c.quantity.name} "
        + f"(n = {c.result.n}{', too few' if are_too_few(c.result) else ''})"
        for c in reversed(shown)
    ]
    axis.set_yticks(range(len(shown)), names)
    axis.set_ylim(-0.7, len(shown) - 0.3)
    better = "right" if shown[0].quantity.larger_is_better else "left"
    axis.set_xlabel(f"SSL minus baseline, mean over patients ({better} of 0: SSL is better)")
    axis.grid(axis="y", visible=False)
    return drawn(
        drawing,
        "differences",
        "",
        "SSL minus baseline, by patient",
        f"{_ends(shown)}{repeated}",
        f"Chart of mean differences{' with intervals' * (len(few) < len(shown))}, one line for "
        "each comparison",
    )


@styled
def distribution_figure(results: Results) -> Figure | None:
    """Dice of every patient, for each loss, region and start."""
    quantities = _available(results)
    pairs = {
        loss: [a for a in (results.main_arm(loss, ssl) for ssl in (False, True)) if a is not None]
        for loss in results.losses
    }
    if not quantities:
        return None
    drawing = canvas(7.6, 2.5 * len(pairs) + 0.5)
    grid = axes(drawing, len(pairs), 1, sharex=True, sharey=True)
    counts = set()
    for (axis,), (_, arms) in zip(grid, pairs.items(), strict=True):
        for x, quantity in enumerate(quantities):
            for arm in arms:
                name, colour, mark = SIDES[arm.ssl]
                values = _patient_means(results, arm, quantity)
                counts.add(len(values))
                shift = (0.2 if arm.ssl else -0.2) if len(arms) > 1 else 0.0
                where = x + shift + _spread(len(values), 0.12)
                boxed = len(values) >= _BOXED
                size, shade = (3, 0.55) if boxed else (5, 0.8)
                axis.plot(where, values, mark, color=colour, ms=size, alpha=shade, mew=0)
                if boxed:
                    draw_box(axis, values, x + shift, colour)
                elif len(values):
                    ends = [x + shift - 0.15, x + shift + 0.15]
                    axis.plot(ends, [np.median(values)] * 2, color="black", lw=1.3)
        axis.set_title(arms[0].loss_name)
        axis.set_xticks(range(len(quantities)), [q.key[2] for q in quantities])
        axis.set_xlim(-0.5, len(quantities) - 0.5)
        axis.set_ylim(-0.03, 1.03)
        axis.set_ylabel(_metric(quantities))
        axis.grid(axis="x", visible=False)
    for ssl in sorted({arm.ssl for arms in pairs.values() for arm in arms}):
        name, colour, mark = SIDES[ssl]
        grid[0][0].plot([], [], mark, color=colour, label=name)
    drawing.legend(loc="outside upper right", ncols=2)
    patients = joined([str(n) for n in sorted(counts)], "or")
    lines = "Line: median"
    if max(counts) >= _BOXED:
        lines = "Box: quartiles and median; whiskers: 5th and 95th percentile"
    return drawn(
        drawing,
        "distributions",
        "",
        f"{'3D Dice' if quantities == PRIMARY else 'Dice by slice'} of every patient",
        f"Each point is a patient ({patients}), mean over folds and seeds. {lines}. "
        f"{_convention(quantities)}. " + captions.over(results.evaluated()),
        "Strip and box charts of Dice by patient, for each loss and region",
    )


@styled
def label_figure(results: Results) -> Figure | None:
    """Dice against the share of labels, with intervals."""
    quantities = _available(results)
    if len(results.fractions) < 2 or not quantities:
        return None
    losses = [
        x for x in results.losses if len({a.fraction for a in results.arms if a.loss == x}) > 1
    ]
    width = 2.7 * len(quantities) + 0.4
    names = [name for loss in losses for name, *_ in _label_lines(results, loss)]
    columns = legend_columns(names, width)
    rows = math.ceil(len(set(names)) / columns)
    drawing = canvas(width, 2.4 * len(losses) + 0.4 + 0.2 * rows)
    grid = axes(drawing, len(losses), len(quantities), sharex=True, sharey=True)
    places = places_of_shares(results.fractions)
    # Starts stand side by side, within less than the way to the next share.
    step = 0.2 * min(np.diff(list(places.values()))) / len({*names})
    intervals: list[Interval] = []
    for row, loss in zip(grid, losses, strict=True):
        for axis, quantity in zip(row, quantities, strict=True):
            lines = _label_lines(results, loss)
            for place, (name, arms, colour, mark) in enumerate(lines):
                ends = [
                    interval_over_trainings(patient_values(results.arms[a], quantity.key))
                    for a in arms
                ]
                intervals += ends
                beside = step * (2 * place - len(lines) + 1)
                x = np.array([places[a.fraction] for a in arms]) + beside
                means = np.array([e.mean for e in ends])
                axis.plot(x, means, marker=mark, color=colour, ms=5, label=name)
                for at, end in zip(x, ends, strict=True):
                    axis.plot([at, at], [end.low, end.high], color=colour, lw=1.2)
                for at, arm in zip(x, arms, strict=True):
                    points = _repeat_means(results, arm, quantity)
                    if len(points) > 1:
                        axis.plot([at] * len(points), points, ".", color=colour, ms=3, alpha=0.5)
            axis.set_title(f"{_loss_name(loss, results)}, {quantity.key[2]}")
        row[0].set_ylabel(_metric(quantities))
    ticks = {arm.fraction: arm.labels for arm in results.arms}
    for axis in grid[-1]:
        axis.set_xlabel("training patients with labels")
        axis.set_xticks([places[f] for f in sorted(ticks)], [ticks[f] for f in sorted(ticks)])
        axis.tick_params(axis="x", rotation=35)
    entries = grid[0][0].get_legend_handles_labels()
    drawing.legend(*entries, loc="outside lower center", ncols=columns)
    return drawn(
        drawing,
        "label_efficiency",
        "",
        "Dice against the share of labels",
        f"Mean over patients with its 95 % {_method(intervals)}. Dots: each fold and seed. "
        f"{_convention(quantities)}. " + captions.over(results.evaluated()),
        "Line charts of Dice against the share of labelled patients, with and without SSL",
    )


def legend_columns(names: Sequence[str], width: float) -> int:
    """Columns of a legend, at most three, that fit into `width` inches."""
    widest = 0.6 + 0.062 * max(map(len, names), default=0)
    return max(1, min(3, int(width / widest)))


def places_of_shares(fractions: Sequence[float]) -> dict[float, float]:
    """Places of ascending shares of labels on an axis, from 0.

    The axis is logarithmic; two shares so close that their labels would overlap, such as 10 of 12
    patients and all, are moved apart.
    """
    at = np.log(np.array(fractions) / fractions[0])
    least = 0.25 * at[-1]
    gaps = np.maximum(np.diff(at), least)
    return dict(zip(fractions, np.concatenate([[0.0], np.cumsum(gaps)]).tolist(), strict=True))


def _label_lines(results: Results, loss: str) -> list[tuple[str, list[Arm], str, str]]:
    """(name, arms by share of labels, colour, marker) of each start of a loss."""
    families: dict[tuple[bool, str, str], list[Arm]] = {}
    for arm in sorted(results.arms, key=lambda a: (a.ssl, a.variant, a.pretraining, a.fraction)):
        if arm.loss == loss:
            families.setdefault((arm.ssl, arm.variant, arm.pretraining), []).append(arm)
    names = [name_of(results, arms[0]) for arms in families.values()]
    lines = []
    for k, ((ssl, *_), arms) in enumerate(families.items()):
        name = names[k] if names.count(names[k]) == 1 else arms[0].start
        usual, colour, mark = SIDES[ssl]
        same = [s for s, *_ in list(families)[:k]].count(ssl)
        if same:  # another of the same side
            colour, mark = OTHERS[(k - 1) % len(OTHERS)]
            mark = mark if k <= len(OTHERS) else _MORE_MARKERS[(k - 1) % len(OTHERS)]
        if [s for s, *_ in families].count(ssl) == 1:
            name = usual
        lines.append((name, arms, colour, mark))
    return lines


def _method(intervals: Iterable[Interval | PairedDifference]) -> str:
    """What the intervals are: 'interval over patients and trainings', or over patients alone."""
    crossed = {one.method == "crossed" for one in intervals if one.method != "none"}
    both = "interval over patients and trainings"
    alone = "bootstrap interval over patients alone, for these trainings only"
    if crossed == {True, False}:
        return f"{both} ({alone}, where they are too few)"
    return both if crossed == {True} else alone


def _ends(shown: Sequence[Comparison]) -> str:
    """What the marks and intervals of differences are; of too few patients alone the mark."""
    tested = [c.result for c in shown if not are_too_few(c.result)]
    if not tested:
        return "Open circle: mean difference over patients."
    return (
        f"Mean difference over patients with its 95 % {_method(tested)}, "
        "not corrected for the number of comparisons. Filled diamond: a difference was found "
        "after Holm's correction; open circle: none was."
    )


def _loss_name(loss: str, results: Results) -> str:
    return next(arm.loss_name for arm in results.arms if arm.loss == loss)


def _available(results: Results) -> tuple[Quantity, ...]:
    """3D Dice, or Dice by slice if there are no volumes; () without any tally."""
    for quantities in (PRIMARY, PRIMARY_BY_SLICE):
        if any(q.key in one.patient_scores for one in results.evaluated() for q in quantities):
            return quantities
    return ()


def _metric(quantities: Sequence[Quantity]) -> str:
    return "3D Dice" if quantities == PRIMARY else "slice Dice"


def _convention(quantities: Sequence[Quantity]) -> str:
    if quantities == PRIMARY:
        return "In 3D; a region in neither mask counts 1 (BraTS 2020)"
    return "Mean over the patient's slices that hold the region in either mask"


def _patient_means(results: Results, arm: Arm, quantity: Quantity) -> np.ndarray:
    values = patient_values(results.arms[arm], quantity.key)
    return np.array([float(np.mean(list(runs.values()))) for runs in values.values()])


def _repeat_means(results: Results, arm: Arm, quantity: Quantity) -> list[float]:
    means = [one.rows.get(quantity.key, (float("nan"), 0))[0] for one in results.arms[arm]]
    return [m for m in means if m == m]


def _spread(count: int, width: float) -> np.ndarray:
    """Offsets that spread points evenly, in a fixed order: the same drawing every time."""
    return (np.arange(count) * 0.618034 % 1 - 0.5) * 2 * width


def draw_box(axis: Axes, values: np.ndarray, x: float, colour: str) -> None:
    """Quartiles and median of values at `x`; whiskers at the 5th and the 95th percentile."""
    (statistics,) = boxplot_stats(values)
    # Interpolated: matplotlib's own whiskers end at a value, for few values within the box.
    low, high = np.percentile(values, (5, 95))
    axis.bxp(
        [{**statistics, "whislo": low, "whishi": high}],
        positions=[x],
        widths=0.3,
        showfliers=False,
        manage_ticks=False,
        medianprops={"color": "black", "lw": 1.3},
        boxprops={"color": colour},
        whiskerprops={"color": colour},
        capprops={"color": colour},
    )
