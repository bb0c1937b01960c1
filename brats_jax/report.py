"""Writes the report of a run, a grid, or a folder of runs.

    python -m brats_jax.report --workdir=RUN

RUN/report.html holds every table and figure of the paper beside what was measured, under every
convention and with statistics by patient; RUN/report/ the same tables as CSV, Markdown and
LaTeX. It needs no device and no network, and reports on what is there.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from brats_jax.errors import BratsError
from brats_jax.runtime.cli import fail, one_line_flags, tell

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run, a grid, or several runs.")


def _main(arguments: Sequence[str]) -> int:
    if len(arguments) > 1:
        return fail(f"unexpected argument '{arguments[1]}'; give --workdir=RUN")
    if _WORKDIR.value is None:
        return fail("give --workdir=RUN, the folder of a run, a grid, or several runs")
    # Small sums only: no accelerator is waited for, or taken from a training.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from brats_jax.reporting import page

    started = time.monotonic()
    try:
        path = page.write_report(Path(_WORKDIR.value))
    except BratsError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or _WORKDIR.value}: {error.strerror or error}")
    size = path.stat().st_size / 1e6
    tell(f"{path}: {size:.1f} MB, in {time.monotonic() - started:.1f} s")
    tell(f"{path.parent / 'report'}: the tables as CSV, Markdown and LaTeX, and the figures")
    return 0


def run_main() -> None:
    """The console entry point."""
    app.run(_main, flags_parser=one_line_flags)


if __name__ == "__main__":
    run_main()
