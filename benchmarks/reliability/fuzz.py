"""Damaged and edited files for every reader, and odd flags for every command.

    python benchmarks/reliability/fuzz.py    # 10,000 mutations, 200 command lines
    python benchmarks/reliability/fuzz.py --mutations=500 --reader=NIfTI
    python benchmarks/reliability/fuzz.py --mutations=0 --commands=200

A mutation is damage (bits, bytes, cuts) or an edit (a value of JSON, a cell of a table, an array,
a field of a header). A reader must return what it returned before, or refuse with one line
(BratsError). Counted besides are other exceptions ("tracebacks"), refusals of several lines,
values that changed without a word although a checksum or a rule of the format could tell
("changed"), and other valid values, which no reader can tell from data ("valid"). Commands must
end with one line and keep every file. The memory of the process is limited. Prints a table;
exits with 1 if anything failed. The same seed gives the same mutations.
"""

import argparse
import collections
import dataclasses
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.reliability import fuzz_commands, mutations  # noqa: E402
from benchmarks.reliability.fuzz_readers import Reader, fingerprint, make_readers  # noqa: E402
from brats_jax.errors import BratsError  # noqa: E402

MEMORY_GB = 6.0  # of address space above what is in use at the start
SECONDS = 60  # of one mutation


@dataclasses.dataclass
class Count:
    """Outcomes of one reader.

    Attributes:
      same, refused, valid: as they should be.
      changed, tracebacks, lines: failures.
      slowest: seconds.
      failures: kind -> an example.
    """

    same: int = 0
    refused: int = 0
    valid: int = 0
    changed: int = 0
    tracebacks: int = 0
    lines: int = 0
    slowest: float = 0.0
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def failed(self) -> int:
        return self.changed + self.tracebacks + self.lines


class Slow(Exception):
    """A mutation took too long."""


def fuzz(
    readers: list[Reader], count: int, seed: int, keep: Path | None = None
) -> dict[str, Count]:
    """Tries `count` mutations, divided equally among the readers; restores every file."""
    counts: dict[str, Count] = {}
    for number, reader in enumerate(readers):
        rng = np.random.default_rng([seed, number])
        result = counts.setdefault(reader.name, Count())
        expected = fingerprint(reader.read())
        for k in range(count // len(readers) + (number < count % len(readers))):
            path = reader.files[rng.integers(0, len(reader.files))]
            data = path.read_bytes()
            try:
                mutated, edited = mutations.mutate(path, data, rng, reader.kind)
            except (ValueError, KeyError, IndexError, OSError):  # nothing in it to edit
                mutated, edited = mutations.damage(data, rng), False
            path.write_bytes(mutated)
            try:
                outcome = _try(reader, result, expected, edited)
                if keep is not None and outcome:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{number}-{k}-{path.name}").write_bytes(mutated)
            finally:
                path.write_bytes(data)
    return counts


def _try(reader: Reader, result: Count, expected: Any, edited: bool) -> str:
    """Reads once; returns a failure in words."""
    started = time.monotonic()
    signal.alarm(SECONDS)
    try:
        found = fingerprint(reader.read())
    except BratsError as error:
        if "\n" in str(error) or not str(error):
            result.lines += 1
            return _note(result, "several lines", repr(str(error)))
        result.refused += 1
        return ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        result.tracebacks += 1
        step = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} at {Path(step.filename).name}:{step.lineno}"
        return _note(result, kind, str(error)[:200])
    finally:
        signal.alarm(0)
        result.slowest = max(result.slowest, time.monotonic() - started)
    if found == expected:
        result.same += 1
    elif reader.guarded and not edited:
        result.changed += 1
        return _note(result, "changed without a word", _difference(expected, found))
    else:
        result.valid += 1
    return ""


def _note(result: Count, kind: str, example: str) -> str:
    result.failures.setdefault(kind, example)
    return kind


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return next((f"[{i}]{_difference(a, b)}" for i, (a, b) in pairs if a != b), "")
    return f": {str(before)[:60]} -> {str(now)[:60]}"


def _alarm(number: int, frame: Any) -> None:
    raise Slow(f"more than {SECONDS} s")


def limit_memory() -> None:
    """Limits the address space, so that a file that asks for more raises MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = int(pages * resource.getpagesize() + MEMORY_GB * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def table(counts: dict[str, Count]) -> str:
    """The outcomes as a Markdown table."""
    head = ("same", "refused", "valid", "changed", "tracebacks", "lines")
    rows = [f"| {'reader':32} | {' | '.join(head)} | slowest |", "|---|" + "--:|" * 7]
    total: collections.Counter[str] = collections.Counter()
    for name, count in counts.items():
        numbers = {key: getattr(count, key) for key in head}
        total.update(numbers)
        cells = " | ".join(str(n) for n in numbers.values())
        rows.append(f"| {name:32} | {cells} | {count.slowest:.1f} s |")
    rows.append(f"| {'all':32} | {' | '.join(str(total[key]) for key in head)} | |")
    return "\n".join(rows)


def main() -> int:
    """Runs the fuzzer; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--commands", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", default="", help="only those with this in their name")
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _alarm)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        if options.mutations:
            readers = make_readers(Path(folder))
            readers = [reader for reader in readers if options.reader in reader.name]
            limit_memory()
            counts = fuzz(readers, options.mutations, options.seed, options.keep)
            print(table(counts))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"\npeak memory {peak:.2f} GB; seed {options.seed}")
            for name, count in counts.items():
                for kind, example in count.failures.items():
                    print(f"FAILED {name}: {kind}: {example}")
                failed += count.failed
        if options.commands:
            failed += fuzz_commands.fuzz(options.commands, options.seed)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
