"""Seconds, processor seconds and memory of `predict`, as a whole command.

    python benchmarks/predict_command.py --checkpoint=RUN --input=CASE
    python benchmarks/predict_command.py --checkpoint=RUN --input=CASE --other=CHECKOUT

CASE is one case, or a folder of several, whose seconds are then printed by case as well. Measured
from the start of Python to its end, with picture and page; --flags takes further flags of predict.
The first run fills the cache of compiled programs and is not counted. --other alternates with
another checkout of this repository, and compares the labels: on a machine in use, only such pairs
and processor times can be compared.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import measure
from benchmarks.measure import Spread

ROOT = Path(__file__).parents[1]
# Runs the command, and prints its own usage at the end. Memory is in kilobytes.
_COMMAND = """
import atexit, json, resource, runpy, sys, time
def tell():
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]), file=sys.stderr)
atexit.register(tell)
sys.argv[0] = "predict"
runpy.run_module("brats_jax.predict", run_name="__main__", alter_sys=True)
"""


def predict(checkout: Path, flags: list[str], output: Path) -> tuple[float, float, float]:
    """Runs the command of a checkout: seconds, processor seconds, GiB."""
    command = [sys.executable, "-c", _COMMAND, *flags, f"--output={output}"]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done: list[subprocess.CompletedProcess[str]] = []
    seconds = measure.timed(
        lambda: done.append(
            subprocess.run(
                command, env=environment, cwd=output.parent, capture_output=True, text=True
            )
        )
    )
    if done[0].returncode:
        raise SystemExit(done[0].stderr)
    processor, kilobytes = json.loads(done[0].stderr.splitlines()[-1])
    return seconds, processor, kilobytes / 2**20


def labels_in(folder: Path) -> bytes:
    """The voxels of the segmentations in a folder, by the order of their names."""
    import nibabel

    paths = sorted(folder.glob("*_seg.nii.gz"))
    return b"".join(np.asarray(nibabel.load(path).dataobj).tobytes() for path in paths)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="run, exported weights, or a name")
    parser.add_argument("--input", type=Path, required=True, help="one case, or a folder of some")
    parser.add_argument("--flags", default="", help="further flags of predict, as one text")
    parser.add_argument("--other", type=Path, help="another checkout of this repository")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args(arguments)
    checkouts = {"this": ROOT} | ({"other": given.other.resolve()} if given.other else {})
    # The command runs in another folder; the name of a ready model is none.
    path = Path(given.checkpoint)
    checkpoint = path.resolve() if path.exists() else given.checkpoint
    flags = [f"--checkpoint={checkpoint}", f"--input={given.input.resolve()}"]
    flags += ["--picture", "--page", *given.flags.split()]
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in checkouts}
    labels, cases = set(), 0
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(given.turns + 1):
            for name, checkout in checkouts.items():
                output = Path(folder) / f"{name}_{turn}"
                found[name].append(predict(checkout, flags, output))
                labels.add(labels_in(output))
                cases = len(list(output.glob("*_seg.nii.gz")))
    for name, rows in found.items():
        seconds, processor, memory = zip(*rows[1:], strict=True)
        print(
            f"{name}: {Spread.of(seconds).show(digits=2)} s, processor "
            f"{Spread.of(processor).show(digits=2)} s, at most {max(memory):.2f} GiB; first run "
            f"{rows[0][0]:.1f} s"
        )
        if cases > 1:
            each = [one / cases for one in seconds]
            print(f"{name}: {Spread.of(each).show(digits=2)} s a case of {cases}")
    if given.other:
        ours, theirs = ([row[1] for row in found[name][1:]] for name in ("this", "other"))
        print(f"processor time, this / other: {measure.ratio(ours, theirs).show(digits=2)}")
    print("labels: the same in every run" if len(labels) == 1 else "labels: THEY DIFFER")
    print(f"  {measure.where()}")


if __name__ == "__main__":
    main()
