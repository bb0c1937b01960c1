"""The table that gpu.py prints: what is asked, what was measured, what bounds it."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.gpu import gpu_measured as of
from benchmarks.gpu.gpu_measured import Results

SMALL = "small sizes: shows that everything runs, no figure means anything"


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      what, target: as in README.md.
      measured: text from the results; KeyError where a part is missing.
      limit: what bounds it, from the same run.
      met: whether the target is; None where nothing is asked.
    """

    what: str
    target: str
    measured: Callable[[Results], str]
    limit: Callable[[Results], str]
    met: Callable[[Results], bool | None]


def rows(on_cpu: bool) -> list[Row]:
    """The table's lines."""
    steps = [
        ("segmentation step, batch 16", "segment16", "1.5 x, 6,000 patches/s", 1.5, 6000),
        ("pretext step, batch 16", "pretrain16", "1.5 x", 1.5, 0),
        ("pretext step, batch 128", "pretrain128", "", 0, 0),
        ("segmentation step, batch 16, beside smp's U-Net", "smp", "", 0, 0),
        ("segmentation, whole slices", "segment_inference", "", 0, 0),
        ("pretext, whole slices", "pretrain_inference", "", 0, 0),
    ]
    table = [
        Row(what, target, of.steps(name), of.roofline(name), of.faster(name, ratio, rate))
        for what, name, target, ratio, rate in steps
    ]
    table[1:1] = [
        Row(
            "the same, a dispatch for each step",
            "",
            of.steps("segment16_single"),
            lambda results: f"{1e3 * results['ceilings']['dispatch']:.3f} ms to start a program",
            lambda results: None,
        ),
        Row(
            "the same, sums in any order (train.deterministic=False)",
            "",
            of.steps("segment16_any_order"),
            of.nothing,
            lambda results: None,
        ),
        Row(
            "segmentation step, batch 128",
            "1.1 x, above 50 % of the roofline",
            of.steps("segment128"),
            of.roofline("segment128"),
            of.half_of_roofline,
        ),
    ]
    table += [
        Row(
            f"waiting for data, cut on the {placement}",
            "under 2 %",
            of.waiting(placement),
            of.nothing,
            of.waits_little(placement),
        )
        for placement in ("device", "host")
    ]
    asd, least = ("asd host", 1.0) if on_cpu else ("asd device", 100.0)
    return [
        *table,
        Row("an epoch, cut on the device", "", of.whole_epochs, of.nothing, lambda results: None),
        Row(
            "the paper's 35 trainings, projected",
            "under 2 hours",
            lambda results: f"{results['projection device']['hours']:.2f} hours",
            of.cut_on_the_host,
            of.at_most("projection device", "hours", 2.0),
        ),
        *(
            Row(
                f"where a step's time goes: {stage}, batch 16",
                "",
                of.said(f"profile {stage}"),
                of.nothing,
                lambda results: None,
            )
            for stage in ("segment", "pretrain")
        ),
        Row(
            "forms in use that are slower than another",
            "none",
            of.told_forms,
            of.nothing,
            lambda results: not of.slower_forms(results),
        ),
        Row(
            "surface distances of slices, against SciPy",
            f"at least {least:.0f} x",
            of.said(asd),
            of.nothing,
            of.at_least(asd, "times", least),
        ),
        Row(
            "SSIM, against scikit-image",
            "5 x",
            of.said("ssim"),
            of.nothing,
            of.at_least("ssim", "times", 5),
        ),
        Row("metrics of slices, against MONAI", "", of.monai, of.nothing, lambda results: None),
        Row("a volume, files to files", "", of.said("volume"), of.nothing, lambda results: None),
        Row(
            "loader, against a DataLoader",
            "20 x, 5,000 patches/s",
            of.said("loader"),
            of.nothing,
            lambda r: r["loader"]["times"] >= 20 and r["loader"]["rate"] >= 5000,
        ),
        Row(
            "preparing a case, against inflating it",
            "at most 1.5 x",
            of.said("preparation"),
            of.nothing,
            of.at_most("preparation", "ratio", 1.5),
        ),
        Row(
            "bfloat16's error of a gradient, in training",
            "below the noise of a batch",
            of.gradients,
            of.nothing,
            lambda r: all(found["error"] < found["noise"] for found in of.trained(r)),
        ),
        Row(
            "bfloat16 minus float32, Dice of phantoms that no run has seen",
            "no loss above 0.02, within two standard errors",
            of.dice(of.PRECISION),
            of.nothing,
            of.loses_less(of.PRECISION, 0.02),
        ),
        Row(
            "the same, both going on from the same network trained in float32",
            "no loss above 0.01, within two standard errors",
            of.dice(of.CONTINUED),
            of.nothing,
            of.loses_less(of.CONTINUED, 0.01),
        ),
        Row(
            "arrays that differ after a stop and a kill",
            "none",
            of.arrays("resume"),
            of.nothing,
            lambda r: r["resume one order"]["differing"] == 0,
        ),
        # Of several steps in a dispatch the cutting is part, and one step is another program:
        # they may round otherwise.
        Row(
            "arrays that differ if the other place cuts the patches",
            "",
            of.arrays("placement"),
            of.nothing,
            lambda results: None,
        ),
        Row(
            "arrays that differ with one step in a dispatch",
            "",
            of.arrays("single"),
            of.nothing,
            lambda results: None,
        ),
        Row(
            "command to first step, warm cache",
            "under 10 s",
            of.start,
            of.nothing,
            of.at_most("start", "seconds", 10.0),
        ),
    ]


def as_table(
    lines: list[Row], results: Results, problems: dict[str, str], small: bool = False
) -> str:
    """Markdown: one line for each row, those without a number too; at small size nothing is met."""
    said = [SMALL, ""] if small else []
    said += ["| what | measured | target | met | limit |", "|---|---|---|---|---|"]
    for row in lines:
        measured, met, limit = "", None, ""
        try:
            measured = row.measured(results)
            # The ceilings may be missing, by which it is bounded, and by which one is judged.
            with contextlib.suppress(KeyError):
                limit = row.limit(results)
            with contextlib.suppress(KeyError):
                met = row.met(results)
        except KeyError as error:
            measured = f"not measured ({error.args[0]})"
        answer = {True: "yes", False: "NO", None: ""}[met] if row.target and not small else ""
        said.append(f"| {row.what} | {measured} | {row.target} | {answer} | {limit} |")
    said += [f"\n{name}: {problem}" for name, problem in problems.items()]
    return "\n".join(said)
