"""The first stage beside predictions that need no network."""

from collections.abc import Sequence

from brats_jax.reporting import captions, yardsticks
from brats_jax.reporting.arms import Key, Measured, Results
from brats_jax.reporting.averages import average
from brats_jax.reporting.tables.average_cells import average_cell
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


def yardstick_table(results: Results) -> Table | None:
    """MSE, PSNR and SSIM of every pretraining and of the yardsticks, by region.

    A yardstick that several pretrainings share has one row.
    """
    groups = list(results.pretrainings.items())
    measured = [one for _, group in groups for one in group]
    regressions = yardsticks.of(measured, yardsticks.REGRESSION)
    if not regressions:
        return None
    several = len(groups) > 1
    rows: list[list[TableCell]] = []
    for region, over in _places(measured):
        shown: set[tuple[str, ...]] = set()
        for variant, group in groups:
            regression = yardsticks.of(group, yardsticks.REGRESSION)
            name = variant if several and variant else "pretraining"
            rows.append(
                [text(region), text(over), text(name), *_cells(group, regression, region, over)]
            )
        for name in yardsticks.YARDSTICKS:
            for _, group in groups:
                beside = yardsticks.of(group, name)
                regression = yardsticks.of(group, yardsticks.REGRESSION)
                cells = _cells(beside, regression, region, over)
                words = (name, *(cell.exact for cell in cells))
                if beside and words not in shown:
                    shown.add(words)
                    rows.append([text(region), text(over), text(name), *cells])
    return make_table(
        "yardsticks",
        "",
        "Pretraining beside what needs no network",
        f"{yardsticks.needs_no_network(regressions)} Mean: one number, fitted likewise. Ratio: MSE "
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


def _places(measured: Sequence[Measured]) -> list[tuple[str, str]]:
    overs = [over for over in captions.slices_of_pretraining(measured) if over]
    return [*((of, over) for of in ("brain", "slice") for over in overs), ("tumour", TUMOUR)]


def _cells(
    group: Sequence[Measured], regression: Sequence[Measured], region: str, over: str
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
