"""The table that gpu.py prints: its rows, their targets, and the text.

Each result of a benchmark has a field `text`, a summary. A row of the table shows the texts of the
results that it names, the target, and whether the results meet it.
"""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Result = dict[str, Any]
Results = dict[str, Result]

SMALL = "small sizes: a test that every part runs; the figures are meaningless"


class Row(NamedTuple):
    """A row of the table.

    Attributes:
      quantity: in words.
      result: pattern of the names of its results; '*' matches any text.
      target: in words; '' if there is none.
      met: whether a result meets the target; None if it cannot be decided.
    """

    quantity: str
    result: str
    target: str = ""
    met: Callable[[Result], bool | None] = lambda result: None


def faster(
    times: float, rate: float = 0.0, roofline: float = 0.0
) -> Callable[[Result], bool | None]:
    """At least `times` PyTorch's speed, `rate` images/s and the share `roofline` of the limit."""

    def met(result: Result) -> bool | None:
        if "ratio" not in result:
            return None
        fast = 1 / result["ratio"][1] >= times and result["rate"] >= rate
        return fast and result["share"] >= roofline

    return met


def at_least(**least: float) -> Callable[[Result], bool]:
    """Every named number is at least its value."""
    return lambda result: all(result[name] >= value for name, value in least.items())


def at_most(**most: float) -> Callable[[Result], bool]:
    """Every named number is at most its value."""
    return lambda result: all(result[name] <= value for name, value in most.items())


def loses_at_most(loss: float) -> Callable[[Result], bool | None]:
    """The mean of bfloat16 minus float32, less two standard errors, is above -loss."""

    def met(result: Result) -> bool | None:
        difference = np.subtract(result["bfloat16"], result["float32"])
        if len(difference) < 2:
            return None
        error = 2 * difference.std(ddof=1) / np.sqrt(len(difference))
        return bool(difference.mean() - error > -loss)

    return met


def rows(on_cpu: bool) -> list[Row]:
    """The rows of the table; on a CPU the row of surface distances shows the host's."""
    distances, least = ("asd host", 1.0) if on_cpu else ("asd device", 100.0)
    return [
        Row("ceilings of the device", "ceilings"),
        Row(
            "segmentation step, batch 16",
            "segment16",
            "1.5 x PyTorch, 6,000 patches/s",
            faster(1.5, 6000),
        ),
        Row("the same, one step per dispatch", "segment16_single"),
        Row("the same, sums in any order", "segment16_any_order"),
        Row("the same, compared with smp's U-Net", "smp"),
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
                "waiting for data under 2 %",
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
            "hand-written forms over other forms",
            "form *",
            "none slower",
            lambda result: result["ratio"][0] <= 1,
        ),
        Row(
            "surface distances of slices over SciPy",
            distances,
            f"at least {least:.0f} x",
            at_least(times=least),
        ),
        Row("SSIM over scikit-image", "ssim", "at least 5 x", at_least(times=5)),
        Row("metrics of slices over MONAI", "monai *"),
        Row("a volume, files to files", "volume"),
        Row(
            "loader over a DataLoader",
            "loader",
            "20 x, 5,000 patches/s",
            at_least(times=20, rate=5000),
        ),
        Row(
            "time to prepare a case over time to decompress it",
            "preparation",
            "at most 1.5 x",
            at_most(ratio=1.5),
        ),
        Row("random slices of a store over pread", "access *"),
        Row(
            "error of a gradient in bfloat16",
            "gradients *",
            "below the noise of a batch",
            lambda result: result["error"] < result["noise"],
        ),
        # Unseen phantoms, because the test set of six patients is too small.
        Row(
            "bfloat16 minus float32, Dice of unseen phantoms",
            "precision unseen Dice mean foreground",
            "no loss above 0.02, within two standard errors",
            loses_at_most(0.02),
        ),
        Row(
            "the same, continued from one float32 network",
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
        # No target: these runs use other compiled programs, which may round differently.
        Row("arrays that differ with the other placement of cutting", "placement one order"),
        Row("arrays that differ with one step per dispatch", "single one order"),
        Row("command to first step, warm cache", "start", "under 10 s", at_most(seconds=10.0)),
    ]


def matching(pattern: str, results: Results) -> list[tuple[str, Result]]:
    """The results that match a pattern: (name if the pattern has a '*', else ''; result)."""
    names = [name for name in results if fnmatch.fnmatchcase(name, pattern)]
    return [(name if "*" in pattern else "", results[name]) for name in names]


def as_table(
    lines: Sequence[Row], results: Results, problems: dict[str, str], small: bool = False
) -> str:
    """The table in Markdown, followed by the problems; at small size no target is evaluated."""
    text = [SMALL, ""] if small else []
    text += ["| quantity | measured | target | met |", "|---|---|---|---|"]
    for row in lines:
        found = matching(row.result, results)
        measured = "; ".join(f"{name}: {r['text']}".removeprefix(": ") for name, r in found)
        each = [row.met(result) for _, result in found]
        met = ""
        if row.target and each and None not in each and not small:
            met = "yes" if all(each) else "NO"
        text.append(f"| {row.quantity} | {measured or 'not measured'} | {row.target} | {met} |")
    text += [f"\n{name}: {problem}" for name, problem in problems.items()]
    return "\n".join(text)
