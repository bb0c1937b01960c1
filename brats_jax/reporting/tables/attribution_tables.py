"""The attribution table: what each pretext gains over each control."""

from collections.abc import Sequence

from brats_jax.reporting.attribution import Gain
from brats_jax.reporting.tables.paired_cells import (
    holm_note,
    intervals_note,
    paired_cells,
    paired_columns,
)
from brats_jax.reporting.tables.table import Column, Table, TableCell, make_table, text


def attribution_table(gains: Sequence[Gain], quantity: str) -> Table | None:
    """A row for each pretext, label budget and control.

    Args:
      gains: of `attribution.gains`.
      quantity: what is compared, in words.
    """
    rows = []
    for gain in gains:
        rows.append(
            [
                text(gain.arm.loss_name),
                TableCell(gain.arm.labels, gain.arm.fraction),
                text(gain.pretext),
                text(gain.over),
                *paired_cells(
                    gain.result,
                    gain.adjusted,
                    gain.verdict,
                    strong=gain.verdict in ("better", "worse"),
                    digits=3,
                ),
            ]
        )
    columns = [
        Column("Loss", words=True),
        Column("Labels"),
        Column("Pretext", words=True),
        Column("Control", words=True),
        *paired_columns("pretext", "control", "Mean", "Gain"),
    ]
    return make_table(
        "attribution",
        "",
        "Gain of each pretext over each control",
        f"{quantity}. Controls: nothing, random initialisation; ImageNet, an encoder of a weight "
        "file; autoencode, a pretraining whose target is its input; shuffled, one whose target is "
        "of another patient; each with the same loss and label budget, and the pretrainings with "
        "the same decoder, transfer and unlabelled share. "
        f"{intervals_note(gain.result for gain in gains)}{holm_note(len(rows))}",
        columns,
        rows,
    )
