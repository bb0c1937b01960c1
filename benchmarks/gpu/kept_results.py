"""The file in which gpu.py keeps its results between runs: one JSON object per line and part.

A line has the name of the part, whether it ran at small size, its results (each with machine and
version), its problem or '', and the date.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu.targets import Results


class Joined(NamedTuple):
    """The results of several runs.

    Attributes:
      results: results by name, for each part of its newest line without a problem, else of its
        newest line.
      problems: problems by part.
      notes: sentences on results that are left out or have another version.
      where: machine and version of the newest results; '' if there are none.
    """

    results: Results
    problems: dict[str, str]
    notes: list[str]
    where: str


def add(path: Path, part: str, small: bool, results: Results, problem: str) -> None:
    """Appends a line. A line that a kill left incomplete is ended first."""
    date = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    line = {"part": part, "small": small, "date": date, "problem": problem, "results": results}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            file.write(b"" if file.read() == b"\n" else b"\n")
        file.write(json.dumps(line).encode() + b"\n")


def _lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """(readable lines, number of unreadable lines)."""
    found, unreadable = [], 0
    for text in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
            line["part"], line["small"], line["problem"], line["results"]
        except (ValueError, KeyError, TypeError):
            unreadable += 1
        else:
            found.append(line)
    return found, unreadable


def _origin(line: dict[str, Any], field: str) -> str:
    """The machine or the version of a line's results."""
    return str(next(iter(line["results"].values())).get(field, "unknown"))


def joined(path: Path, small: bool) -> Joined:
    """Joins the parts of one size that ran on the machine of the newest results."""
    lines, unreadable = _lines(path)
    notes = [f"{path}: {unreadable} lines could not be read"] if unreadable else []
    measured = [line for line in lines if line["results"]]
    same_size = [line for line in measured if line["small"] == small]
    machine, version = (
        _origin(same_size[-1], field) if same_size else "" for field in ("machine", "version")
    )
    taken: dict[str, dict[str, Any]] = {}
    for line in same_size:
        before = taken.get(line["part"])
        # A run with a problem does not replace one without.
        worse = line["problem"] and before is not None and not before["problem"]
        if _origin(line, "machine") == machine and not worse:
            taken[line["part"]] = line
    parts_by_note: dict[str, set[str]] = {}
    for line in measured:
        if line["part"] not in taken:
            size = "full" if small else "small"
            why = f"on another machine ({_origin(line, 'machine')})"
            why = f"at {size} size" if line["small"] != small else why
            parts_by_note.setdefault(f"left out, measured {why}", set()).add(line["part"])
    for part, line in taken.items():
        if _origin(line, "version") != version:
            note = f"measured with another version ({_origin(line, 'version')})"
            parts_by_note.setdefault(note, set()).add(part)
    notes += [f"{note}: {', '.join(sorted(parts))}" for note, parts in parts_by_note.items()]
    problems = {}
    for line in lines:
        if line["small"] == small:
            shown = taken.get(line["part"])
            earlier = "; the table shows an earlier run" if shown not in (None, line) else ""
            problems[line["part"]] = line["problem"] + earlier if line["problem"] else ""
    return Joined(
        {name: record for line in taken.values() for name, record in line["results"].items()},
        {part: problem for part, problem in problems.items() if problem},
        notes,
        f"{machine}; {version}" if same_size else "",
    )
