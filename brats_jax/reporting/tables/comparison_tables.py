"""SSL minus baseline as a table: means, differences, intervals and p values."""

from collections.abc import Sequence

from brats_jax.reporting.comparison_sentences import runs_left_out
from brats_jax.reporting.comparisons import Comparison
from brats_jax.reporting.tables.paired_cells import interval_cells
from brats_jax.reporting.tables.table import (
    Column,
    Table,
    TableCell,
    make_table,
    number,
    p_value,
    signed,
    text,
    whole,
)


def comparison_table(
    comparisons: Sequence[Comparison], name: str, title: str, caption: str, detail: bool
) -> Table | None:
    """A row for each comparison."""
    rows = []
    for c in comparisons:
        r, digits = c.result, c.quantity.digits
        better, worse = r.larger, r.smaller
        if not c.quantity.larger_is_better:
            better, worse = worse, better
        rows.append(
            [
                text(c.ssl.loss_name),
                text(c.quantity.name + (f" ({c.quantity.unit})" if c.quantity.unit else "")),
                whole(r.n),
                whole(c.patients),
                text(_trainings(c)),
                number(r.mean_b, digits),
                number(r.mean_a, digits),
                signed(r.mean_difference, digits),
                *interval_cells(r, digits),
                p_value(c.adjusted, strong=c.found),
                text(c.verdict, strong=c.found),
                whole(better),
                whole(worse),
                number(r.dz, 2),
                number(r.rank_biserial, 2),
                *_absence_cells(c),
                p_value(r.p_crossed),
                p_value(r.p_permutation),
                p_value(r.p_wilcoxon),
            ]
        )
    columns = [
        Column("Loss", words=True),
        Column("Quantity", words=True),
        Column("n patients"),
        Column("of patients"),
        Column("Trainings", words=True),
        Column("baseline", "Mean"),
        Column("SSL", "Mean"),
        Column("mean", "SSL minus baseline"),
        Column("low", "SSL minus baseline"),
        Column("high", "SSL minus baseline"),
        Column("p (Holm)"),
        Column("Found", words=True),
        Column("better", "Patients with SSL"),
        Column("worse", "Patients with SSL"),
        Column("dz", "Effect size"),
        Column("rank biserial", "Effect size"),
        *(Column(x, "Missed by") for x in ("baseline", "SSL")),
        *(Column(x, "Invented by") for x in ("baseline", "SSL")),
        Column("patients and trainings", "p, uncorrected"),
        Column("sign flip", "p, uncorrected"),
        Column("Wilcoxon", "p, uncorrected"),
    ]
    if not any(c.absences for c in comparisons):
        first = next(k for k, column in enumerate(columns) if column.group == "Missed by")
        columns = [*columns[:first], *columns[first + 4 :]]
        rows = [[*row[:first], *row[first + 4 :]] for row in rows]
    if len({c.ssl.settings for c in comparisons}) > 1:
        columns.insert(1, Column("SSL with", words=True))
        for row, c in zip(rows, comparisons, strict=True):
            row.insert(1, text(c.ssl.settings))
    if len({c.ssl.fraction for c in comparisons}) > 1:
        columns.insert(1, Column("Labels"))
        for row, c in zip(rows, comparisons, strict=True):
            row.insert(1, TableCell(c.ssl.labels, c.ssl.fraction))
    return make_table(name, "", title, caption, columns, rows, detail)


def _absence_cells(comparison: Comparison) -> list[TableCell]:
    """Missed and invented by baseline and SSL: '3 of 20'; empty for numbers without distances."""
    if comparison.absences is None:
        return [TableCell("")] * 4
    ssl, baseline = comparison.absences
    return [
        *(text(f"{x.missed:,} of {x.of_missed:,}") for x in (baseline, ssl)),
        *(text(f"{x.invented:,} of {x.of_invented:,}") for x in (baseline, ssl)),
    ]


def _trainings(comparison: Comparison) -> str:
    """'5', '4 of 5; left out without both values: fold 2 in 3 patients'."""
    r = comparison.result
    count = (
        str(r.trainings)
        if r.trainings == r.of_trainings
        else (f"{r.trainings} of {r.of_trainings}")
    )
    return "; ".join(x for x in (count, runs_left_out(r)) if x)
