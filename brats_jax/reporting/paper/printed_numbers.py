"""The paper's printed numbers as records: quantity, value and place of each."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from brats_jax.reporting.paper.printed_tables import CLASSES, FOREGROUND, SSL, TABLES, PrintedTable

Meaning = tuple[str, str, str, bool | None, int | None]


class Number(NamedTuple):
    """One printed number with its quantity and its place.

    `row` and `column` count from 0 in `TABLES[table]`. `metric` is dice, asd_mm, mse,
    psnr_db or ssim; `of` a class, 'mean foreground' (classes 1 to 3), or '' for the
    reconstruction, where `loss` is '' and `ssl` None too. `fold` counts from 1 as the
    paper does; None is the mean over the five.
    """

    table: str
    row: int
    column: int
    printed: str
    metric: str
    of: str
    loss: str
    ssl: bool | None
    fold: int | None

    @property
    def meaning(self) -> Meaning:
        """The quantity measured; equal for all printings of one quantity."""
        return self.metric, self.of, self.loss, self.ssl, self.fold

    @property
    def value(self) -> Decimal:
        """The number, exactly as printed."""
        return Decimal(self.printed)


def printed_numbers(tables: Mapping[str, PrintedTable] = TABLES) -> Iterator[Number]:
    """Yields every printed number with its meaning, table by table, row by row.

    Table 2 holds names only and yields nothing.
    """
    for name, table in tables.items():
        for i, row in enumerate(table.rows):
            for j, (head, cell) in enumerate(zip(table.columns, row, strict=True)):
                meaning = _meaning(name, table.caption, row, j, head)
                if cell and meaning is not None:
                    yield Number(name, i, j, cell, *meaning)


def _meaning(
    table: str, caption: str, row: tuple[str, ...], column: int, head: str
) -> Meaning | None:
    """The quantity of a cell, from its row and its column's head; None if it is no number."""
    first = {"1": 1, "3": 1, "4": 1, "5": 1, "6": 2, "A1": 1, "A2": 2, "A3": 2, "A4": 2, "text": 2}
    if column < first.get(table, len(row)):
        return None
    ssl = head == SSL
    if table == "1":
        return *_metric(row[0]), "", None, None
    if table == "A1":
        return *_metric(head), "", None, int(row[0])
    if table == "6":
        return *_metric(head), _loss(row[0]), "No SSL" not in row[1], None
    if table == "text":
        metric, of = _metric(row[1].split(",")[0].replace(" (mm)", ""))
        fold = row[1].partition("fold ")[2]
        loss_of = (_loss(row[1]), ssl) if of else ("", None)
        return metric, of, *loss_of, int(fold) if fold else None
    loss = _loss(caption.rpartition("using ")[2])
    if table in ("3", "4", "5"):
        return *_metric(row[0]), loss, ssl, None
    return *_metric(head), loss, row[0] == SSL, int(row[1])


def _metric(head: str) -> tuple[str, str]:
    """('asd_mm', 'ED') of 'ASD Class 2 ...'; ('psnr_db', '') of 'PSNR (dB)'."""
    if "Mean Dice" in head or "Average Dice" in head:
        return "dice", FOREGROUND
    if "Class" in head:
        of = CLASSES[int(head.partition("Class ")[2][0])]
        return ("asd_mm" if head.startswith("ASD") else "dice"), of
    return {"MSE": "mse", "PSNR (dB)": "psnr_db", "SSIM": "ssim"}[head], ""


def _loss(text: str) -> str:
    """The loss named by a method or by the end of a caption."""
    text = text.replace(" ", "")
    if "Dice+C" in text:
        return "dice_ce"
    return "dice_focal" if "Dice+Focal" in text else "focal"
