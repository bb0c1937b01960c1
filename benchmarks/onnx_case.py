"""Seconds of the exported ONNX program for a case, beside those of the package, and its labels.

    python benchmarks/onnx_case.py --checkpoint=small --input=DIR

From raw slices in memory to labels: normalisation, network and decision of both. onnxruntime has
as many threads as there are cores. Each turn runs both; on a machine in use, the ratio of processor
times tells more than that of times.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks import measure
from brats_jax.inference import onnx_graph, onnx_program
from brats_jax.inference.inputs import find_cases
from brats_jax.inference.model import Model
from brats_jax.inference.open_by_name import open_model
from brats_jax.runtime import devices

_CLOCKS = (time.perf_counter, time.process_time)


def both_times(run: Callable[[], np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """The result of a run, its seconds and its processor seconds of all threads."""
    before = [clock() for clock in _CLOCKS]
    found = run()
    return found, [clock() - start for clock, start in zip(_CLOCKS, before, strict=True)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="run, exported weights or a name")
    parser.add_argument("--input", type=Path, required=True, help="folder of one or several cases")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--cases", type=int, default=0, help="number of cases; 0 for all")
    given = parser.parse_args(arguments)
    devices.keep_freed_memory()  # as the commands do
    trained = open_model(given.checkpoint, "segment", devices.data_mesh(), dtype="float32")
    model = Model(trained)
    program = onnx_graph.session(onnx_program.program(trained, trained.slice_shape or (240, 240)))
    cases = find_cases(given.input)
    seconds: dict[str, list[list[float]]] = {"ours": [], "onnx": []}
    for case in cases[: given.cases or None]:
        scan = model.scan(case.folder)
        raw = np.ascontiguousarray(scan.images, np.float32)

        def ours(scan=scan) -> np.ndarray:
            return model.ensemble.segment(model.normalise(scan)).labels

        def onnx(raw=raw) -> np.ndarray:
            return program.run(None, {"images": raw})[0]

        for turn in range(given.turns + 1):
            expected, first = both_times(ours)
            found, second = both_times(onnx)
            if turn:  # the first run compiles, or grows its memory
                seconds["ours"].append(first)
                seconds["onnx"].append(second)
        print(f"{scan.name}: {(found != expected).sum()} of {found.size} voxels differ", flush=True)
    for k, kind in enumerate(("time", "processor time")):
        a, b = ([row[k] for row in seconds[name]] for name in ("onnx", "ours"))
        print(
            f"{kind}, ONNX / ours: {measure.ratio(a, b).show(digits=2)}; ONNX "
            f"{measure.Spread.of(a).show(digits=2)} s, ours {measure.Spread.of(b).show(digits=2)} s"
        )
    print(f"  {measure.where()}, onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main()
