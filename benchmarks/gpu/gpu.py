"""Runs all benchmarks on one accelerator and prints a table of measured values and targets.

    python benchmarks/gpu/gpu.py --peer_python=TORCH_VENV/bin/python   # an hour or two
    python benchmarks/gpu/gpu.py --parts=ceilings,surfaces,ssim --small       # a test on a CPU

Each part is a benchmark script in a process of its own with a time limit, so that a part that fails
or hangs does not end the others. Their output goes to --log. Parts run in sequence; nothing else
should run on the machine.

The results are appended to --results, also when this script is stopped. The table joins the newest
result of each part over all runs on this machine, and lists the parts that ran with another version
of the repository. --parts= (empty) only prints the table. --real=DIR uses BraTS cases instead of a
phantom for volumes, surfaces and preparation. The part `smp` needs segmentation_models_pytorch in
the environment of --peer_python.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import measure
from benchmarks.gpu import kept_results
from benchmarks.gpu.targets import Results, as_table, rows
from brats_jax.training import feed

FOLDER = Path(__file__).parents[1]  # benchmarks/
PATCH = 128
EAGER = "--peer_form=eager"  # for small sizes: compiling the peer takes minutes on a CPU
GRACE = 10.0  # seconds for a stopped part to remove its files
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Part(NamedTuple):
    """One benchmark.

    Attributes:
      script: its path in benchmarks/.
      full: its arguments at full size.
      small: its arguments at small size.
      minutes: its time limit.
      needs_peer: it cannot run without --peer_python.
      takes_peer: it accepts --peer_python.
      takes_real: it accepts --real.
    """

    script: str
    full: tuple[str, ...]
    small: tuple[str, ...]
    minutes: float = 6.0
    needs_peer: bool = False
    takes_peer: bool = False
    takes_real: bool = False


def _step(stage: str, batch: int, *more: str, minutes: float = 20.0) -> Part:
    dispatch = feed.default_steps_per_dispatch(batch, PATCH)
    full = (f"--stage={stage}", f"--batch={batch}", f"--steps={8 * dispatch}", "--turns=10", *more)
    small = (f"--stage={stage}", "--width=4", "--batch=2", "--patch=32", "--turns=2", *more)
    small += (f"--steps={dispatch}", EAGER)
    return Part("train_step.py", full, small, minutes, takes_peer=True)


def _scan(stage: str, batch: int, *more: str) -> Part:
    """A part with several steps per dispatch, as in training on an accelerator."""
    dispatch = feed.default_steps_per_dispatch(batch, PATCH)
    return _step(stage, batch, f"--steps_per_dispatch={dispatch}", *more)


def _epoch(placement: str) -> Part:
    # An epoch has as many steps as the paper's, so that batches prefetched before it matter little.
    # The peer's epoch takes as long as its processes need to read the slices: two minutes on two
    # cores, 16 times in the four runs of `device`.
    where = f"--placement={placement}"
    full = (where, "--patients=24", "--shape=155,240,240", "--steps=1037")
    sizes = ("--width=4", "--batch=2", "--patch=32", "--shape=16,48,48")
    small = (where, *sizes, "--steps=4", "--turns=2")
    if placement == "host":
        return Part("epoch.py", full, small, 15.0)
    losses = "--losses=dice_ce,dice_focal,focal"
    return Part("epoch.py", (*full, losses), (*small, losses), 60.0, takes_peer=True)


def _profile(stage: str) -> Part:
    dispatch = f"--steps_per_dispatch={feed.default_steps_per_dispatch(16, PATCH)}"
    full = (f"--stage={stage}", "--batch=16", dispatch, "--top=20")
    small = (f"--stage={stage}", "--width=4", "--batch=2", "--patch=32", "--dispatches=2")
    return Part("profile_step.py", full, small)


FORWARD = "--mode=inference"
PARTS: dict[str, Part] = {
    "ceilings": Part("measure.py", (), ()),
    "segment16": _scan("segment", 16),
    "segment16_single": _step("segment", 16),
    "segment16_any_order": _scan("segment", 16, "--any_order"),
    "segment128": _scan("segment", 128),
    "pretrain16": _scan("pretrain", 16),
    "pretrain128": _scan("pretrain", 128),
    "segment_inference": _step("segment", 32, FORWARD),
    "pretrain_inference": _step("pretrain", 32, FORWARD),
    "epoch_device": _epoch("device"),
    "epoch_host": _epoch("host"),
    "smp": _scan("segment", 16, "--peer=smp")._replace(
        small=("--batch=2", "--patch=32", "--steps=1", "--turns=2", "--peer=smp", EAGER)
    ),
    **{f"profile_{stage}": _profile(stage) for stage in ("segment", "pretrain")},
    "forms": Part("forms.py", ("--batch=16",), ("--width=4", "--batch=2", "--turns=1"), 15.0),
    "store": Part("store_access.py", (), ("--patients=1", "--turns=1")),
    "surfaces": Part(
        "surface_distances.py", (), ("--shape=16,48,48", "--turns=1"), takes_real=True
    ),
    "ssim": Part("metrics.py", (), ("--shape=16,48,48", "--turns=2"), takes_peer=True),
    "volume": Part(
        "volume_inference.py",
        (),
        ("--width=4", "--cases=1", "--slices=4", "--turns=2"),
        takes_peer=True,
        takes_real=True,
    ),
    "loader": Part("loader.py", (), ("--slices=16", "--patients=1", "--turns=1"), needs_peer=True),
    "preparation": Part("preparation.py", (), ("--shape=16,48,48", "--turns=1"), takes_real=True),
    "gradients": Part(
        "numerics/gradients.py",
        ("--width=64", "--batch=16", "--patch=128", "--shape=155,240,240", "--patients=4"),
        ("--width=4", "--batches=2", "--after=0,2", "--patients=2"),
        10.0,
    ),
    # Estimate: 16 trainings of 15 s (4,200 steps of 3 to 4 ms), each with 15 s to test about 1,600
    # unseen slices in both types and 15 s to start; 5 to 10 minutes to compile for both types; 1
    # minute for 80 phantoms; 20 minutes in total, twice that on a slow host.
    "precision": Part(
        "numerics/precision.py",
        ("--seeds=8", "--width=64", "--steps=4000", "--patch=96", "--shape=64,120,120"),
        ("--seeds=2", "--width=4", "--steps=4", "--pretrain_steps=4", "--patients=8", "--unseen=2"),
        60.0,
    ),
    # Estimate: 12 minutes for 4 trainings of 4,200 steps and 16 of 2,000, tested in one type.
    "continued": Part(
        "numerics/continued.py",
        ("--seeds=4", "--width=64", "--steps=4000", "--patch=96", "--shape=64,120,120"),
        (
            *("--seeds=1", "--width=4", "--steps=4", "--pretrain_steps=4", "--patients=8"),
            *("--unseen=2", "--continuations=1"),
        ),
        40.0,
    ),
    "resume": Part(
        "gpu/resume.py",
        ("--width=64", "--batch=16", "--patch=128", "--shape=32,240,240"),
        ("--width=4", "--batch=2", "--patch=32", "--shape=16,48,48", "--steps=300"),
        30.0,
    ),
    "start": Part("start.py", (), ("--width=4", "--patch=32", "--turns=1"), takes_peer=True),
}


def arguments_of(part: Part, arguments: argparse.Namespace) -> list[str]:
    """The command-line arguments of a part's script."""
    found = list(part.small if arguments.small else part.full)
    if arguments.peer_python and (part.takes_peer or part.needs_peer):
        found.append(f"--peer_python={arguments.peer_python}")
    if arguments.real and part.takes_real:
        found.append(f"--real={arguments.real}")
    return found


def run_part(name: str, part: Part, arguments: argparse.Namespace, results: Path) -> str:
    """Runs a part, which writes its results to a file; returns its problem, or ''."""
    if part.needs_peer and not arguments.peer_python:
        return "needs --peer_python"
    command = [sys.executable, str(FOLDER / part.script), *arguments_of(part, arguments)]
    environment = {
        # Leaves device memory for the process of the peer.
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.6",
        **os.environ,
        "PYTHONPATH": str(FOLDER.parent),
        measure.RESULTS: str(results),
    }
    limit = 60 * part.minutes * arguments.patience
    start = time.perf_counter()
    problem = "stopped"
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
        finally:  # no process may go on using the device
            if problem:
                measure.end_group(process, GRACE)
    print(f"{name}: {problem or 'done'}, {time.perf_counter() - start:.0f} s", flush=True)
    return problem


def read_results(name: str, results: Path) -> Results:
    """The results that a part has written."""
    text = results.read_text() if results.exists() else ""
    whole = text[: text.rfind("\n") + 1]  # drops a line that a kill left incomplete
    found = {record["result"]: record for record in map(json.loads, whole.splitlines())}
    if PARTS[name].script == "train_step.py":  # its only result is named after the part
        found = dict.fromkeys([name], *found.values()) if found else {}
    return found


def show(results: Path, small: bool) -> str:
    """Prints and returns the table of all kept results."""
    kept = kept_results.joined(results, small)
    on_cpu = any(record.get("backend") == "cpu" for record in kept.results.values())
    text = as_table(rows(on_cpu), kept.results, kept.problems, small)
    text = "\n".join([kept.where, "", text, *(f"\n{note}" for note in kept.notes)])
    print(f"\n{text}", flush=True)
    return text


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peer_python", help="Python with torch and h5py; without it, no peer is measured"
    )
    parser.add_argument("--real", type=Path, help="folder of BraTS cases")
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="names of the parts to run; empty: print the table"
    )
    parser.add_argument("--small", action="store_true", help="small sizes, to test the script")
    parser.add_argument("--log", type=Path, default=Path("gpu_benchmark.log"))
    parser.add_argument(
        "--results", type=Path, help="file to append results to; default: --log with .jsonl"
    )
    parser.add_argument("--patience", type=float, default=1.0, help="factor of the time limits")
    return parser


def main(argv: list[str] | None = None) -> str:
    """Runs the parts; prints and returns the table."""
    arguments = parser().parse_args(argv)
    names = [name for name in arguments.parts.split(",") if name]
    if unknown := [name for name in names if name not in PARTS]:
        parser().error(f"unknown parts {', '.join(unknown)}; valid: {', '.join(PARTS)}")
    suffix = ".small.jsonl" if arguments.small else ".jsonl"
    results = arguments.results or arguments.log.with_suffix(suffix)
    text = ""
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                written, problem = Path(folder) / name, "stopped"
                try:
                    problem = run_part(name, PARTS[name], arguments, written)
                finally:
                    found = read_results(name, written)
                    kept_results.add(results, name, arguments.small, found, problem)
    finally:
        text = show(results, arguments.small)
    return text


def stop(number: int, frame: object) -> None:
    """Signal handler: ends the running part, prints the table and exits."""
    for each in STOPS:  # ignores further signals while it cleans up
        signal.signal(each, signal.SIG_IGN)
    print(f"stopped by {signal.Signals(number).name}", flush=True)
    sys.exit(128 + number)


if __name__ == "__main__":
    for number in STOPS:
        # nohup sets SIGHUP to be ignored.
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    main()
