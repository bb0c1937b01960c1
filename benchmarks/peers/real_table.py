"""The result of real.py as tables: scores, paired differences to ours, times."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from brats_jax.data.modalities import REGIONS
from brats_jax.reporting.paired_trainings import compare_trainings
from brats_jax.reporting.statistics import Repeat

TITLES = {
    "ours": "brats_jax",
    "twin": "PyTorch, the same network and recipe",
    "smp": "segmentation_models_pytorch U-Net, the same recipe",
    "nnunet_planned": "nnU-Net 2D, as planned",
    "nnunet_small": "nnU-Net 2D, smaller batch",
    "nnunet_small_plain": "nnU-Net 2D, smaller batch, no mirroring",
}
OURS = "ours"
DICE = tuple(f"dice_{region}" for region in REGIONS)
HD95 = tuple(f"hd95_mm_{region}" for region in REGIONS)

# Of one program, by fold: scores by case, 'training', 'inference'.
Program = Mapping[int, Mapping[str, Any]]


def by_case(program: Program, metric: str) -> dict[str, dict[Repeat, float]]:
    """case -> (fold, seed) -> score."""
    found: dict[str, dict[Repeat, float]] = {}
    for fold, one in program.items():
        for case, scores in one["scores"].items():
            found.setdefault(case, {})[fold, 0] = scores[metric]
    return found


def mean_of(program: Program, metric: str) -> np.ndarray:
    """float64[cases]: the score of each case, the mean over folds."""
    return np.array([np.mean(list(own.values())) for own in by_case(program, metric).values()])


def differences(programs: Mapping[str, Program], metric: str) -> dict[str, dict[str, Any]]:
    """Paired difference to ours of every other program: program - ours, over patients."""
    ours, found = programs[OURS], {}
    for name, program in programs.items():
        if name == OURS:
            continue
        shared = [(fold, 0) for fold in program if fold in ours]
        pair = by_case(program, metric), by_case(ours, metric)
        found[name] = compare_trainings(*pair, shared)._asdict()
    return found


def summary(programs: Mapping[str, Program]) -> dict[str, Any]:
    """The numbers of the tables, JSON-able."""
    means = {
        name: {
            **{metric: float(mean_of(program, metric).mean()) for metric in ("dice", *DICE, *HD95)},
            **{f"median_{m}": float(np.median(mean_of(program, m))) for m in HD95},
            "cases": len(mean_of(program, "dice")),
        }
        for name, program in programs.items()
    }
    compared = {metric: differences(programs, metric) for metric in ("dice", *DICE)}
    return {"means": means, "differences": compared}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    return [lines[0], "|---" + "|--:" * (len(head) - 1) + "|", *lines[1:], ""]


def _difference(one: Mapping[str, Any]) -> str:
    return f"{one['mean_difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"


def _scores(numbers: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, means in numbers["means"].items():
        row = [TITLES[name], *(f"{means[metric]:.3f}" for metric in (*DICE, "dice"))]
        one = numbers["differences"]["dice"].get(name)
        shown = [""] * 2
        if one is not None:
            shown = [_difference(one), f"{one['larger']} / {one['smaller']}"]
        rows.append([*row, *shown])
    head = ["program", *REGIONS, "mean of the three", "mean - ours (95 %)", "better / worse"]
    return _table(head, rows)


def _by_region(numbers: Mapping[str, Any]) -> list[str]:
    rows = [
        [TITLES[name], *(_difference(numbers["differences"][metric][name]) for metric in DICE)]
        for name in numbers["differences"]["dice"]
    ]
    return _table(["Dice - ours (95 %)", *REGIONS], rows)


def _distances(numbers: Mapping[str, Any]) -> list[str]:
    rows = [
        [TITLES[name], *(f"{means[m]:.1f} ({means[f'median_{m}']:.1f})" for m in HD95)]
        for name, means in numbers["means"].items()
    ]
    return _table(["HD95 in mm, mean (median)", *REGIONS], rows)


def _times(programs: Mapping[str, Program]) -> list[str]:
    rows = []
    for name, program in programs.items():
        training = [one["training"] for one in program.values()]

        def mean(key: str, trained: Sequence[Mapping[str, Any]] = training) -> float:
            return float(np.mean([one[key] for one in trained if key in one] or [np.nan]))

        each = [s for one in program.values() for s in one["inference"]["seconds_by_case"].values()]
        step = mean("seconds_per_step")
        if np.isnan(step):
            step = mean("seconds_of_steps") / mean("steps")
        cells = [
            mean("seconds"), mean("seconds_of_steps"), mean("seconds_of_data"), mean("steps"),
            mean("batch"), 1e3 * step, mean("parameters") / 1e6,
        ]  # fmt: skip
        shown = ["" if np.isnan(cell) else f"{cell:,.0f}" for cell in cells[:-1]]
        shown.append("" if np.isnan(cells[-1]) else f"{cells[-1]:.1f}")
        case = f"{np.median(each):.1f} ({min(each):.1f} to {max(each):.1f})"
        rows.append([TITLES[name], *shown, case])
    head = [
        "program", "training, s", "its steps, s", "its data, s", "steps", "batch", "a step, ms",
        "parameters, M", "a case, s: median (range)",
    ]  # fmt: skip
    return _table(head, rows)


NOTES = """\
Dice and HD95 are of whole volumes, by one scorer on the same label files. Empty regions count as in
BraTS 2020: in neither mask Dice 1 and 0 mm, in one mask Dice 0 and 373.13 mm. Differences are
paired by patient; the interval is {interval}.

`training` has steps, validation and checkpoints; of nnU-Net also loading, its preprocessing is
apart. The steps of the two programs with our recipe get the same patches in the same order, cut
and augmented by brats_jax, which is their time of data; ours augments within its steps. The first
of ours compile; `a step` is of the later epochs. `a case` is from files to files with the model
loaded, for these two programs the network alone.
"""


def page(
    programs: Mapping[str, Program], command: str, where: str, lines: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """(Markdown page, JSON document) of a result.

    Args:
      programs: by name, ours included.
      command: that made it.
      where: machine, versions, commit, date and load.
      lines: further facts.
    """
    numbers = summary(programs)
    compared = numbers["differences"]["dice"].values()
    alone = all(one["p_crossed"] != one["p_crossed"] for one in compared)
    interval = "over patients and trainings (brats_jax/reporting/training_variance.py)"
    if alone:
        interval = "a bootstrap over patients, for the networks as trained"
    cases = numbers["means"][OURS]["cases"]
    folds = ", ".join(str(fold) for fold in programs[OURS])
    text = [
        "# Peers on real cases",
        "",
        f"    {command}",
        "",
        f"{where}. {cases} patients that no program was trained on; fold {folds}.",
        "",
        *_scores(numbers),
        *_by_region(numbers),
        *_distances(numbers),
        *_times(programs),
        NOTES.format(interval=interval),
        *(f"- {line}" for line in lines),
    ]
    document = {
        "command": command,
        "where": where,
        "lines": list(lines),
        **numbers,
        "programs": programs,
    }
    return "\n".join(text).rstrip() + "\n", document
