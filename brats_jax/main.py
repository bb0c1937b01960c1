"""Trains and evaluates an experiment.

    python -m brats_jax.main --config=configs/ssl.py --workdir=RUN --config.data.store=STORE

Given again, the same command goes on where it was stopped and skips what is complete. Started
several times at once, with --coordinator, --num_processes and --process_id (or --distributed, by
a cluster that tells them), the processes share each batch.
"""

import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from brats_jax.errors import BUSY_STATUS, BratsError, Busy
from brats_jax.runtime.cli import fail, one_line_config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Settings, e.g. configs/ssl.py; --config.NAME=VALUE changes one."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Run folder: checkpoints, numbers, pictures.")
_MODE = flags.DEFINE_string(
    "mode", "train", "train (and evaluate), pretrain (the first stage only), or evaluate only."
)
# What asks for several processes; the names are in distributed.FLAGS.
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, where several processes train together."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many they are.", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Instead of these three: the cluster says them (srun, mpirun)."
)


def _main(arguments: Sequence[str]) -> int:
    if len(arguments) > 1:
        return fail(
            f"unexpected argument '{arguments[1]}'; settings are given as --config.NAME=VALUE"
        )
    if _CONFIG.value is None or _WORKDIR.value is None:
        return fail("give --config=configs/NAME.py and --workdir=RUN")
    # Imported here: a misspelt flag should not have to wait for the libraries.
    from brats_jax.experiments import experiment
    from brats_jax.runtime import devices, distributed, signals

    # Orbax and JAX tell every checkpoint they write.
    logging.set_verbosity(logging.ERROR)
    devices.keep_freed_memory()
    signals.raise_on_sigterm()
    try:
        distributed.initialize(
            _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _DISTRIBUTED.value
        )
        experiment.run(_CONFIG.value, Path(_WORKDIR.value), _MODE.value)
    except Busy as error:
        fail(str(error))
        return distributed.end(BUSY_STATUS)
    except BratsError as error:
        return distributed.end(fail(str(error)))
    except OSError as error:  # a full disk, a folder that may not be written, a file in its place
        where = error.filename or _WORKDIR.value
        kept = "; what was saved before is kept" if Path(_WORKDIR.value).is_dir() else ""
        return distributed.end(fail(f"{where}: {error.strerror or error}{kept}"))
    except KeyboardInterrupt as error:
        print("stopped: the same command goes on from the last checkpoint", file=sys.stderr)
        terminated = isinstance(error, signals.Terminated)
        return distributed.end(128 + (signal.SIGTERM if terminated else signal.SIGINT))
    except Exception as error:
        if distributed.process_count() == 1:
            raise
        if distributed.is_lost_process(error):
            text = "another process has ended; the same commands go on from the last checkpoint"
            return distributed.end(fail(text))
        traceback.print_exc()
        return distributed.end(1)
    return 0


def run_main() -> None:
    """The console entry point."""
    app.run(_main, flags_parser=one_line_config_flags)


if __name__ == "__main__":
    run_main()
