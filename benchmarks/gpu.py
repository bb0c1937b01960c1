"""Every row of the target table on one accelerator: measured, target, limit, in one table.

    python benchmarks/gpu.py --peer_python=TORCH_VENV/bin/python   # an hour or two
    python benchmarks/gpu.py --parts=ceilings,surfaces,ssim --small       # a look, also on CPU

Each part is a benchmark of this folder in a process of its own with a time limit, so that one
that fails or hangs does not end the others; what it printed goes to --log. Parts run one after
another: nothing else should run on the machine. --real=DIR takes BraTS cases for volumes and
surfaces in place of a phantom. What store prints is in the log alone; smp needs
segmentation_models_pytorch beside torch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import measure
from gpu_table import Results, as_table, rows

from brats_jax import feeding

HERE = Path(__file__).parent
PATCH = 128


class Part(NamedTuple):
    """One benchmark.

    Attributes:
      script, full, small: its file, and its arguments at full and at small size.
      minutes: what it may take.
      needs_peer, takes_peer: it does not run, or has less to say, without --peer_python.
    """

    script: str
    full: tuple[str, ...]
    small: tuple[str, ...]
    minutes: float = 6.0
    needs_peer: bool = False
    takes_peer: bool = False


def _step(stage: str, batch: int, *more: str, minutes: float = 20.0) -> Part:
    dispatch = feeding.accelerators_steps(batch, PATCH)
    full = (f"--stage={stage}", f"--batch={batch}", f"--steps={8 * dispatch}", "--turns=10", *more)
    small = (f"--stage={stage}", "--width=4", "--batch=2", "--patch=32", "--turns=2", *more)
    # On CPU compiling the peer takes minutes.
    small += (f"--steps={dispatch}", "--peer_form=eager")
    return Part("train_step.py", full, small, minutes, takes_peer=True)


def _scan(stage: str, batch: int, *more: str) -> Part:
    """As training has them: several steps in a dispatch."""
    dispatch = feeding.accelerators_steps(batch, PATCH)
    return _step(stage, batch, f"--steps_per_dispatch={dispatch}", *more)


def _epoch(placement: str) -> Part:
    # As long as an epoch of the paper's: what was read ahead before it does not count for much.
    full = ("--patients=24", "--shape=155,240,240", "--steps=1037", f"--placement={placement}")
    small = ("--width=4", "--batch=2", "--patch=32", "--steps=4", "--shape=16,48,48")
    device = placement == "device"
    more = ("--losses=dice_ce,dice_focal,focal",) if device else ()
    small += (f"--placement={placement}",)
    return Part("epoch.py", (*full, *more), small, 40.0 if device else 10.0, takes_peer=device)


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
        small=("--batch=2", "--patch=32", "--steps=1", "--turns=2", "--peer=smp")
    ),
    "forms": Part("forms.py", ("--batch=16",), ("--width=4", "--batch=2", "--turns=1"), 15.0),
    "store": Part("store_access.py", (), ("--patients=1", "--turns=1")),
    "surfaces": Part("surface_distances.py", (), ("--shape=16,48,48", "--turns=1")),
    "ssim": Part("metrics.py", (), ("--shape=16,48,48", "--turns=2")),
    "volume": Part("volume_inference.py", (), ("--width=4", "--cases=1", "--slices=4")),
    "loader": Part("loader.py", (), ("--slices=16", "--patients=1", "--turns=1"), needs_peer=True),
    "preparation": Part("preparation.py", (), ("--shape=16,48,48", "--turns=1")),
    "gradients": Part(
        "gradients.py",
        ("--width=64", "--batch=16", "--patch=128", "--shape=155,240,240", "--patients=4"),
        ("--width=4", "--batches=2", "--after=0,2", "--patients=2"),
        10.0,
    ),
    "precision": Part(
        "precision.py",
        ("--seeds=5", "--width=64", "--steps=4000", "--patch=96", "--shape=64,120,120"),
        ("--seeds=2", "--width=4", "--steps=4", "--pretrain_steps=4", "--patients=8"),
        30.0,
    ),
    "resume": Part(
        "resume.py",
        ("--width=64", "--batch=16", "--patch=128", "--shape=32,240,240"),
        ("--width=4", "--batch=2", "--patch=32", "--shape=16,48,48", "--steps=300"),
        30.0,
    ),
    "start": Part("start.py", (), ("--width=4", "--patch=32", "--turns=1"), takes_peer=True),
}


def run_part(
    name: str, part: Part, arguments: argparse.Namespace, folder: Path
) -> tuple[Results, str]:
    """(its results, what went wrong or '')."""
    where = folder / f"{name}.jsonl"
    command = [sys.executable, str(HERE / part.script)]
    command += part.small if arguments.small else part.full
    if part.takes_peer or part.needs_peer:
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
