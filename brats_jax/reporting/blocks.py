"""What a report is made of, in order: paragraphs, lists, folded text, tables and figures."""

from dataclasses import dataclass, field

from brats_jax.reporting.figures.figure import Figure
from brats_jax.reporting.tables.table import Table


@dataclass(frozen=True)
class Words:
    """A paragraph; `missing` ones say what is not there."""

    text: str
    missing: bool = False
    kind: str = field(default="words", init=False)


@dataclass(frozen=True)
class Points:
    """A list, with a head; `role` is 'plain' or 'warnings'."""

    title: str
    items: tuple[str, ...]
    role: str = "plain"
    kind: str = field(default="points", init=False)


@dataclass(frozen=True)
class Code:
    """Text as it is, folded away."""

    title: str
    text: str
    kind: str = field(default="code", init=False)


Block = Words | Points | Code | Table | Figure


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    blocks: tuple[Block, ...]
