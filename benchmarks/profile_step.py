"""Where the milliseconds of a training step go: by kind of operation and part of the step.

    python benchmarks/profile_step.py --stage=segment            # or pretrain; width 64, batch 4
    python benchmarks/profile_step.py --batch=16 --steps_per_dispatch=25      # as a GPU trains

`jax.profiler` records when each operation of the compiled program ran. Of what runs at the same
time each gets its share, so that the rows add up to the time of the step: an operation that has
half of the cores for itself counts for the time it takes, not for what it computes. "none named"
is when no operation was recorded: a GPU is idle then; on a CPU it is between two dispatches, or
some convolutions' work, which XLA hands to threads that do not say whose it is.
Recording costs time itself; the step as it is without is printed beside. --top=N names the
operations that took longest.
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
from benchmarks.train_step import Ours
from brats_jax.runtime import devices

Interval = tuple[float, float, str]  # start, end in ns, instruction

PARTS = ("forward", "backward", "optimiser and rest")
NOTHING = "none named"
PROFILE = measure.Record(
    "profile segment", "profile pretrain", step=measure.Spread, recorded=float, kinds=dict, text=str
)
# Kinds that are copies in another order or place, and nothing computed.
COPIES = {"copy", "transposition", "concatenation", "slice", "pad"}


def part_of(operation: str) -> str:
    """Part of the step that a traced operation belongs to, by its name.

    Differentiation marks the forward pass `jvp` and the backward pass `transpose(jvp)`.
    """
    if "transpose(jvp" in operation:
        return PARTS[1]
    return PARTS[0] if "jvp(" in operation else PARTS[2]


def shares(intervals: Iterable[Interval]) -> dict[str, float]:
    """Nanoseconds for each name; of what overlaps each gets an equal share."""
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
    """When the operations of a program ran, by a recording of `jax.profiler`.

    A device's own timeline where there is one, else the threads of the CPU's. Kernels that do
    not say which operation they are of keep their own names.
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
    """(seconds a step of each of the named operations, and of the whole step), recorded."""
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
    """Seconds by kind (largest first) and part; what is left of the step is `NOTHING`."""
    rows: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name, seconds in found.items():
        kernel = kinds.get(name, hlo.Kernel(re.sub(r"[.\d]+$", "", name), 0, ""))
        kind = "copies" if kernel.kind in COPIES else kernel.kind
        rows[kind][part_of(kernel.what)] += seconds
    rows[NOTHING][PARTS[2]] = max(0.0, step - sum(found.values()))
    ordered = sorted(rows.items(), key=lambda row: (row[0] == NOTHING, -sum(row[1].values())))
    return {kind: dict(parts) for kind, parts in ordered}


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--stage", choices=("pretrain", "segment"), default="segment")
    made.add_argument("--width", type=int, default=64)
    made.add_argument("--batch", type=int, default=4)
    made.add_argument("--patch", type=int, default=128)
    made.add_argument("--dispatches", type=int, default=3, help="to record")
    made.add_argument("--steps_per_dispatch", type=int, default=1)
    made.add_argument("--top", type=int, default=0, help="operations to name")
    return made


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
        f"x {arguments.patch}: {plain.show(1e3)} ms a step; {1e3 * step:.1f} recorded\n"
    )
    print(f"{'ms of the recorded step':<34}" + "".join(f"{part:>20}" for part in PARTS), end="")
    print(f"{'share':>8}")
    rows = table(found, kinds, step)
    for kind, parts in rows.items():
        columns = "".join(f"{1e3 * parts.get(part, 0):20.2f}" for part in PARTS)
        print(f"{kind:<34}{columns}{100 * sum(parts.values()) / step:7.1f} %")
    for name in sorted(found, key=lambda n: -found[n])[: arguments.top]:
        kernel = kinds.get(name, hlo.Kernel("", 0, ""))
        print(f"{1e3 * found[name]:8.2f} ms  {name}: {kernel.kind}, {kernel.what}")
    by_kind = {kind: sum(parts.values()) for kind, parts in rows.items()}
    largest = [(kind, time) for kind, time in by_kind.items() if kind != NOTHING][:3]
    said = ", ".join(f"{kind} {100 * time / step:.0f} %" for kind, time in largest)
    text = f"{said}; none named {100 * by_kind[NOTHING] / step:.0f} %"
    PROFILE.keep(f"profile {arguments.stage}", step=plain, recorded=step, kinds=by_kind, text=text)
    print(f"  {measure.where()}")


if __name__ == "__main__":
    main()
