"""From the flags of a grid to its cells, and from a cell to the flags of its training."""

import copy
import dataclasses
from collections.abc import Iterable, Sequence

from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.experiments.config import describe_store, read_unchanged, versions
from brats_jax.losses import SEGMENTATION_LOSSES
from brats_jax.runs.documents import Axes, GridConfig
from brats_jax.runs.folder import GridFolder
from brats_jax.runs.grid import Cell
from brats_jax.runs.settings import Settings
from brats_jax.runtime import locks
from brats_jax.runtime.flag_types import LARGEST_SEED, is_whole_number

# Settings that differ between the cells, and the flags with their values.
AXES = {
    "loss": "--losses",
    "ssl": "--ssl",
    "data.label_fraction": "--label_fractions",
    "seed": "--seeds",
    "pretrain.run": "--ssl",
}


def extend(grid: GridFolder, settings: Settings, store: Store, axes: Axes) -> None:
    """Starts the folder of a grid, or adds axes to it.

    Args:
      grid: the folder.
      settings: those that all cells share; the axes and folds among them are left out.
      store: the data.
      axes: requested now.

    Raises:
      BratsError: the grid was started with other settings, or on another store.
    """
    shared = copy.deepcopy(dict(settings.document))
    for name in (*AXES, "folds"):
        group = shared
        *parents, last = name.split(".")
        for parent in parents:
            group = group[parent]
        group.pop(last, None)
    # Several workers may start at once; each holds the lock for a moment.
    with locks.hold(grid.lock, str(grid.path), patience_s=60):
        if grid.grid_json.exists():
            started = read_unchanged(grid.grid_json, GridConfig, shared, store)
        else:
            started = GridConfig(shared, describe_store(store), versions(), axes=())
        if axes not in started.axes:
            dataclasses.replace(started, axes=(*started.axes, axes)).write(grid.grid_json)


def flags_of(cell: Cell, grid: GridFolder) -> list[str]:
    """The flags of brats_jax.main that a cell adds to the settings of its grid."""
    flags = [
        f"--workdir={grid.run(cell.run).path}",
        f"--config.folds={cell.fold}",
        f"--config.seed={cell.seed}",
    ]
    if cell.stage == "pretrain":
        return [*flags, "--mode=pretrain", "--config.ssl=true"]
    flags += [
        f"--config.loss={cell.loss}",
        f"--config.ssl={str(cell.ssl).lower()}",
        f"--config.data.label_fraction={cell.percent / 100}",
    ]
    if cell.source is not None:
        flags.append(f"--config.pretrain.run={grid.run(cell.source.run).path}")
    return flags


def parse_axes(
    losses: Sequence[str],
    ssl: Sequence[str],
    label_fractions: Sequence[str],
    seeds: Sequence[str],
    folds: Iterable[int],
) -> Axes:
    """The axes that the flags ask for.

    Raises:
      BratsError: names the flag, the value and what is valid.
    """
    for loss in losses:
        if loss not in SEGMENTATION_LOSSES:
            raise BratsError(f"--losses={loss}: valid values are {', '.join(SEGMENTATION_LOSSES)}")
    known = {"false": False, "true": True}
    for value in ssl:
        if value.lower() not in known:
            raise BratsError(f"--ssl={value}: valid values are false, true, or both: false,true")
    for seed in seeds:
        if not is_whole_number(seed) or int(seed) > LARGEST_SEED:
            raise BratsError(
                f"--seeds={seed}: give whole numbers from 0 to {LARGEST_SEED}, such as 0,1,2"
            )
    axes = Axes(
        losses=tuple(losses),
        ssl=tuple(known[value.lower()] for value in ssl),
        percents=tuple(_percent(value) for value in label_fractions),
        seeds=tuple(int(seed) for seed in seeds),
        folds=tuple(folds),
    )
    for flag, values in (
        ("losses", axes.losses),
        ("ssl", axes.ssl),
        ("label_fractions", axes.percents),
        ("seeds", axes.seeds),
    ):
        if not values or len(set(values)) != len(values):
            raise BratsError(f"--{flag}: give at least one value, and each once")
    return axes


def _percent(text: str) -> int:
    """'0.05', '5%' and '1' (all) as whole percent."""
    try:
        percent = float(text[:-1]) if text.endswith("%") else 100 * float(text)
    except ValueError:
        percent = -1.0
    whole = round(percent) if abs(percent) <= 100 else 0
    if not 1 <= whole <= 100 or abs(percent - whole) > 1e-6:
        raise BratsError(
            f"--label_fractions={text}: give whole percents of the training patients, 0.01 to 1 or "
            "1% to 100%, for example 0.01,0.1,1"
        )
    return whole


def parse_shard(text: str) -> tuple[int, int]:
    """'i/n' as (i, n): the i-th of n workers, from 0.

    Raises:
      BratsError: not of that form, or not 0 <= i < n.
    """
    index, slash, count = text.partition("/")
    if not (slash and is_whole_number(index) and is_whole_number(count)) or not (
        int(index) < int(count)
    ):
        raise BratsError(
            f"--shard={text}: give i/n, the i-th of n workers from 0, for example 0/4 to 3/4"
        )
    return int(index), int(count)


def share(cells: Sequence[Cell], index: int, count: int) -> list[Cell]:
    """The cells of worker `index` of `count`: every count-th, so that all get each kind."""
    return list(cells[index::count])
