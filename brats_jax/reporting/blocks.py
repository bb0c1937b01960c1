"""The parts of a section that are no tables and no figures: words, lists and text."""

from dataclasses import dataclass, field


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
