"""The attribution table: what each pretext gains over each control."""

from collections.abc import Sequence

from brats_jax.reporting import captions
from brats_jax.reporting.attribution import Gain
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


def attribution_table(gains: Sequence[Gain], quantity: str) -> Table | None:
    """A row for each pretext, label budget and control.

    Args:
      gains: of `attribution.gains`.
      quantity: what is compared, in words.
    """
    rows = []
    for gain in gains:
        r, found = gain.result, gain.verdict in ("better", "worse")
        only = captions.these_only(r.trainings) if r.only_these_trainings else ""
        verdict = ", ".join(x for x in (gain.verdict, only) if x)
        rows.append(
            [
                text(gain.arm.loss_name),
                TableCell(gain.arm.labels, gain.arm.fraction),
                text(gain.pretext),
                text(gain.over),
                whole(r.n),
                whole(r.trainings),
                number(r.mean_b, 3),
                number(r.mean_a, 3),
                signed(r.mean_difference, 3),
                signed(r.low, 3),
                signed(r.high, 3),
                p_value(gain.adjusted, strong=found),
                text(verdict, strong=found),
            ]
        )
    columns = [
        Column("Loss", words=True),
        Column("Labels"),
        Column("Pretext", words=True),
        Column("Control", words=True),
        Column("n patients"),
        Column("Trainings"),
        Column("control", "Mean"),
        Column("pretext", "Mean"),
        Column("mean", "Gain"),
        Column("low", "Gain"),
        Column("high", "Gain"),
        Column("p (Holm)"),
        Column("Found", words=True),
    ]
    return make_table(
        "attribution",
        "",
        "Gain of each pretext over each control",
        f"{quantity}. Controls: nothing, random initialisation; ImageNet, an encoder of a weight "
        "file; autoencode, a pretraining whose target is its input; shuffled, one whose target is "
        "of another patient; each with the same loss and label budget, and the pretrainings with "
        "the same decoder, transfer and unlabelled share. Intervals of 95 % over patients and "
        "trainings, or over patients alone for these trainings only, where the table says so. "
        f"Holm’s correction over these {len(rows)}.",
        columns,
        rows,
    )
