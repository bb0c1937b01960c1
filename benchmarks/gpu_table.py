"""The table that gpu.py prints: what is asked, what was measured, what bounds it."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Results = dict[str, dict[str, Any]]
SMALL = "small sizes: shows that everything runs, no figure means anything"
# Not the run's own test set: of its six patients a few voxels decide.
PRECISION = "precision unseen Dice mean foreground"


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


def _nothing(results: Results) -> str:
    return ""


def _arrays(way: str) -> Callable[[Results], str]:
    """How many arrays of a run of resume.py differ."""
    return lambda results: "{differing} of {arrays}".format(**results[f"{way} one order"])


def _faster_than(peer: str, r: dict[str, Any]) -> str:
    """Of a result whose ratio is of ours to the peer's time."""
    low, middle, high = (1 / x for x in reversed(r["ratio"]))
    spread = f" (quartiles {low:.2f} to {high:.2f})" if low < high else ""
    return f"{middle:.2f} x {peer}{spread}"


def _steps(name: str) -> Callable[[Results], str]:
    def text(results: Results) -> str:
        r = results[name]
        against = _faster_than("PyTorch", r) if "ratio" in r else "no peer"
        memory = f"{r['memory'] / 2**30:.1f} GiB"
        if "peer_memory" in r:
            memory += f", PyTorch {r['peer_memory'] / 2**30:.1f}"
        return f"{against}; {r['rate']:.0f} images/s; peak {memory}"

    return text


def _bounds(results: Results, name: str) -> tuple[float, float, float]:
    """Seconds of a step by its arithmetic, by its memory, and by its launches."""
    r, ceiling = results[name], results["ceilings"]
    return (
        r.get("least_flops", r["flops"]) / ceiling["flops"],
        r.get("least_bytes", r["bytes"]) / ceiling["bandwidth"],
        r["operations"] * ceiling["launch"],
    )


def _share(results: Results, name: str) -> float:
    """Of the roofline: the larger of arithmetic and memory, over the time taken."""
    return max(_bounds(results, name)[:2]) / results[name]["seconds"][1]


def _roofline(name: str) -> Callable[[Results], str]:
    def text(results: Results) -> str:
        arithmetic, memory, launches = (1e3 * t for t in _bounds(results, name))
        return (
            f"{_share(results, name):.0%} of the roofline: arithmetic {arithmetic:.2f}, memory "
            f"{memory:.2f} of {1e3 * results[name]['seconds'][1]:.2f} ms; "
            f"{results[name]['operations']} operations: {launches:.2f} ms to launch"
        )

    return text


def _faster(name: str, ratio: float, rate: float = 0.0) -> Callable[[Results], bool | None]:
    def met(results: Results) -> bool | None:
        r = results[name]
        return None if "ratio" not in r else 1 / r["ratio"][1] >= ratio and r["rate"] >= rate

    return met


def _half_of_roofline(results: Results) -> bool | None:
    faster = _faster("segment128", 1.1)(results)
    return faster and _share(results, "segment128") > 0.5


def _epochs(results: Results, placement: str) -> list[dict[str, Any]]:
    found = [r for n, r in results.items() if n.startswith("epoch") and n.endswith(placement)]
    if not found:
        raise KeyError(f"epoch {placement}")
    return found


def _waiting(placement: str) -> Callable[[Results], str]:
    def text(results: Results) -> str:
        return "; ".join(
            f"{r['result'].split(' ', 1)[1]}: {r['waiting_share']:.2%}, {1e3 * r['step']:.1f} ms a "
            f"step ({1e3 * r['bare']:.1f} on a batch that is there)"
            for r in _epochs(results, placement)
        )

    return text


def _waits_little(placement: str) -> Callable[[Results], bool | None]:
    return lambda results: all(r["waiting_share"] < 0.02 for r in _epochs(results, placement))


def _whole_epochs(results: Results) -> str:
    said = [
        f"{r['result'].split(' ', 1)[1]}: {_faster_than('PyTorch', r)}"
        for r in _epochs(results, "device")
        if "ratio" in r
    ]
    return "; ".join(said) or "no peer"


def _monai(results: Results) -> str:
    names = ("SSIM", "Dice", "HD95", "ASD")
    return "; ".join(f"{name} {_faster_than('MONAI', results[f'monai {name}'])}" for name in names)


def _said(name: str) -> Callable[[Results], str]:
    """What a result says of itself."""
    return lambda results: results[name]["text"]


def _start(results: Results) -> str:
    r = results["start"]
    return r["text"] + (f"; {_faster_than('PyTorch', r)}" if "ratio" in r else "")


def _cut_on_the_host(results: Results) -> str:
    found = results.get("projection host")
    return f"{found['hours']:.2f} hours if cut on the host" if found else ""


def _forms(results: Results) -> dict[str, list[float]]:
    """Time of the form in use by that of another, of each operation: quartiles."""
    found = {n.removeprefix("form "): r["ratio"] for n, r in results.items() if n[:5] == "form "}
    if not found:
        raise KeyError("forms")
    return found


def _slower_forms(results: Results) -> list[str]:
    return [f"{n} {r[1]:.2f}" for n, r in _forms(results).items() if r[0] > 1]


def _told_forms(results: Results) -> str:
    slower = _slower_forms(results)
    return f"{len(slower)} of {len(_forms(results))}" + "".join(f"; {form}" for form in slower)


def _times(name: str) -> Callable[[Results], str]:
    return lambda results: results[name]["text"]


def _at_least(name: str, field: str, least: float) -> Callable[[Results], bool | None]:
    return lambda results: results[name][field] >= least


def _at_most(name: str, field: str, most: float) -> Callable[[Results], bool | None]:
    return lambda results: results[name][field] <= most


def _trained(results: Results) -> list[dict[str, Any]]:
    """After the last number of steps of either stage."""
    found = {n.split()[1]: r for n, r in results.items() if n.startswith("gradients")}
    if not found:
        raise KeyError("gradients")
    return list(found.values())


def _gradients(results: Results) -> str:
    return "; ".join(
        f"{r['result'].split(' ', 1)[1]} steps: error {r['error']:.3f}, noise {r['noise']:.3f}, "
        f"bias {r['bias']:.3f} (chance {r['chance']:.3f})"
        for r in _trained(results)
    )


def _difference(results: Results) -> tuple[float, float]:
    """Mean over the seeds, and twice its standard error."""
    r = results[PRECISION]
    difference = np.subtract(r["bfloat16"], r["float32"])
    if len(difference) < 2:
        return float(difference.mean()), float("nan")
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return float(difference.mean()), 2 * float(error)


def _dice(results: Results) -> str:
    mean, error = _difference(results)
    number = len(results[PRECISION]["float32"])
    return f"{mean:+.4f} (+- {error:.4f}, two standard errors; {number} seeds)"


def _loses_little(results: Results) -> bool | None:
    mean, error = _difference(results)
    return None if np.isnan(error) else mean - error > -0.02


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
        Row(what, target, _steps(name), _roofline(name), _faster(name, ratio, rate))
        for what, name, target, ratio, rate in steps
    ]
    table[1:1] = [
        Row(
            "the same, a dispatch for each step",
            "",
            _steps("segment16_single"),
            lambda results: f"{1e3 * results['ceilings']['dispatch']:.3f} ms to start a program",
            lambda results: None,
        ),
        Row(
            "the same, sums in any order (train.deterministic=False)",
            "",
            _steps("segment16_any_order"),
            _nothing,
            lambda results: None,
        ),
        Row(
            "segmentation step, batch 128",
            "1.1 x, above 50 % of the roofline",
            _steps("segment128"),
            _roofline("segment128"),
            _half_of_roofline,
        ),
    ]
    table += [
        Row(
            f"waiting for data, cut on the {placement}",
            "under 2 %",
            _waiting(placement),
            _nothing,
            _waits_little(placement),
        )
        for placement in ("device", "host")
    ]
    asd, least = ("asd host", 1.0) if on_cpu else ("asd device", 100.0)
    return [
        *table,
        Row("an epoch, cut on the device", "", _whole_epochs, _nothing, lambda results: None),
        Row(
            "the paper's 35 trainings, projected",
            "under 2 hours",
            lambda results: f"{results['projection device']['hours']:.2f} hours",
            _cut_on_the_host,
            _at_most("projection device", "hours", 2.0),
        ),
        *(
            Row(
                f"where a step's time goes: {stage}, batch 16",
                "",
                _said(f"profile {stage}"),
                _nothing,
                lambda results: None,
            )
            for stage in ("segment", "pretrain")
        ),
        Row(
            "forms in use that are slower than another",
            "none",
            _told_forms,
            _nothing,
            lambda results: not _slower_forms(results),
        ),
        Row(
            "surface distances of slices, against SciPy",
            f"at least {least:.0f} x",
            _times(asd),
            _nothing,
            _at_least(asd, "times", least),
        ),
        Row(
            "SSIM, against scikit-image",
            "5 x",
            _times("ssim"),
            _nothing,
            _at_least("ssim", "times", 5),
        ),
        Row("metrics of slices, against MONAI", "", _monai, _nothing, lambda results: None),
        Row("a volume, files to files", "", _times("volume"), _nothing, lambda results: None),
        Row(
            "loader, against a DataLoader",
            "20 x, 5,000 patches/s",
            _times("loader"),
            _nothing,
            lambda r: r["loader"]["times"] >= 20 and r["loader"]["rate"] >= 5000,
        ),
        Row(
            "preparing a case, against inflating it",
            "at most 1.5 x",
            _times("preparation"),
            _nothing,
            _at_most("preparation", "ratio", 1.5),
        ),
        Row(
            "bfloat16's error of a gradient, in training",
            "below the noise of a batch",
            _gradients,
            _nothing,
            lambda r: all(found["error"] < found["noise"] for found in _trained(r)),
        ),
        Row(
            "bfloat16 minus float32, Dice of phantoms that no run has seen",
            "no loss above 0.02, within two standard errors",
            _dice,
            _nothing,
            _loses_little,
        ),
        Row(
            "arrays that differ after a stop and a kill",
            "none",
            _arrays("resume"),
            _nothing,
            lambda r: r["resume one order"]["differing"] == 0,
        ),
        # Of several steps in a dispatch the cutting is part, and one step is another program:
        # they may round otherwise.
        Row(
            "arrays that differ if the other place cuts the patches",
            "",
            _arrays("placement"),
            _nothing,
            lambda results: None,
        ),
        Row(
            "arrays that differ with one step in a dispatch",
            "",
            _arrays("single"),
            _nothing,
            lambda results: None,
        ),
        Row(
            "command to first step, warm cache",
            "under 10 s",
            _start,
            _nothing,
            _at_most("start", "seconds", 10.0),
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
