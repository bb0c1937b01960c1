"""Compares a step with all hand-written forms with the same step without one of them.

    python benchmarks/forms_in_step.py                           # training steps of both stages
    python benchmarks/forms_in_step.py --mode=inference --size=240 --stages=segment
    python benchmarks/forms_in_step.py --forms=batch_norm,max_pool --rounds=9

Each process runs with its own BRATS_JAX_PLAIN. Step times of two processes of the same program
differ by up to 5 %, so each round starts new processes; the pair `none` shows the remaining
difference. The ratio is the time of the step without the form over the time with it, as wall time
and as processor time, with a 95 % bootstrap interval over the rounds. A ratio of 1.03 means that
the form saves 3 % of a step.
"""

import argparse
import json
import os
import random
import sys
from pathlib import Path

NETWORK_FORMS = ("product", "patches", "upsampled", "transposed", "max_pool", "batch_norm")


def work(arguments: argparse.Namespace) -> None:
    """Process of one selection of forms: reads a number of steps, runs them, prints seconds."""
    from brats_jax.runtime import devices

    devices.keep_freed_memory()  # before JAX allocates
    devices.use_compilation_cache("auto")
    from benchmarks.one_step import Ours

    sizes = (arguments.width, arguments.batch, arguments.size, 1)
    ours = Ours(arguments.stages, arguments.mode, *sizes)
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        print(*ours.seconds(int(line)), flush=True)


def compare(arguments: argparse.Namespace) -> None:
    """Prints one line for each stage and form."""
    import numpy as np

    from benchmarks import measure

    def start(stage: str, plain: str) -> measure.Peer:
        shared = ("mode", "width", "batch", "size")
        flags = [f"--{name}={getattr(arguments, name)}" for name in shared]
        os.environ["BRATS_JAX_PLAIN"] = {"none": "", "all": "1"}.get(plain, plain)
        script = Path(__file__).name
        return measure.Peer(sys.executable, script, [*flags, f"--stages={stage}", "--worker"])

    def interval(ratios: list[float]) -> str:
        drawn = np.random.default_rng(0).choice(ratios, (4000, len(ratios))).mean(axis=1)
        low, high = np.percentile(drawn, (2.5, 97.5))
        return f"{np.mean(ratios):.3f} [{low:.3f}, {high:.3f}]"

    names = arguments.forms.split(",")
    for stage in arguments.stages.split(","):
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
        for _ in range(arguments.rounds):
            with_all = start(stage, "none")
            for name in random.sample(names, len(names)):
                without = start(stage, name)
                turns = []
                for turn in range(arguments.turns + 1):
                    order = (with_all, without) if turn % 2 else (without, with_all)
                    taken = {id(process): process.request(arguments.steps) for process in order}
                    turns.append(np.divide(taken[id(without)], taken[id(with_all)]))
                without.close()
                found[name].append(tuple(np.median(turns[1:], axis=0)))
            with_all.close()
        for name, rounds in found.items():
            wall, busy = (interval([r[k] for r in rounds]) for k in (0, 1))
            print(
                f"{stage} {arguments.mode} without {name}: {wall} of the time, "
                f"processor time {busy}, {len(rounds)} rounds",
                flush=True,
            )
    print(measure.where())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", default="segment,pretrain")
    parser.add_argument("--mode", choices=("train", "inference"), default="train")
    parser.add_argument("--forms", default=",".join(("none", *NETWORK_FORMS, "all")))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=6, help="rounds, each with new processes")
    parser.add_argument("--turns", type=int, default=4, help="turns of a pair of processes")
    parser.add_argument("--steps", type=int, default=1, help="steps per turn")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    (work if arguments.worker else compare)(arguments)


if __name__ == "__main__":
    main()
