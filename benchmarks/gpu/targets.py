"""The targets of the table that gpu.py prints, and the table.

Every benchmark records its results with a `text`, its finding in words. A row of the table shows
the texts of the results that it names, beside the target and whether they meet it.
"""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Result = dict[str, Any]
Results = dict[str, Result]

SMALL = "small sizes: shows that everything runs; no figure means anything"


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      what: the quantity.
      result: name of its result; '*' stands for several.
      target: in words; '' where there is none.
      met: whether a result meets the target; None where it cannot be judged.
    """

    what: str
    result: str
    target: str = ""
    met: Callable[[Result], bool | None] = lambda result: None


def faster(
    times: float, rate: float = 0.0, roofline: float = 0.0
) -> Callable[[Result], bool | None]:
    """At least `times` PyTorch's speed, `rate` images/s and this share of the roofline."""

    def met(result: Result) -> bool | None:
        if "ratio" not in result:
            return None
        quick = 1 / result["ratio"][1] >= times and result["rate"] >= rate
        return quick and result["share"] >= roofline

    return met


def at_least(**least: float) -> Callable[[Result], bool]:
    """Every named number is at least as large."""
    return lambda result: all(result[name] >= value for name, value in least.items())


def at_most(**most: float) -> Callable[[Result], bool]:
    """Every named number is at most as large."""
    return lambda result: all(result[name] <= value for name, value in most.items())


def loses_at_most(loss: float) -> Callable[[Result], bool | None]:
    """bfloat16 minus float32, mean over the pairs less two standard errors, is above -loss."""

    def met(result: Result) -> bool | None:
        difference = np.subtract(result["bfloat16"], result["float32"])
        if len(difference) < 2:
            return None
        error = 2 * difference.std(ddof=1) / np.sqrt(len(difference))
        return bool(difference.mean() - error > -loss)

    return met


def rows(on_cpu: bool) -> list[Row]:
    """The table's lines; on a CPU surface distances are those of the host."""
    distances, least = ("asd host", 1.0) if on_cpu else ("asd device", 100.0)
    return [
        Row("ceilings of the device", "ceilings"),
        Row(
            "segmentation step, batch 16",
            "segment16",
            "1.5 x PyTorch, 6,000 patches/s",
            faster(1.5, 6000),
        ),
        Row("the same, a dispatch for each step", "segment16_single"),
        Row("the same, sums in any order", "segment16_any_order"),
        Row("the same, beside smp's U-Net", "smp"),
        Row(
            "segmentation step, batch 128",
            "segment128",
            "1.1 x PyTorch, above 50 % of the roofline",
            faster(1.1, roofline=0.5),
        ),
        Row("pretraining step, batch 16", "pretrain16", "1.5 x PyTorch", faster(1.5)),
        Row("pretraining step, batch 128", "pretrain128"),
        Row("segmentation, whole slices", "segment_inference"),
        Row("pretraining, whole slices", "pretrain_inference"),
        *(
            Row(
                f"an epoch, patches cut on the {place}",
                f"epoch * {place}",
                "waits for data under 2 %",
                at_most(waiting_share=0.02),
            )
            for place in ("device", "host")
        ),
        Row(
            "the paper's 35 trainings, projected",
            "projection device",
            "under 2 hours",
            at_most(hours=2.0),
        ),
        Row("the same, patches cut on the host", "projection host"),
        Row("time of a step by operation, batch 16", "profile *"),
        Row(
            "hand-written forms beside others",
            "form *",
            "none slower",
            lambda result: result["ratio"][0] <= 1,
        ),
        Row(
            "surface distances of slices beside SciPy",
            distances,
            f"at least {least:.0f} x",
            at_least(times=least),
        ),
        Row("SSIM beside scikit-image", "ssim", "at least 5 x", at_least(times=5)),
        Row("metrics of slices beside MONAI", "monai *"),
        Row("a volume, files to files", "volume"),
        Row(
            "loader beside a DataLoader",
            "loader",
            "20 x, 5,000 patches/s",
            at_least(times=20, rate=5000),
        ),
        Row(
            "preparing a case beside inflating it",
            "preparation",
            "at most 1.5 x",
            at_most(ratio=1.5),
        ),
        Row("random slices of a store beside pread", "access *"),
        Row(
            "error of a gradient in bfloat16",
            "gradients *",
            "below the noise of a batch",
            lambda result: result["error"] < result["noise"],
        ),
        # Not the run's own test set: of its six patients a few voxels decide.
        Row(
            "bfloat16 minus float32, Dice of unseen phantoms",
            "precision unseen Dice mean foreground",
            "no loss above 0.02, within two standard errors",
            loses_at_most(0.02),
        ),
        Row(
            "the same, from one network trained in float32",
            "continued mean foreground",
            "no loss above 0.01, within two standard errors",
            loses_at_most(0.01),
        ),
        Row(
            "arrays that differ after a stop and a kill",
            "resume one order",
            "none",
            at_most(differing=0),
        ),
        # Cutting is part of a dispatch of several steps, and one step is another program: both may
        # round otherwise.
        Row("arrays that differ if patches are cut in the other place", "placement one order"),
        Row("arrays that differ with one step in a dispatch", "single one order"),
        Row("command to first step, warm cache", "start", "under 10 s", at_most(seconds=10.0)),
    ]


def matching(pattern: str, results: Results) -> list[tuple[str, Result]]:
    """The results that a row shows: (their name where there are several, else '', the result)."""
    names = [name for name in results if fnmatch.fnmatchcase(name, pattern)]
    return [(name if "*" in pattern else "", results[name]) for name in names]


def as_table(
    lines: Sequence[Row], results: Results, problems: dict[str, str], small: bool = False
) -> str:
    """Markdown with a line for each row; at small size no target is judged."""
    said = [SMALL, ""] if small else []
    said += ["| what | measured | target | met |", "|---|---|---|---|"]
    for row in lines:
        found = matching(row.result, results)
        measured = "; ".join(f"{name}: {r['text']}".removeprefix(": ") for name, r in found)
        judged = [row.met(result) for _, result in found]
        met = ""
        if row.target and judged and None not in judged and not small:
            met = "yes" if all(judged) else "NO"
        said.append(f"| {row.what} | {measured or 'not measured'} | {row.target} | {met} |")
    said += [f"\n{name}: {problem}" for name, problem in problems.items()]
    return "\n".join(said)
