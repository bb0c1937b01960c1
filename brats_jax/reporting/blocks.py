"""The blocks of a section: paragraphs, lists, preformatted text, tables and figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from brats_jax.reporting.figures.figure import Figure
from brats_jax.reporting.tables.table import Table

_FEW = 6  # sentences beside a table are shown, more are folded


@dataclass(frozen=True)
class Words:
    """A paragraph; `missing` marks one that names a missing table or figure."""

    text: str
    missing: bool = False
    kind: str = field(default="words", init=False)


@dataclass(frozen=True)
class Points:
    """A list with a heading; `role` is 'plain' (folded if long), 'open' or 'warnings'."""

    title: str
    items: tuple[str, ...]
    role: str = "plain"
    kind: str = field(default="points", init=False)


@dataclass(frozen=True)
class Code:
    """Preformatted text, folded at first."""

    title: str
    text: str
    kind: str = field(default="code", init=False)


Block = Words | Points | Code | Table | Figure


def in_words(title: str, sentences: Sequence[str]) -> Points:
    """Sentences beside a table that says the same; folded if there are many."""
    return Points(title, tuple(sentences), "open" if len(sentences) <= _FEW else "plain")


def if_any(block: Table | Figure | None) -> Iterator[Block]:
    """Yields the block, unless it is None."""
    if block is not None:
        yield block
