"""Trains the paper's experiments: every loss, with and without pretraining, all folds.

    python -m brats_jax.grid --config=configs/ssl.py --workdir=GRID [--config.data.store=STORE]
    python -m brats_jax.grid --workdir=GRID --status

STORE defaults to $BRATS_JAX_STORE or stores/default. The same command continues a stopped grid,
skips what is complete and repeats what failed. Several commands may run on one grid at once, on
one machine or many; --shard=i/n divides the cells (trainings of single folds) in advance.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from brats_jax.errors import BratsError
from brats_jax.runs.default_paths import check_stores, fill_store, note_on_store
from brats_jax.runtime import cli, flag_types
from brats_jax.runtime.console import print_line, print_lines

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Settings, e.g. configs/ssl.py; --config.NAME=VALUE changes one."
)
_WORKDIR = flag_types.define_path("workdir", "The grid's folder, with all its runs.")
_LOSSES = flags.DEFINE_list("losses", "dice_ce,dice_focal,focal", "Losses of the segmentation.")
_SSL = flags.DEFINE_list("ssl", "false,true", "Without pretraining, with it, or both.")
_FRACTIONS = flags.DEFINE_list(
    "label_fractions", "1", "Fractions of the training patients with labels: 0.01 or 1%."
)
_PATIENTS = flags.DEFINE_list(
    "label_patients", "", "Numbers of training patients with labels, and 'all': 1,3,10,all."
)
_PRETEXTS = flags.DEFINE_list(
    "pretexts",
    "",
    "Tasks of the pretraining, each optionally with +DECODER: cross_modality,masked+unet.",
)
_TRANSFERS = flags.DEFINE_list("transfers", "", "What is transferred: encoder,stem.")
_UNLABELLED = flags.DEFINE_list(
    "unlabelled_fractions",
    "",
    "Fractions of the unlabelled patients that pretraining uses: 0,0.5,1 or 0%.",
)
_SEEDS = flags.DEFINE_list("seeds", "0", "Seeds of initialisation and patches.")
_SHARD = flags.DEFINE_string("shard", "0/1", "i/n: run part i of n, from 0.")
_STATUS = flags.DEFINE_bool("status", False, "Only print the state of the grid.")


def _main() -> int:
    if _WORKDIR.value is None:
        raise BratsError("give --workdir=GRID")
    if _CONFIG.value is None and not _STATUS.value:
        raise BratsError("give --config=configs/NAME.py, or --status")
    # Imported here, so that a misspelt flag is reported at once, and --status too.
    from brats_jax.runs.folder import GridFolder

    grid = GridFolder(Path(_WORKDIR.value))
    if _STATUS.value:
        from brats_jax.experiments import grid_state

        print_lines(grid_state.status(grid))
        return 0
    overrides = dict(config_flags.get_override_values(flags.FLAGS["config"]))
    if fill_store(_CONFIG.value):
        overrides["data.store"] = _CONFIG.value.data.store
    check_stores(_CONFIG.value, others=True)
    # Imported here, because it imports JAX.
    from brats_jax.experiments import grid_runner

    config_file = config_flags.get_config_filename(flags.FLAGS["config"])
    if note := note_on_store(config_file, _CONFIG.value.data.store):
        print_line(note)
    only_patients = bool(_PATIENTS.value) and not flags.FLAGS["label_fractions"].present
    complete = grid_runner.run_grid(
        grid,
        _CONFIG.value,
        config_file,
        overrides,
        asked={
            "losses": _LOSSES.value,
            "ssl": _SSL.value,
            # Budgets in patients replace the default share, which is all labels.
            "label_fractions": [] if only_patients else _FRACTIONS.value,
            "seeds": _SEEDS.value,
            "label_patients": _PATIENTS.value,
            "pretexts": _PRETEXTS.value,
            "transfers": _TRANSFERS.value,
            "unlabelled_fractions": _UNLABELLED.value,
        },
        shard=_SHARD.value,
    )
    return 0 if complete else 1


def run_main() -> None:
    """Runs the command."""
    cli.run(
        _main,
        folder=lambda: _WORKDIR.value,
        after_stop="the same command continues from the last checkpoint",
    )


if __name__ == "__main__":
    run_main()
