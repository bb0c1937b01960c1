"""Text for people: numbers in words, and names that cannot act on a terminal."""

import re
import unicodedata

_LONGEST_WORD, _LONGEST_LINE = 600, 4000


def plural(count: int, one: str, many: str = "") -> str:
    """'1 fold', '5 folds', '1,200 folds'."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


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
    return "".join(c if c in "\n\t" or not _acts(c) else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """The same on one line, without words and lines of thousands of letters."""
    words = re.sub(r"\s*[\n\t]\s*", " ", printable(text)).strip()
    words = re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda word: _shortened(word[0], 200), words)
    return _shortened(words, _LONGEST_LINE) if len(words) > _LONGEST_LINE else words


def _shortened(text: str, length: int) -> str:
    return f"{text[: length // 2]}...{text[-length // 2 :]}"


def _acts(character: str) -> bool:
    """Control characters, marks of direction, separators of lines, halves of characters."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
