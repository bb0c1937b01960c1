"""Compares the training step of this checkout with that of another checkout.

    git worktree add ../before COMMIT
    python benchmarks/before.py --other=../before --stage=segment

Each checkout runs in its own process with its own package and its own `train_step.Ours`, on one
batch in device memory, as in `train_step.py`. The two processes of a pair alternate, because the
speed of a machine drifts: compare the ratio within one run, not the times of two runs. Processes
of the same commit differ by up to 9 % on a CPU (where their memory lies), so several pairs are
started, each checkout first in every other one, and the ratio is the median over the pairs.
"""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]


def work(arguments: argparse.Namespace) -> None:
    """Process of one checkout: reads a number of steps, runs them, prints their seconds."""
    sys.path[:0] = [arguments.checkout, f"{arguments.checkout}/benchmarks"]
    import brats_jax

    # Version 0.1.0 has these functions under other names.
    packaged = Path(arguments.checkout, "benchmarks", "__init__.py").exists()
    if packaged:
        import_module("brats_jax.runtime.devices").keep_freed_memory()  # before JAX allocates
    else:
        import_module("brats_jax.devices").keep_memory()
    Ours = import_module("benchmarks.train_step" if packaged else "train_step").Ours

    sizes = (arguments.width, arguments.batch, arguments.patch, 1)
    ours = Ours(arguments.stage, "train", *sizes)
    print(json.dumps({"package": brats_jax.__file__}), flush=True)
    for line in sys.stdin:
        print(*ours.seconds(int(line)), flush=True)


def compare(arguments: argparse.Namespace) -> None:
    """Prints the ratio of step times, this checkout / other checkout."""
    from benchmarks import measure

    checkouts = {"this": ROOT, "the other": arguments.other.resolve()}
    if not (checkouts["the other"] / "benchmarks" / "train_step.py").is_file():
        raise SystemExit(f"error: {arguments.other} is no checkout of this repository")
    shared = ("stage", "width", "batch", "patch")
    flags = [f"--{name}={getattr(arguments, name)}" for name in shared]
    ratios: list[tuple[float, float]] = []  # one pair of processes each: time, processor time
    steps: dict[str, list[float]] = {name: [] for name in checkouts}
    described: dict[str, object] = {}
    for pair in range(arguments.pairs):
        order = list(checkouts) if pair % 2 == 0 else list(reversed(checkouts))
        processes = {
            name: measure.Peer(sys.executable, "before.py", [*flags, f"--checkout={path}"])
            for name in order
            for path in [checkouts[name]]
        }
        taken: dict[str, list[list[float]]] = {name: [] for name in checkouts}
        for _ in range(arguments.turns):
            for name, process in processes.items():
                taken[name].append(process.request(arguments.steps))
        for name, process in processes.items():
            process.close()
            described[name] = process.description
            steps[name] += [turn[0] / arguments.steps for turn in taken[name]]
        seconds, busy = ([[t[k] for t in taken[name]] for name in checkouts] for k in (0, 1))
        ratios.append((measure.ratio(*seconds).middle, measure.ratio(*busy).middle))
    time, processor = (measure.Spread.of(values) for values in zip(*ratios, strict=True))
    print(
        f"{arguments.stage}, width {arguments.width}, batch {arguments.batch}: "
        f"{time.show(digits=3)} of the other's time over {arguments.pairs} pairs of processes of "
        f"{arguments.turns} turns; processor time {processor.show(digits=3)}"
    )
    for name in checkouts:
        print(f"  {name:<10}{measure.Spread.of(steps[name]).show(1e3)} ms  {described[name]}")
    print(f"  {measure.where()}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, help="the other checkout")
    parser.add_argument("--stage", choices=("pretrain", "segment"), default="segment")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1, help="in each turn")
    parser.add_argument("--turns", type=int, default=11, help="of a pair")
    parser.add_argument("--pairs", type=int, default=6, help="of processes")
    parser.add_argument("--checkout", help=argparse.SUPPRESS)  # used for the child process
    arguments = parser.parse_args(argv)
    if arguments.checkout:
        work(arguments)
    elif arguments.other:
        compare(arguments)
    else:
        parser.error("give --other=CHECKOUT")


if __name__ == "__main__":
    main()
