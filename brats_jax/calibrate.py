"""Fits temperatures, or the sizes of the cleaning, of a model on held-out patients.

    python -m brats_jax.calibrate --checkpoint=RUN[/fold_K] [--store=STORE]

fits the temperature of every fold on that fold's validation set. Writes fold_K/calibration.json
with the expected calibration error before and after, on the validation set and on the test set.

    python -m brats_jax.calibrate --checkpoint=RUN --cleaning [--planes=all] [--tta] [--store=STORE]

fits the sizes below which components are removed and ET is relabelled, on patients that the folds
were not trained on. Writes RUN/cleaning.json, which `predict` and `brats_jax.load` use. With
--planes or --tta it fits them to this average, and writes a file of its own, such as
RUN/cleaning_axial_flips.json: `predict` uses it with the same flags.
"""

from pathlib import Path

from absl import flags

from brats_jax.errors import BratsError
from brats_jax.inference import model_paths
from brats_jax.runs.folder import RunFolder, locate_fold
from brats_jax.runtime import cli, flag_types
from brats_jax.runtime.console import print_line

_CHECKPOINT = flag_types.define_path("checkpoint", "RUN (all folds) or RUN/fold_K.")
_STORE = flag_types.define_path("store", "The store of the training, if its path has changed.")
_CLEANING = flags.DEFINE_bool(
    "cleaning", False, "Fit the sizes of the cleaning of labels instead, on held-out patients."
)
_PLANES = flags.DEFINE_list(
    "planes",
    None,
    "With --cleaning: fit to averages over slices of these planes, as predict --planes (default: "
    "config.evaluation.planes of the run).",
)
_TTA = flags.DEFINE_bool(
    "tta",
    None,
    "With --cleaning: fit to averages over flips (default: config.evaluation.tta of the run).",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    16,
    "Slices at a time.",
    lower_bound=1,
    upper_bound=flag_types.MOST_SLICES_AT_ONCE,
)


def _main() -> None:
    if _CHECKPOINT.value is None:
        raise BratsError("--checkpoint is missing: give a run folder, or RUN/fold_K")
    for flag in (_PLANES, _TTA):
        if flag.value is not None and not _CLEANING.value:
            raise BratsError(
                f"--{flag.name} has no effect without --cleaning: temperatures are fitted to "
                "single predictions"
            )
    located = locate_fold(Path(_CHECKPOINT.value))
    if _CLEANING.value and located is not None and located[1] is not None:
        raise BratsError(
            f"--checkpoint={_CHECKPOINT.value} is one fold; the sizes of the cleaning are fitted "
            f"over all folds of a run: give --checkpoint={located[0].path}"
        )
    model_paths.check_exists(_CHECKPOINT.value)
    # Imported here, so that a misspelt flag is reported at once.
    from brats_jax.evaluation.calibration import calibrate
    from brats_jax.evaluation.cleaning_fit import fit_cleaning
    from brats_jax.inference.open_by_name import open_model
    from brats_jax.runtime import devices

    devices.use_compilation_cache("auto")
    trained = open_model(_CHECKPOINT.value, "segment", devices.data_mesh())
    for note in trained.notes:
        print_line(f"note: {note}")
    given = (trained, _STORE.value, _BATCH_SIZE.value)
    if _CLEANING.value:
        for line in fit_cleaning(*given, planes=_PLANES.value, tta=_TTA.value):
            print_line(line)
        return
    for line in calibrate(*given):
        print_line(line)
    written = RunFolder(trained.run).fold(trained.members[0].fold).calibration_json
    name = f"{trained.run}/fold_K/{written.name}" if len(trained.members) > 1 else written
    print_line(f"written to {name}; use with predict --calibrated")


def run_main() -> None:
    """Runs the command."""
    cli.run(_main, folder=lambda: _CHECKPOINT.value, after_stop="the same command starts again")


if __name__ == "__main__":
    run_main()
