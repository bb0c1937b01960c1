"""The first stage beside predictions that need no network."""

from collections.abc import Sequence

from brats_jax.evaluation.yardsticks import REGRESSION, YARDSTICKS
from brats_jax.reporting import captions, yardsticks
from brats_jax.reporting.arms import EvaluatedStage, Key, Results
from brats_jax.reporting.averages import average
from brats_jax.reporting.comparisons import ALPHA
from brats_jax.reporting.tables.average_cells import average_cell
from brats_jax.reporting.tables.paired_cells import (
    holm_note,
    intervals_note,
    paired_cells,
    paired_columns,
)
from brats_jax.reporting.tables.paper_tables import PRETRAINING_METRICS, TUMOUR
from brats_jax.reporting.tables.table import (
    EMPTY,
    Column,
    Table,
    TableCell,
    make_table,
    number,
    text,
)
from brats_jax.runtime.text import joined


def yardstick_table(results: Results) -> Table | None:
    """MSE, PSNR and SSIM of every pretraining and of the yardsticks, by region.

    A yardstick that several pretrainings share has one row.
    """
    groups = list(results.pretrainings.items())
    measured = [one for _, group in groups for one in group]
    regressions = yardsticks.yardsticks_of(measured, REGRESSION)
    if not regressions:
        return None
    several = len(groups) > 1
    rows: list[list[TableCell]] = []
    for region, over in _places(measured):
        for variant, group in groups:
            regression = yardsticks.yardsticks_of(group, REGRESSION)
            name = variant if several and variant else "pretraining"
            rows.append(
                [text(region), text(over), text(name), *_cells(group, regression, region, over)]
            )
        for name in YARDSTICKS:
            # Yardsticks differ where their pretrainings train on other patients.
            found: dict[tuple[str, ...], tuple[list[str], list[TableCell]]] = {}
            for variant, group in groups:
                beside = yardsticks.yardsticks_of(group, name)
                regression = yardsticks.yardsticks_of(group, REGRESSION)
                if beside:
                    cells = _cells(beside, regression, region, over)
                    exact = tuple(cell.exact for cell in cells)
                    found.setdefault(exact, ([], cells))[0].append(variant)
            for variants, cells in found.values():
                words = f"{name}, beside {joined(variants)}" if len(found) > 1 else name
                rows.append([text(region), text(over), text(words), *cells])
    return make_table(
        "yardsticks",
        "",
        "Pretraining beside what needs no network",
        f"{yardsticks.regression_note(regressions)} Mean: one number, fitted likewise. Ratio: MSE "
        "divided by the regression’s; a pretraining at 1 or above has learned no more than "
        "single voxels tell. PSNR and SSIM (7 x 7 uniform window): range of each real slice. In "
        f"brackets: number of slices that hold the region. {captions.over(measured)}",
        [
            Column("Over", words=True),
            Column("Slices", words=True),
            Column("Predicted by", words=True),
            Column("MSE"),
            Column("Ratio"),
            Column("PSNR (dB)"),
            Column("SSIM"),
        ],
        rows,
    )


def comparison_table(comparisons: Sequence[yardsticks.YardstickComparison]) -> Table | None:
    """A row for each pretraining, yardstick and region: means, difference, interval and p."""
    several = len({one.pretraining for one in comparisons}) > 1
    rows = []
    for one in comparisons:
        rows.append(
            [
                *([text(one.pretraining)] if several else []),
                text(one.region),
                text(one.over),
                text(one.yardstick),
                *paired_cells(
                    one.result,
                    one.adjusted,
                    one.outcome,
                    strong=one.adjusted <= ALPHA,
                    digits=4,
                ),
            ]
        )
    return make_table(
        "against_yardsticks",
        "",
        "Pretraining minus what needs no network, by patient",
        "MSE, mean over patients of the mean over their slices. "
        f"{intervals_note(one.result for one in comparisons)}{holm_note(len(rows))}",
        [
            *([Column("Pretraining", words=True)] if several else []),
            Column("Over", words=True),
            Column("Slices", words=True),
            Column("Against", words=True),
            *paired_columns("pretraining", "against", "Mean MSE", "Difference"),
        ],
        rows,
    )


def _places(measured: Sequence[EvaluatedStage]) -> list[tuple[str, str]]:
    overs = [over for over in captions.slices_of_pretraining(measured) if over]
    return [*((of, over) for of in ("brain", "slice") for over in overs), ("tumour", TUMOUR)]


def _cells(
    group: Sequence[EvaluatedStage], regression: Sequence[EvaluatedStage], region: str, over: str
) -> list[TableCell]:
    """MSE, its ratio to the regression's, PSNR and SSIM."""
    keys: list[Key] = [
        ("slice", over, region, metric, rule) for metric, rule, _ in PRETRAINING_METRICS
    ]
    mse, *others = (
        average_cell(group, key, digits)
        for key, (_, _, digits) in zip(keys, PRETRAINING_METRICS, strict=True)
    )
    ratio = EMPTY
    if regression:
        ratio = number(average(group, keys[0]).mean / average(regression, keys[0]).mean, 2)
    return [mse, ratio, *others]
