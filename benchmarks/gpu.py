"""Every row of the target table on one accelerator: measured, target, limit, in one table.

    python benchmarks/gpu.py --peer_python=TORCH_VENV/bin/python          # about half an hour
    python benchmarks/gpu.py --parts=ceilings,surfaces,ssim --small       # a look, also on CPU

Each part is a benchmark of this folder in a process of its own with a time limit, so that one
that fails or hangs does not end the others; what it printed goes to --log. Parts run one after
another: nothing else should run on the machine. --real=DIR takes BraTS cases for volumes and
surfaces in place of a phantom.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import measure

HERE = Path(__file__).parent
Results = dict[str, dict[str, Any]]


class Part(NamedTuple):
    """One benchmark: its script and arguments at full and at small size."""

    script: str
    full: tuple[str, ...]
    small: tuple[str, ...]
    minutes: float = 6.0
    needs_peer: bool = False


def _step(stage: str, batch: int, *more: str, minutes: float = 8.0) -> Part:
    steps = 200 if batch <= 16 else 50
    full = (f"--stage={stage}", f"--batch={batch}", f"--steps={steps}", "--turns=10", *more)
    small = (f"--stage={stage}", "--width=4", "--batch=2", "--patch=32", "--steps=10", "--turns=2")
    small += ("--peer_form=eager",)  # on CPU compiling the peer takes minutes
    return Part("train_step.py", full, (*small, *more), minutes)


def _epoch(placement: str) -> Part:
    full = ("--patients=24", "--shape=155,240,240", "--steps=200", f"--placement={placement}")
    small = ("--width=4", "--batch=2", "--patch=32", "--steps=4", "--shape=16,48,48")
    more = ("--losses=dice_ce,dice_focal,focal",) if placement == "device" else ()
    return Part("epoch.py", (*full, *more), (*small, f"--placement={placement}"), 10.0)


SCAN = "--steps_per_dispatch=10"
FORWARD = "--mode=inference"
PARTS: dict[str, Part] = {
    "ceilings": Part("measure.py", (), ()),
    "segment16": _step("segment", 16, SCAN),
    "segment16_single": _step("segment", 16),
    "segment128": _step("segment", 128, SCAN),
    "pretrain16": _step("pretrain", 16, SCAN),
    "pretrain128": _step("pretrain", 128, SCAN),
    "segment_inference": _step("segment", 32, FORWARD),
    "pretrain_inference": _step("pretrain", 32, FORWARD),
    "epoch_device": _epoch("device"),
    "epoch_host": _epoch("host"),
    "surfaces": Part("surface_distances.py", (), ("--shape=16,48,48", "--turns=1")),
    "ssim": Part("metrics.py", (), ("--shape=16,48,48", "--turns=2")),
    "volume": Part("volume_inference.py", (), ("--width=4", "--cases=1", "--slices=4")),
    "loader": Part("loader.py", (), ("--slices=16", "--patients=1", "--turns=1"), needs_peer=True),
    "preparation": Part("preparation.py", (), ("--shape=16,48,48", "--turns=1")),
    "start": Part("start.py", (), ("--width=4", "--patch=32", "--turns=1")),
}


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


def _steps(name: str) -> Callable[[Results], str]:
    def text(results: Results) -> str:
        r = results[name]
        against = "no peer"
        if "ratio" in r:
            low, middle, high = (1 / x for x in reversed(r["ratio"]))
            against = f"{middle:.2f} x PyTorch (quartiles {low:.2f} to {high:.2f})"
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


def _times(name: str) -> Callable[[Results], str]:
    return lambda results: results[name]["text"]


def _at_least(name: str, field: str, least: float) -> Callable[[Results], bool | None]:
    return lambda results: results[name][field] >= least


def _at_most(name: str, field: str, most: float) -> Callable[[Results], bool | None]:
    return lambda results: results[name][field] <= most


def rows(on_cpu: bool) -> list[Row]:
    """The table's lines."""
    steps = [
        ("segmentation step, batch 16", "segment16", "1.5 x, 6,000 patches/s", 1.5, 6000),
        ("pretext step, batch 16", "pretrain16", "1.5 x", 1.5, 0),
        ("pretext step, batch 128", "pretrain128", "", 0, 0),
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
        Row(
            "the paper's 35 trainings, projected",
            "under 2 hours",
            lambda results: f"{results['projection']['hours']:.2f} hours",
            _nothing,
            _at_most("projection", "hours", 2.0),
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
            "command to first step, warm cache",
            "under 10 s",
            _times("start"),
            _nothing,
            _at_most("start", "seconds", 10.0),
        ),
    ]


def run_part(
    name: str, part: Part, arguments: argparse.Namespace, folder: Path
) -> tuple[Results, str]:
    """(its results, what went wrong or '')."""
    where = folder / f"{name}.jsonl"
    command = [sys.executable, str(HERE / part.script)]
    command += part.small if arguments.small else part.full
    if part.script == "train_step.py" or part.needs_peer:
        if arguments.peer_python:
            command.append(f"--peer_python={arguments.peer_python}")
        elif part.needs_peer:
            return {}, "needs --peer_python"
    if part.script in ("surface_distances.py", "volume_inference.py", "preparation.py"):
        command += [f"--real={arguments.real}"] if arguments.real else []
    if part.script == "volume_inference.py" and arguments.peer_python:
        command.append(f"--torch_python={arguments.peer_python}")
    environment = {
        # The peer's process needs memory of the same device.
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.6",
        **os.environ,
        "PYTHONPATH": str(HERE.parent),
        measure.RESULTS: str(where),
    }
    limit = 60 * part.minutes * arguments.patience
    start = time.perf_counter()
    problem = ""
    with open(arguments.log, "a") as log:
        print(f"\n== {name}: {' '.join(command)}", file=log, flush=True)
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(limit)
            problem = f"ended with status {status}" if status else ""
        except subprocess.TimeoutExpired:
            problem = f"took longer than {limit:.0f} s"
        if problem:  # its peer with it
            measure.end_group(process)
    print(f"{name}: {problem or 'done'}, {time.perf_counter() - start:.0f} s", flush=True)
    lines = where.read_text().splitlines() if where.exists() else []
    found = {record["result"]: record for record in map(json.loads, lines)}
    if part.script == "train_step.py":  # one result, whatever the size
        found = dict.fromkeys([name], *found.values()) if found else {}
    return found, problem


def as_table(lines: list[Row], results: Results, problems: dict[str, str]) -> str:
    """Markdown: one line for each row, those without a number too."""
    said = ["| what | measured | target | met | limit |", "|---|---|---|---|---|"]
    for row in lines:
        try:
            cells = (row.measured(results), row.target, row.met(results), row.limit(results))
        except KeyError as error:
            cells = (f"not measured ({error.args[0]})", row.target, None, "")
        measured, target, met, limit = cells
        answer = {True: "yes", False: "NO", None: ""}[met] if target else ""
        said.append(f"| {row.what} | {measured} | {target} | {answer} | {limit} |")
    said += [f"\n{name}: {problem}" for name, problem in problems.items()]
    return "\n".join(said)


def main(argv: list[str] | None = None) -> str:
    """Runs the parts and prints the table, which it returns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer_python", help="a Python with torch and h5py; without it only ours")
    parser.add_argument("--real", type=Path, help="folder of BraTS cases")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, by name")
    parser.add_argument("--small", action="store_true", help="narrow and few: does it run?")
    parser.add_argument("--log", type=Path, default=Path("gpu_benchmark.log"))
    parser.add_argument("--patience", type=float, default=1.0, help="multiplies the time limits")
    arguments = parser.parse_args(argv)
    names = arguments.parts.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"unknown parts {', '.join(unknown)}; valid: {', '.join(PARTS)}")
    results: Results = {}
    problems: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            found, problem = run_part(name, PARTS[name], arguments, Path(folder))
            results.update(found)
            if problem:
                problems[name] = problem
    here = results.get("ceilings", {})
    text = as_table(rows(here.get("backend", "cpu") == "cpu"), results, problems)
    print()
    if here:
        print(here["where"] + "\n" + here["text"] + "\n")
    print(text)
    return text


if __name__ == "__main__":
    main()
