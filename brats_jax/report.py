"""Writes the report of a run, a grid, or a folder of runs.

    python -m brats_jax.report --workdir=RUN

RUN/report.html holds every table and figure of the paper beside the measured numbers, under every
convention and with statistics by patient. RUN/report/ holds the tables as CSV, Markdown and LaTeX,
and the figures. Needs no accelerator and no network; reports on everything that is finished.
"""

import os
import time
from pathlib import Path

from brats_jax.errors import BratsError
from brats_jax.runs.folder import ReportFolder
from brats_jax.runtime import cli, flag_types
from brats_jax.runtime.console import print_line

_WORKDIR = flag_types.define_path("workdir", "Folder of a run, a grid, or several runs.")


def _main() -> None:
    if _WORKDIR.value is None:
        raise BratsError("give --workdir=RUN, the folder of a run, a grid, or several runs")
    # Small sums only: do not wait for an accelerator, or take it from a training.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from brats_jax.reporting import page

    started = time.monotonic()
    path, kept = page.write_report(Path(_WORKDIR.value))
    if path.name in kept:
        print_line(f"{path}: kept, it is not the page of this report")
    else:
        size = path.stat().st_size / 1e6
        print_line(f"{path}: {size:.1f} MB, in {time.monotonic() - started:.1f} s")
    tables = ReportFolder(Path(_WORKDIR.value)).tables
    print_line(f"{tables}: the tables as CSV, Markdown and LaTeX, and the figures")


def run_main() -> None:
    """Runs the command."""
    cli.run(_main, folder=lambda: _WORKDIR.value, after_stop="the same command starts again")


if __name__ == "__main__":
    run_main()
