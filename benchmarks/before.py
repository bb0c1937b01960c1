"""A training step of this checkout beside that of another, by turns in one run: what a change does.

    git worktree add ../before COMMIT
    python benchmarks/before.py --other=../before --stage=segment

Each runs in a process of its own with its own package and its own `train_step.Ours`, on one batch
that lies on the device, as `train_step.py` runs it. Machines drift: figures of two runs do not
compare, the ratio of one does.
"""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]


def work(arguments: argparse.Namespace) -> None:
    """The process of one checkout: steps for every number that it reads, then their seconds."""
    sys.path[:0] = [arguments.checkout, f"{arguments.checkout}/benchmarks"]
    import brats_jax

    # Checkouts of version 0.1.0 have other places and another name.
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
    """Prints the ratio of this checkout's time to the other's."""
    from benchmarks import measure

    checkouts = {"this": ROOT, "the other": arguments.other.resolve()}
    if not (checkouts["the other"] / "benchmarks" / "train_step.py").is_file():
        raise SystemExit(f"error: {arguments.other} is no checkout of this repository")
    same = ("stage", "width", "batch", "patch")
    told = [f"--{name}={getattr(arguments, name)}" for name in same]
    there = {
        name: measure.Peer(sys.executable, "before.py", [*told, f"--checkout={path}"])
        for name, path in checkouts.items()
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in there}
    for _ in range(arguments.turns):
        for name, process in there.items():
            taken[name].append(process.ask(arguments.steps))
    for process in there.values():
        process.close()
    seconds, busy = ({name: [t[k] for t in taken[name]] for name in taken} for k in (0, 1))
    print(
        f"{arguments.stage}, width {arguments.width}, batch {arguments.batch}: "
        f"{measure.ratio(*seconds.values()).show(digits=2)} of the other's time over "
        f"{arguments.turns} turns; processor time {measure.ratio(*busy.values()).show(digits=2)}"
    )
    for name in there:
        one = [s / arguments.steps for s in seconds[name]]
        print(f"  {name:<10}{measure.Spread.of(one).show(1e3)} ms  {there[name].description}")
    print(f"  {measure.where()}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, help="the other checkout")
    parser.add_argument("--stage", choices=("pretrain", "segment"), default="segment")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1, help="in each turn")
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--checkout", help=argparse.SUPPRESS)  # of the process that steps
    arguments = parser.parse_args(argv)
    if arguments.checkout:
        work(arguments)
    elif arguments.other:
        compare(arguments)
    else:
        parser.error("give --other=CHECKOUT")


if __name__ == "__main__":
    main()
