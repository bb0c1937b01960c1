"""What gpu.py measured, kept from call to call: a file with one JSON object a line, each a part's.

A line has the part's name, whether it was at small size, its results (each with the machine and the
version that it is of), what went wrong or '', and the date.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu.targets import Results


class Joined(NamedTuple):
    """The parts of several calls together.

    Attributes:
      results: by name, of the newest line of each part that went well, else of the newest.
      problems: what went wrong, by part.
      notes: what was left out or is of another version, in words.
      where: machine and version of the newest results; '' without any.
    """

    results: Results
    problems: dict[str, str]
    notes: list[str]
    where: str


def add(path: Path, part: str, small: bool, results: Results, problem: str) -> None:
    """Appends a line; one that a kill left unfinished stays by itself."""
    date = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    line = {"part": part, "small": small, "date": date, "problem": problem, "results": results}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            file.write(b"" if file.read() == b"\n" else b"\n")
        file.write(json.dumps(line).encode() + b"\n")


def _lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """(those that can be read, the number of the others)."""
    found, others = [], 0
    for text in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
            line["part"], line["small"], line["problem"], line["results"]
        except (ValueError, KeyError, TypeError):
            others += 1
        else:
            found.append(line)
    return found, others


def _of(line: dict[str, Any], field: str) -> str:
    """The machine or the version of its results."""
    return str(next(iter(line["results"].values())).get(field, "an unknown one"))


def joined(path: Path, small: bool) -> Joined:
    """The file's parts of one size, all on the machine of the newest results."""
    lines, unread = _lines(path)
    notes = [f"{path}: {unread} lines could not be read"] if unread else []
    measured = [line for line in lines if line["results"]]
    here = [line for line in measured if line["small"] == small]
    machine, version = (_of(here[-1], f) if here else "" for f in ("machine", "version"))
    taken: dict[str, dict[str, Any]] = {}
    for line in here:
        before = taken.get(line["part"])
        # What was stopped halfway does not replace what was not.
        worse = line["problem"] and before is not None and not before["problem"]
        if _of(line, "machine") == machine and not worse:
            taken[line["part"]] = line
    elsewhere: dict[str, set[str]] = {}
    for line in measured:
        if line["part"] not in taken:
            size = "full" if small else "small"
            why = f"on another machine ({_of(line, 'machine')})"
            why = f"at {size} size" if line["small"] != small else why
            elsewhere.setdefault(f"left out, measured {why}", set()).add(line["part"])
    for part, line in taken.items():
        if _of(line, "version") != version:
            its = f"measured with another version ({_of(line, 'version')})"
            elsewhere.setdefault(its, set()).add(part)
    notes += [f"{why}: {', '.join(sorted(parts))}" for why, parts in elsewhere.items()]
    problems = {}
    for line in lines:
        if line["small"] == small:
            shown = taken.get(line["part"])
            kept = "; shown is what an earlier call measured" if shown not in (None, line) else ""
            problems[line["part"]] = line["problem"] + kept if line["problem"] else ""
    return Joined(
        {name: record for line in taken.values() for name, record in line["results"].items()},
        {part: problem for part, problem in problems.items() if problem},
        notes,
        f"{machine}; {version}" if here else "",
    )
