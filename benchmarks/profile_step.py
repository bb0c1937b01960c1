"""Milliseconds of a training step by kind of operation and by pass.

    python benchmarks/profile_step.py --stage=segment            # or pretrain; width 64, batch 4
    python benchmarks/profile_step.py --batch=16 --steps_per_dispatch=25      # for a GPU

`jax.profiler` records when each operation of the compiled program ran. Operations that run at the
same time share that time equally, so that the rows add up to the time of the step. The row "none
named" is the time without a recorded operation: a GPU is idle; a CPU is between two dispatches, or
runs parts of convolutions in threads for which XLA records no operation. Recording slows the step
down; the time of a step without it is printed as well. --top=N lists the N slowest operations.
"""

import argparse
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import jax
from jax.profiler import ProfileData

from benchmarks import measure
from benchmarks.gpu import hlo
from benchmarks.one_step import Ours
from brats_jax.runtime import devices

Interval = tuple[float, float, str]  # start, end in ns, instruction

PARTS = ("forward", "backward", "optimiser and rest")
NOTHING = "none named"
PROFILE = measure.Record(
    "profile segment", "profile pretrain", step=measure.Spread, recorded=float, kinds=dict, text=str
)
# Kinds of operations that move data and compute nothing.
COPIES = {"copy", "transposition", "concatenation", "slice", "pad"}


def part_of(operation: str) -> str:
    """The pass that a traced operation belongs to.

    JAX's differentiation puts `jvp` into the names of the forward pass and `transpose(jvp)` into
    those of the backward pass.
    """
    if "transpose(jvp" in operation:
        return PARTS[1]
    return PARTS[0] if "jvp(" in operation else PARTS[2]


def shares(intervals: Iterable[Interval]) -> dict[str, float]:
    """Nanoseconds for each name; intervals that overlap share the time equally."""
    events = [(at, kind, name) for a, b, name in intervals for at, kind in ((a, 1), (b, -1))]
    events.sort(key=lambda event: event[:2])
    active: dict[str, int] = defaultdict(int)
    found: dict[str, float] = defaultdict(float)
    running, before = 0, 0.0
    for at, kind, name in events:
        if running:
            for other, count in active.items():
                found[other] += count * (at - before) / running
        active[name] += kind
        if not active[name]:
            del active[name]
        running += kind
        before = at
    return dict(found)


def recorded(folder: str, names: Iterable[str]) -> list[Interval]:
    """Intervals of the operations in a recording of `jax.profiler`.

    Reads the timeline of a GPU if there is one, else the threads of the CPU. A kernel without the
    name of an operation keeps its own name.
    """
    (path,) = Path(folder).rglob("*.xplane.pb")
    planes = list(ProfileData.from_file(str(path)).planes)
    of_device = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    known, found = set(names), []
    for plane in of_device or planes:
        for line in plane.lines:
            if of_device and not line.name.startswith("Stream"):
                continue
            for event in line.events:
                name = dict(event.stats).get("hlo_op", event.name) if of_device else event.name
                if event.duration_ns and (of_device or name in known):
                    start = event.start_ns
                    found.append((start, start + event.duration_ns, str(name)))
    return found


def profile(ours: Ours, names: Iterable[str], steps: int) -> tuple[dict[str, float], float]:
    """(seconds per step of each named operation, seconds per step), from a recording."""
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level = 3
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        jax.profiler.start_trace(folder, profiler_options=options)
        seconds, _ = ours.seconds(steps)
        jax.profiler.stop_trace()
        found = shares(recorded(folder, names))
    return {name: 1e-9 * ns / steps for name, ns in found.items()}, seconds / steps


def table(found: dict[str, float], kinds: dict[str, hlo.Kernel], step: float) -> dict[str, dict]:
    """Seconds by kind, largest first, and pass; `NOTHING` is the remaining time of the step."""
    rows: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name, seconds in found.items():
        kernel = kinds.get(name, hlo.Kernel(re.sub(r"[.\d]+$", "", name), 0, ""))
        kind = "copies" if kernel.kind in COPIES else kernel.kind
        rows[kind][part_of(kernel.operation)] += seconds
    rows[NOTHING][PARTS[2]] = max(0.0, step - sum(found.values()))
    ordered = sorted(rows.items(), key=lambda row: (row[0] == NOTHING, -sum(row[1].values())))
    return {kind: dict(parts) for kind, parts in ordered}


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=("pretrain", "segment"), default="segment")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--dispatches", type=int, default=3, help="dispatches to record")
    parser.add_argument("--steps_per_dispatch", type=int, default=1)
    parser.add_argument("--top", type=int, default=0, help="number of operations to list")
    return parser


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    dispatch = arguments.steps_per_dispatch
    steps = arguments.dispatches * dispatch
    devices.keep_freed_memory()  # as the commands do
    sizes = (arguments.width, arguments.batch, arguments.patch, dispatch)
    ours = Ours(arguments.stage, "train", *sizes)
    plain = measure.Spread.of([ours.seconds(steps)[0] / steps for _ in range(5)])
    kinds = hlo.Program(ours.compiled().as_text()).kinds()
    found, step = profile(ours, kinds, steps)
    print(
        f"{arguments.stage}, width {arguments.width}, batch {arguments.batch}, {arguments.patch} "
        f"x {arguments.patch}: {plain.show(1e3)} ms per step; {1e3 * step:.1f} while recording\n"
    )
    print(f"{'ms of the recorded step':<34}" + "".join(f"{part:>20}" for part in PARTS), end="")
    print(f"{'share':>8}")
    rows = table(found, kinds, step)
    for kind, parts in rows.items():
        columns = "".join(f"{1e3 * parts.get(part, 0):20.2f}" for part in PARTS)
        print(f"{kind:<34}{columns}{100 * sum(parts.values()) / step:7.1f} %")
    for name in sorted(found, key=lambda n: -found[n])[: arguments.top]:
        kernel = kinds.get(name, hlo.Kernel("", 0, ""))
        print(f"{1e3 * found[name]:8.2f} ms  {name}: {kernel.kind}, {kernel.operation}")
    by_kind = {kind: sum(parts.values()) for kind, parts in rows.items()}
    largest = [(kind, time) for kind, time in by_kind.items() if kind != NOTHING][:3]
    listed = ", ".join(f"{kind} {100 * time / step:.0f} %" for kind, time in largest)
    text = f"{listed}; none named {100 * by_kind[NOTHING] / step:.0f} %"
    PROFILE.keep(f"profile {arguments.stage}", step=plain, recorded=step, kinds=by_kind, text=text)
    print(f"  {measure.where()}")


if __name__ == "__main__":
    main()
