"""Fits the temperature of every fold's segmentation on that fold's validation set.

    python -m brats_jax.calibrate --checkpoint=RUN[/fold_K] [--store=STORE]

Writes fold_K/calibration.json, with the expected calibration error before and after on the
validation set, where it was fitted, and on the test set, where it was not.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging

from brats_jax.errors import BratsError
from brats_jax.runtime.cli import fail, one_line_flags

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "RUN (all folds) or RUN/fold_K.")
_STORE = flags.DEFINE_string("store", None, "The store it was trained on, if that has moved.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Slices at a time.", lower_bound=1)


def main(arguments: Sequence[str]) -> int:
    if arguments[1:]:
        return fail(f"'{arguments[1]}' is not understood: give options as --name=value")
    if _CHECKPOINT.value is None:
        return fail("--checkpoint is missing: give a run folder, or RUN/fold_K")
    # Orbax and JAX tell every checkpoint they read.
    logging.set_verbosity(logging.ERROR)
    try:
        _run(Path(_CHECKPOINT.value))
    except BratsError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        print("stopped: the same command begins anew", file=sys.stderr)
        return 130
    return 0


def _run(path: Path) -> None:
    # Imported here: a misspelt flag should not have to wait for the libraries.
    from brats_jax.evaluation.calibration import calibrate
    from brats_jax.inference.trained_run import CALIBRATION_FILE, open_run
    from brats_jax.runtime import devices
    from brats_jax.runtime.console import print_line

    devices.use_compilation_cache("auto")
    trained = open_run(path, "segment", devices.data_mesh())
    for note in trained.notes:
        print_line(f"note: {note}")
    for line in calibrate(trained, _STORE.value, _BATCH_SIZE.value):
        print_line(line)
    print_line(f"written to {trained.run}/fold_K/{CALIBRATION_FILE}; use with predict --calibrated")


if __name__ == "__main__":
    app.run(main, flags_parser=one_line_flags)
