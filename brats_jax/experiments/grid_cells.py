"""From the flags of a grid to its cells, and from a cell to the flags of its training."""

import copy
import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from ml_collections import ConfigDict

from brats_jax.data.store.reader import Store
from brats_jax.data.store.several_planes import SeveralPlanes
from brats_jax.errors import BratsError
from brats_jax.experiments.checks import check_settings
from brats_jax.experiments.config import parse
from brats_jax.experiments.continuation import (
    check_planes,
    describe_store,
    read_unchanged,
    versions,
)
from brats_jax.losses import SEGMENTATION_LOSSES
from brats_jax.models import DECODERS
from brats_jax.pretexts import PRETEXTS
from brats_jax.runs.axes import AS_SET, Axes
from brats_jax.runs.documents import GridConfig
from brats_jax.runs.folder import GridFolder
from brats_jax.runs.grid import Cell, enumerate_cells
from brats_jax.runs.settings import TRANSFER_PARTS, Settings
from brats_jax.runtime import locks
from brats_jax.runtime.console import print_line
from brats_jax.runtime.flag_types import LARGEST_SEED, is_whole_number

# Settings that differ between the cells, and the flags with their values.
AXES = {
    "loss": "--losses",
    "ssl": "--ssl",
    "data.label_fraction": "--label_fractions",
    "data.label_patients": "--label_patients",
    "seed": "--seeds",
    "pretrain.run": "--ssl",
}


def extend(
    grid: GridFolder,
    settings: Settings,
    store: Store,
    axes: Axes,
    planes: SeveralPlanes | None = None,
) -> None:
    """Starts the folder of a grid, or adds axes to it.

    Args:
      grid: the folder.
      settings: those that all cells share; the axes and folds among them are left out.
      store: the data.
      axes: those that this command asks for.
      planes: the store with those of other planes.

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
            check_planes(grid.path, started.store, planes)
        else:
            if any(grid.cells.glob("*.json")):
                print_line(
                    f"{grid.grid_json} is missing, but there are cells beside it: made again from "
                    "this command alone; copy it back, or give the other commands of this grid "
                    "again, too"
                )
            started = GridConfig(shared, describe_store(store, planes), versions(), axes=())
        if axes not in started.axes:
            dataclasses.replace(started, axes=(*started.axes, axes)).write(grid.grid_json)


def settings_of(cell: Cell) -> dict[str, Any]:
    """The settings that a cell adds to those of its grid, but for folders, by dotted name."""
    found: dict[str, Any] = {"folds": (cell.fold,), "seed": cell.seed}
    pretraining: dict[str, Any] = {}
    if cell.pretext:
        task, _, decoder = cell.pretext.partition("+")
        pretraining["pretrain.task"] = task
        if decoder:
            pretraining["pretrain.decoder"] = decoder
    if cell.unlabelled != AS_SET:
        pretraining["pretrain.unlabelled_fraction"] = cell.unlabelled / 100
    if cell.stage == "pretrain":
        return {**found, "ssl": True, **pretraining}
    found |= {"loss": cell.loss, "ssl": cell.ssl}
    if cell.patients:
        found["data.label_patients"] = cell.patients
    else:
        found["data.label_fraction"] = cell.percent / 100
    if cell.ssl:
        found |= pretraining
        if cell.transfer:
            found["transfer.parts"] = cell.transfer
    return found


def flags_of(cell: Cell, grid: GridFolder) -> list[str]:
    """The flags of brats_jax.main that a cell adds to the settings of its grid."""
    words = {False: "false", True: "true"}
    flags = [f"--workdir={grid.run(cell.run).path}"]
    for name, value in settings_of(cell).items():
        shown = words[value] if isinstance(value, bool) else value
        flags.append(f"--config.{name}={value[0] if isinstance(value, tuple) else shown}")
    if cell.stage == "pretrain":
        flags.insert(3, "--mode=pretrain")
    if cell.source is not None:
        flags.append(f"--config.pretrain.run={grid.run(cell.source.run).path}")
    return flags


def check_cells(config: ConfigDict, axes: Axes) -> None:
    """Refuses values of the axes that no cell can have, and those that do not go together.

    Args:
      config: the settings that all cells share.
      axes: those that this command asks for.

    Raises:
      BratsError: names the values and the reason.
    """
    seen = set()
    for cell in enumerate_cells([axes]):
        common = dataclasses.replace(cell, seed=0, fold=0)
        if common in seen:
            continue
        seen.add(common)
        own = ConfigDict(json.loads(config.to_json_best_effort()))
        try:
            own.update_from_flattened_dict({**settings_of(cell), "folds": tuple(config.folds)})
            check_settings(parse(own))
        except BratsError as error:
            together = ""
            if len(axes.pretexts) > 1 and len(axes.transfers) > 1:
                together = (
                    "; a grid grows by each command: give in one those pretexts and transfers that "
                    "go together"
                )
            raise BratsError(f"{cell.run.name}: {error}{together}") from None


def parse_axes(
    losses: Sequence[str],
    ssl: Sequence[str],
    label_fractions: Sequence[str],
    seeds: Sequence[str],
    folds: Iterable[int],
    *,
    label_patients: Sequence[str] = (),
    pretexts: Sequence[str] = (),
    transfers: Sequence[str] = (),
    unlabelled_fractions: Sequence[str] = (),
    shared: Settings | None = None,
) -> Axes:
    """The axes that the flags ask for.

    Args:
      losses, ssl, label_fractions, seeds, folds: as the flags have them.
      label_patients: numbers of patients, and 'all'.
      pretexts: 'TASK' or 'TASK+DECODER'.
      transfers, unlabelled_fractions: as in config.transfer.parts, config.pretrain.
      shared: the settings of the grid; a value of an axis that equals theirs is the same cell as
        without the axis.

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
    percents = [_percent("label_fractions", value) for value in label_fractions]
    if "all" in label_patients and 100 not in percents:
        percents.append(100)
    unlabelled = [_percent("unlabelled_fractions", x, least=0) for x in unlabelled_fractions]
    axes = Axes(
        losses=tuple(losses),
        ssl=tuple(known[value.lower()] for value in ssl),
        percents=tuple(percents),
        seeds=tuple(int(seed) for seed in seeds),
        folds=tuple(folds),
        patients=tuple(_patients(value) for value in label_patients if value != "all"),
        pretexts=tuple(_pretext(value, shared) for value in pretexts),
        transfers=tuple(_transfer(value, shared) for value in transfers),
        unlabelled=tuple(_unlabelled(value, shared) for value in unlabelled),
    )
    needed = {"losses": axes.losses, "ssl": axes.ssl, "seeds": axes.seeds}
    if not label_patients:
        needed["label_fractions"] = axes.percents
    given = {
        "label_fractions": axes.percents,
        "label_patients": axes.patients,
        "pretexts": axes.pretexts,
        "transfers": axes.transfers,
        "unlabelled_fractions": axes.unlabelled,
    }
    for flag, values in {**given, **needed}.items():
        if (flag in needed and not values) or len(set(values)) != len(values):
            raise BratsError(f"--{flag}: give at least one value, and each once")
    if not any(axes.ssl) and (axes.pretexts or axes.transfers or axes.unlabelled):
        raise BratsError(
            "--ssl=false trains no pretraining: leave out --pretexts, --transfers and "
            "--unlabelled_fractions, or give --ssl=true"
        )
    # An axis whose only value is that of the settings is left out.
    only_setting = {"pretexts": ("",), "transfers": ("",), "unlabelled": (AS_SET,)}
    empty = {name: () for name, values in only_setting.items() if getattr(axes, name) == values}
    return dataclasses.replace(axes, **empty)  # type: ignore[arg-type]


def _transfer(text: str, shared: Settings | None) -> str:
    """A transfer in the form of `Axes`; '' where it is that of the settings."""
    if text not in TRANSFER_PARTS:
        valid = ", ".join(TRANSFER_PARTS)
        raise BratsError(f"--transfers={text}: valid values are {valid}")
    return "" if shared is not None and text == shared.transfer.parts else text


def _pretext(text: str, shared: Settings | None) -> str:
    """A pretext in the form of `Axes`; '' where task and decoder are those of the settings."""
    task, plus, decoder = text.partition("+")
    if task not in PRETEXTS or (plus and decoder not in DECODERS):
        raise BratsError(
            f"--pretexts={text}: valid values are {', '.join(PRETEXTS)}, each also with "
            f"+{' or +'.join(DECODERS)}"
        )
    if shared is None:
        return text
    if decoder == shared.pretrain.decoder:
        decoder = ""
    if task == shared.pretrain.task and not decoder:
        return ""
    return f"{task}+{decoder}" if decoder else task


def _unlabelled(percent: int, shared: Settings | None) -> int:
    """A percentage in the form of `Axes`; AS_SET where it is that of the settings."""
    if shared is not None and percent == 100 * shared.pretrain.unlabelled_fraction:
        return AS_SET
    return percent


def _patients(text: str) -> int:
    if not is_whole_number(text) or not 1 <= int(text) < 2**31:
        raise BratsError(
            f"--label_patients={text}: give numbers of patients and 'all', for example 1,3,10,all"
        )
    return int(text)


def _percent(flag: str, text: str, least: int = 1) -> int:
    """'0.05', '5%' and '1' (all) as whole percent."""
    try:
        percent = float(text[:-1]) if text.endswith("%") else 100 * float(text)
    except ValueError:
        percent = -1.0
    whole = round(percent) if abs(percent) <= 100 else -1
    if not least <= whole <= 100 or abs(percent - whole) > 1e-6:
        raise BratsError(
            f"--{flag}={text}: give whole percents of the patients, {least / 100:.2g} to 1 or "
            f"{least}% to 100%, for example 0.01,0.1,1"
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


def cells_of_shard(cells: Sequence[Cell], index: int, count: int) -> list[Cell]:
    """The cells of worker `index` of `count`: every count-th, so that all get each kind."""
    return list(cells[index::count])
