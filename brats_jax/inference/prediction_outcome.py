"""The results of a prediction by case, and the lines about them; without JAX."""

import os
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from brats_jax.runtime import failures
from brats_jax.runtime.console import print_notice
from brats_jax.runtime.text import abridged, one_line


@dataclass
class Outcome:
    """The results of a prediction, by case.

    Attributes:
      written: the main file.
      kept: the reason why a case was skipped.
      failed: the error, in one line.
      doubtful: written cases whose files contradict each other by their names.
    """

    written: dict[str, Path] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    doubtful: list[str] = field(default_factory=list)

    def fail(self, case: str, error: Exception, directory: Path) -> None:
        """Records and prints the error of a case; `directory` is that of its results."""
        self.failed[case] = failures.describe(error, directory)
        if not failures.is_expected(error) and os.environ.get(failures.TRACEBACK):
            traceback.print_exception(error)
        print_notice(f"error: case {case}: {one_line(self.failed[case])}")

    def summary(self) -> str:
        """'2 written (1 with a WARNING: CASE), 0 kept, 1 failed: CASE'."""
        failed = f": {abridged([*self.failed])}" if self.failed else ""
        doubtful = ""
        if self.doubtful:
            doubtful = f" ({len(self.doubtful)} with a WARNING: {abridged(self.doubtful)})"
        return (
            f"{len(self.written)} written{doubtful}, {len(self.kept)} kept, "
            f"{len(self.failed)} failed{failed}"
        )
