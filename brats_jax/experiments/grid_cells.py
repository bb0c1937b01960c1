"""The cells of a grid: each is one training, with a name, a place, and the flags that make it.

A cell is either the pretraining of a fold, or a segmentation of a fold with one loss, with or
without pretraining, with one share of the labels and one seed. Cells that differ in the fold
alone are the folds of one run folder.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brats_jax.errors import BratsError
from brats_jax.losses import SEGMENTATION_LOSSES

# Settings that a grid gives to its cells itself, and the flag that says which values.
AXES = {
    "loss": "--losses",
    "ssl": "--ssl",
    "data.label_fraction": "--label_fractions",
    "seed": "--seeds",
    "pretrain.run": "--ssl",
}


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
      stage: 'pretrain' or 'segment'.
      seed, fold: of what.
      loss, ssl, percent: of a segmentation: its loss, whether it starts from the fold's
        pretraining, the percentage of training patients whose labels it sees.
    """

    stage: str
    seed: int
    fold: int
    loss: str = ""
    ssl: bool = False
    percent: int = 100

    @property
    def run(self) -> Path:
        """The cell's run folder, within the grid's."""
        if self.stage == "pretrain":
            return Path("pretraining") / f"seed_{self.seed}"
        start = "ssl" if self.ssl else "base"
        return Path("runs") / f"{self.loss}-{start}-labels_{self.percent:03}-seed_{self.seed}"

    @property
    def name(self) -> str:
        """Unique in the grid; fit for a file."""
        run = f"pretraining-{self.run.name}" if self.stage == "pretrain" else self.run.name
        return f"{run}-fold_{self.fold}"

    @property
    def directory(self) -> Path:
        """The cell's fold folder, within the grid's."""
        return self.run / f"fold_{self.fold}"

    @property
    def source(self) -> "Cell | None":
        """The pretraining that must be there before this cell can start."""
        return Cell("pretrain", self.seed, self.fold) if self.ssl else None

    def flags(self, grid: Path) -> list[str]:
        """What this cell adds to the settings of the grid, for brats_jax.main."""
        flags = [
            f"--workdir={grid / self.run}",
            f"--config.folds={self.fold}",
            f"--config.seed={self.seed}",
        ]
        if self.stage == "pretrain":
            return [*flags, "--mode=pretrain", "--config.ssl=true"]
        flags += [
            f"--config.loss={self.loss}",
            f"--config.ssl={str(self.ssl).lower()}",
            f"--config.data.label_fraction={self.percent / 100}",
        ]
        if self.source is not None:
            flags.append(f"--config.pretrain.run={grid / self.source.run}")
        return flags


@dataclass(frozen=True)
class Axes:
    """What a grid goes over; the defaults and five folds are the paper's experiment."""

    losses: tuple[str, ...] = ("dice_ce", "dice_focal", "focal")
    ssl: tuple[bool, ...] = (False, True)
    percents: tuple[int, ...] = (100,)
    seeds: tuple[int, ...] = (0,)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Axes":
        """The inverse of dataclasses.asdict after JSON."""
        return cls(**{name: tuple(values) for name, values in document.items()})


def parse_axes(
    losses: Sequence[str],
    ssl: Sequence[str],
    label_fractions: Sequence[str],
    seeds: Sequence[str],
    folds: Iterable[int],
) -> Axes:
    """Reads the values of the flags.

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
        if not seed.isdecimal():
            raise BratsError(f"--seeds={seed}: give whole numbers, 0 or more, for example 0,1,2")
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


def enumerate_cells(parts: Sequence[Axes]) -> list[Cell]:
    """All cells of all parts, each once, in the order in which they are done.

    Pretrainings first, because others wait for them; then all without pretraining; then
    those with it, fold by fold, so that whole comparisons of a fold come early.
    """
    pretrainings: dict[Cell, None] = {}
    without: dict[Cell, None] = {}
    with_: dict[Cell, None] = {}
    for axes in parts:
        for seed, fold in itertools.product(axes.seeds, axes.folds):
            if True in axes.ssl:
                pretrainings[Cell("pretrain", seed, fold)] = None
            for percent, loss in itertools.product(axes.percents, axes.losses):
                for ssl in axes.ssl:
                    cell = Cell("segment", seed, fold, loss, ssl, percent)
                    (with_ if ssl else without)[cell] = None
    return [*pretrainings, *without, *with_]


def parse_shard(text: str) -> tuple[int, int]:
    """'i/n' as (i, n): the i-th of n workers, from 0.

    Raises:
      BratsError: not of that form, or not 0 <= i < n.
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()) or not int(index) < int(count):
        raise BratsError(
            f"--shard={text}: give i/n, the i-th of n workers from 0, for example 0/4 to 3/4"
        )
    return int(index), int(count)


def share(cells: Sequence[Cell], index: int, count: int) -> list[Cell]:
    """The cells of worker `index` of `count`: every count-th, so that each gets of every kind."""
    return list(cells[index::count])
