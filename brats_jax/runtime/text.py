"""Text for people: numbers in words, and names that cannot act on a terminal."""

import re
import unicodedata
from collections.abc import Sequence

# ASCII, and the wide forms of East Asian text.
_FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_NUMBERS = re.compile(r"[-+]?[\d.,]+( to [-+]?[\d.,]+)?")
_FOLDERS = re.compile(r"(?<![\w/.~:])~?/(?:[^\s/:;,'\"()]+/)+")
_NAMED = 5  # in one line
_LONGEST_WORD, _LONGEST_LINE = 600, 4000


def plural(count: int, one: str, many: str = "") -> str:
    """'1 fold', '5 folds', '1,200 folds'."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def joined(words: Sequence[str], last: str = "and") -> str:
    """'a, b and c'; '' of no word."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def abridged(names: Sequence[str]) -> str:
    """'A, B, C, D, E and 7 more'."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def duration(seconds: float) -> str:
    """'1:05' for 65 seconds, '2:03:04' for hours."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def printable(text: str) -> str:
    """A text that a terminal only shows: control characters are written as escapes.

    Escape sequences could move the cursor, change the title or answer to the shell; marks of the
    direction of writing could show a name in another order. Line ends and tabs stay.
    """
    return "".join(c if c in "\n\t" or not _is_control(c) else _escaped(c) for c in text)


def escaped_line(text: str) -> str:
    """`printable`, with line ends and tabs as escapes too: one line that keeps every letter."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def one_line(text: str) -> str:
    """`printable` on one line, with spaces for line ends; very long words and lines are cut."""
    words = re.sub(r"\s*[\n\t]\s*", " ", printable(text)).strip()
    words = re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda word: _shortened(word[0], 200), words)
    return _shortened(words, _LONGEST_LINE) if len(words) > _LONGEST_LINE else words


def csv_cell(text: str) -> str:
    """A text as a cell of a CSV file that no spreadsheet takes for a formula.

    Spreadsheets compute cells that begin with =, +, -, @ or white space; an apostrophe before it
    makes them text.
    """
    text = printable(text).replace("\n", "\\n")
    acts = text[:1] in _FORMULA_STARTS and not _NUMBERS.fullmatch(text)
    return f"'{text}" if text and acts else text


def without_folders(text: str) -> str:
    """A text whose absolute paths are cut to their last name: they tell of a machine."""
    return _FOLDERS.sub("", text)


def _shortened(text: str, length: int) -> str:
    return f"{text[: length // 2]}...{text[-length // 2 :]}"


def _is_control(character: str) -> bool:
    """Control characters, marks of direction, separators of lines, halves of characters."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
