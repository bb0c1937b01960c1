"""Trains and evaluates an experiment.

    python -m brats_jax.main --config=configs/ssl.py [--workdir=RUN] [--config.data.store=STORE]

For configs/ssl.py, RUN defaults to runs/ssl, or to runs/ssl-LOSS with --config.loss=LOSS; STORE
defaults to $BRATS_JAX_STORE or stores/default. The same command continues a stopped run and skips
what is complete. Several processes share each batch if they are started at once with
--coordinator, --num_processes and --process_id (or --distributed on a cluster).
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from brats_jax.errors import BratsError
from brats_jax.experiments.modes import check_mode
from brats_jax.runs.default_paths import check_stores, default_workdir, fill_store, note_on_store
from brats_jax.runtime import cli, flag_types

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Settings, e.g. configs/ssl.py; --config.NAME=VALUE changes one."
)
_WORKDIR = flag_types.define_path(
    "workdir", "Run folder (default: runs/CONFIG, or runs/CONFIG-LOSS for another loss)."
)
_MODE = flags.DEFINE_string(
    "mode", "train", "train (and evaluate), pretrain (only the pretraining), or evaluate (only)."
)
# These request several processes; distributed.FLAGS lists their names.
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, to train in several processes."
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Number of processes.", lower_bound=1, upper_bound=65_536
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Index of this process, from 0.", lower_bound=0, upper_bound=65_535
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Take these three from the cluster (srun, mpirun)."
)


def _workdir() -> Path | None:
    if _WORKDIR.value is not None or _CONFIG.value is None:
        return Path(_WORKDIR.value) if _WORKDIR.value else None
    config_file = config_flags.get_config_filename(flags.FLAGS["config"])
    return default_workdir(config_file, str(_CONFIG.value.get("loss", "")))


def _main() -> None:
    workdir = _workdir()
    if _CONFIG.value is None or workdir is None:
        raise BratsError("give --config=configs/NAME.py")
    check_mode(_MODE.value)
    fill_store(_CONFIG.value)
    if not (_COORDINATOR.value or _DISTRIBUTED.value):  # other processes would wait for this one
        check_stores(_CONFIG.value, others=_MODE.value != "evaluate")
    # Imported here, so that a misspelt flag is reported at once.
    from brats_jax.experiments import experiment
    from brats_jax.runtime import devices, distributed
    from brats_jax.runtime.console import print_line

    devices.keep_freed_memory()
    distributed.initialize(
        _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _DISTRIBUTED.value
    )
    config_file = config_flags.get_config_filename(flags.FLAGS["config"])
    if note := note_on_store(config_file, _CONFIG.value.data.store):
        print_line(note)
    experiment.run(_CONFIG.value, workdir, _MODE.value)


def run_main() -> None:
    """Runs the command."""
    cli.run(
        _main,
        folder=_workdir,
        after_stop="the same command continues from the last checkpoint",
        after_full_disk="; earlier checkpoints are kept",
    )


if __name__ == "__main__":
    run_main()
