"""The whole experiment: every loss, with and without pretraining, over the folds.

    python -m brats_jax.grid --config=configs/ssl.py --workdir=GRID --config.data.store=STORE
    python -m brats_jax.grid --workdir=GRID --status

Given again, the same command goes on where it was stopped, skips what is complete and tries
again what failed. Several may run at once, on one machine or many; --shard=i/n divides the
work among them beforehand.
"""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from brats_jax.errors import BratsError
from brats_jax.runtime.cli import fail, one_line_config_flags, tell
from brats_jax.runtime.files import check_folder, make_folder
from brats_jax.runtime.text import plural

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Settings, e.g. configs/ssl.py; --config.NAME=VALUE changes one."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The grid's folder, with all its runs.")
_LOSSES = flags.DEFINE_list("losses", "dice_ce,dice_focal,focal", "Losses of the segmentation.")
_SSL = flags.DEFINE_list("ssl", "false,true", "Without pretraining, with it, or both.")
_FRACTIONS = flags.DEFINE_list(
    "label_fractions", "1", "Shares of training patients with labels: 0.01 or 1% and so on."
)
_SEEDS = flags.DEFINE_list("seeds", "0", "Seeds of initialisation and patches.")
_SHARD = flags.DEFINE_string("shard", "0/1", "i/n: do the i-th of n parts, from 0.")
_STATUS = flags.DEFINE_bool("status", False, "Only say how far the grid is.")


def _main(arguments: Sequence[str]) -> int:
    # Imported here: a misspelt flag should not have to wait for the libraries.
    from brats_jax.experiments import grid_state

    if len(arguments) > 1:
        return fail(f"unexpected argument '{arguments[1]}'; lists are given as --losses=A,B")
    if _WORKDIR.value is None:
        return fail("give --workdir=GRID")
    grid = Path(_WORKDIR.value)
    try:
        if _STATUS.value:
            grid_cells = grid_state.cells_of(grid)
            tell(grid_state.table(grid, [grid_state.look(grid, cell) for cell in grid_cells]))
            return 0
        if _CONFIG.value is None:
            return fail("give --config=configs/NAME.py, or --status")
        return _run(_CONFIG.value, grid)
    except BratsError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or grid}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("stopped: the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _run(config: ConfigDict, grid: Path) -> int:
    from brats_jax.data.splits import make_splits
    from brats_jax.data.store.reader import Store
    from brats_jax.experiments import config as settings
    from brats_jax.experiments import grid_cells, grid_runner, grid_state

    check_folder(grid, "--workdir")
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    for name, flag in grid_cells.AXES.items():
        if name in overrides:
            raise BratsError(f"--config.{name} differs within a grid; give {flag} instead")
    axes = grid_cells.parse_axes(
        _LOSSES.value, _SSL.value, _FRACTIONS.value, _SEEDS.value, config.folds
    )
    index, count = grid_cells.parse_shard(_SHARD.value)
    # Whatever would stop every cell is found here, before the first.
    for loss in axes.losses:
        config.loss = loss
        settings.check(config)
    settings.check_workdir(config, grid)
    store = Store.open(Path(config.data.store))
    settings.check_patches(config, store)
    make_splits(store, **settings.split_options(config))
    make_folder(grid, "--workdir")
    grid_state.extend(grid, json.loads(config.to_json_best_effort()), store, axes)

    everything = grid_cells.enumerate_cells([axes])
    mine = grid_cells.share(everything, index, count)
    shard = f", of which these are {len(mine)} (--shard={index}/{count})" if count > 1 else ""
    tell(f"grid: {plural(len(everything), 'cell')}{shard}")
    failed = grid_runner.GridRunner(grid, mine, _command(overrides, grid)).run()
    if failed:
        tell(f"\ngrid: {plural(len(failed), 'cell')} failed; the same command tries them again:")
        for cell, error in failed.items():
            tell(f"  {cell.name}: {error}\n    {shlex.join(_command(overrides, grid)(cell))}")
        return 1
    tell(f"grid: all {plural(len(mine), 'cell')} done")
    return 0


def _command(overrides: dict, grid: Path) -> Callable:
    """The command line of a cell: the settings given here, then the cell's own."""
    given = [
        # A tuple is written as Python writes it, also when it is empty or has one item.
        f"--config.{name}={value if isinstance(value, str) else repr(value)}"
        for name, value in overrides.items()
        if name != "folds"
    ]
    config_file = config_flags.get_config_filename(flags.FLAGS["config"])
    start = [sys.executable, "-m", "brats_jax.main", f"--config={config_file}", *given]
    return lambda cell: [*start, *cell.flags(grid)]


def run_main() -> None:
    """The console entry point."""
    app.run(_main, flags_parser=one_line_config_flags)


if __name__ == "__main__":
    run_main()
