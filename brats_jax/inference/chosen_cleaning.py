"""The cleaning of a model's labels: as the user gives it, or as it was fitted on patients."""

import dataclasses
import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from brats_jax.errors import BratsError
from brats_jax.inference.postprocess import Cleaning
from brats_jax.inference.several_runs import chosen_planes
from brats_jax.inference.trained_run import TrainedRun
from brats_jax.runs.averaged_label import averaged_label
from brats_jax.runs.documents.cleaning import FittedCleaning, FittedSizes
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_if_there
from brats_jax.runtime.text import joined

_SIZES = ("min_component_mm3", "min_et_mm3")
_AIR = "clear_air"
_REMEDY = (
    "move it away, or switch it off with --min_component_mm3=0 --min_et_mm3=0 (in Python the "
    "arguments of these names)"
)


def check_sizes(**sizes: Any) -> None:
    """Refuses what is no finite number from 0 up; None stands for the default (BratsError)."""
    for name, size in sizes.items():
        if size is None or (isinstance(size, Real) and 0 <= float(size) < math.inf):
            continue
        raise BratsError(f"{name}={size!r}: give a finite number from 0 up")


def chosen_cleaning(
    trained: TrainedRun,
    min_component_mm3: float | None,
    min_et_mm3: float | None,
    *,
    clear_air: bool | None = None,
    tta: bool = False,
) -> tuple[Cleaning, str]:
    """The cleaning to apply, and a note for the user, or ''.

    Args:
      trained: the model; the labels of a segmentation alone are cleaned.
      min_component_mm3, min_et_mm3: as the user gives them; None: the fitted size, if any, or 0.
      clear_air: whether tumour in air is removed, as the user gives it; None: if the fit says so
        (of several runs the fit of each), but not with both sizes given as 0, which is no cleaning.
      tta: whether predictions are averaged over flips.

    Raises:
      BratsError: a setting is needed from a cleaning.json that is damaged or was edited.
    """
    given = dict(zip(_SIZES, (min_component_mm3, min_et_mm3), strict=True))
    missing = tuple(name for name, size in given.items() if size is None)
    asks = clear_air is None and any(size != 0 for size in given.values())
    fits, note = fitted_sizes(trained) if missing or asks else ((), "")
    fitted = _for_average(trained, fits, tta)
    sizes = {
        name: float(size if size is not None else getattr(fitted, name, 0.0))
        for name, size in given.items()
    }
    of_fit = missing if fitted else ()
    if asks and (fitted.clear_air if fitted else _all_clear_air(trained)):
        clear_air, of_fit = True, (*of_fit, _AIR)
    other = ""
    if fitted and any(sizes[name] for name in missing):
        other = _other_average(trained, fitted, tta)
    if other:
        wanted = joined([f"--{name}" for name in missing])
        fit = "fit" if len(missing) > 1 else "fits"
        note = f"{other}: give {wanted} that {fit} these, or 0 for no cleaning"
    cleaning = Cleaning(**sizes, clear_air=bool(clear_air), fitted=of_fit, note=other)
    return cleaning, note


def _all_clear_air(trained: TrainedRun) -> bool:
    """Whether several runs are averaged, and the fit of each removes tumour in air.

    Their sizes are not used, because they do not fit the mean.
    """
    alone = [dataclasses.replace(one, others=()) for one in trained.runs]
    return len(alone) > 1 and all(
        any(fitted.clear_air for fitted in fitted_sizes(one)[0]) for one in alone
    )


def _for_average(trained: TrainedRun, fits: Sequence[FittedSizes], tta: bool) -> FittedSizes | None:
    """The sizes fitted to the average over flips and planes that is predicted; else the first."""
    for fitted in fits:
        if _same_average(trained, fitted, tta):
            return fitted
    return next(iter(fits), None)


def _planes_of(trained: TrainedRun, fitted: FittedSizes) -> tuple[str, ...]:
    """The planes of a fit; () if they are only the first plane of the training."""
    return chosen_planes(trained.record.planes, fitted.planes, "the fit of the cleaning")


def _same_average(trained: TrainedRun, fitted: FittedSizes, tta: bool) -> bool:
    planes = {*_planes_of(trained, fitted)}
    return (fitted.tta, planes) == (tta, {*trained.chosen_planes})


def _other_average(trained: TrainedRun, fitted: FittedSizes, tta: bool) -> str:
    """A note on sizes that were fitted to another average over flips and planes; or ''."""
    if _same_average(trained, fitted, tta):
        return ""
    planes = _planes_of(trained, fitted)
    first = (trained.record.plane,)
    then, now = (
        averaged_label(flips, ",".join(over or first), " ").removeprefix(" predictions").strip()
        for flips, over in ((fitted.tta, planes), (tta, trained.chosen_planes))
    )
    return (
        f"the sizes of the cleaning were fitted to predictions {then}, and are used for ones {now}"
    )


def fitted_sizes(trained: TrainedRun) -> tuple[tuple[FittedSizes, ...], str]:
    """The sizes fitted to a model's predictions, and a note for the user, or ''.

    Returns:
      A fit for each average over flips and planes; that of `config.evaluation` is the first.

    Raises:
      BratsError: a file of sizes in the run is damaged or was edited.
    """
    if not trained.segments or trained.others:  # sizes are fitted to one run's predictions
        return (), ""
    if trained.weights is not None:
        return trained.weights.tasks[trained.task_name].cleanings, ""
    found, of_others = [], []
    for path in RunFolder(trained.run).cleanings():
        document = read_if_there(path, FittedCleaning, _REMEDY)
        if document is None:
            continue
        if document.belongs_to(member.hash for member in trained.members):
            found.append(document.fitted)
        else:
            of_others.append(path)
    if not of_others:
        return tuple(found), ""
    return tuple(found), note_on_other_weights(of_others, trained.run)


def note_on_other_weights(paths: Sequence[Path], run: Path) -> str:
    """A note on files of sizes that do not belong to the networks of a run."""
    return (
        f"fitted to other weights, and not used: {joined(list(map(str, paths)))}; run python -m "
        f"brats_jax.calibrate --cleaning --checkpoint={run} again"
    )
