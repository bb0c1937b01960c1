"""Compares a training step or forward pass with PyTorch's, and with the roofline.

    python benchmarks/train_step.py --stage=segment --peer_python=TORCH_VENV/bin/python
    python benchmarks/train_step.py --stage=pretrain --batch=16 --steps=50 --steps_per_dispatch=10 \
        --device=gpu --peer_python=TORCH_VENV/bin/python  # on a GPU: bfloat16, torch.compile + AMP
    python benchmarks/train_step.py --mode=inference --peer_python=...  # whole slices, 240 x 240
    python benchmarks/train_step.py --peer=smp --peer_python=...  # segmentation_models_pytorch

TORCH_VENV is any environment with torch. benchmarks/peers/torch_peer.py runs there in a process
of its own, and the two processes alternate on the same machine. Without --peer_python only our
step is measured. Augmentation is off, because the peer has none. The batch is in device memory
before timing starts.

The roofline is the time that the FLOPs and bytes of the compiled step, as XLA counts them (bytes
of every operation, without caches), would take at the rates of a matrix product and a copy
measured in the same run. Memory is the peak of each process since its start; on a GPU, the peak of
its allocations there.
"""

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import measure
from benchmarks.gpu import roofline
from benchmarks.measure import Spread
from benchmarks.one_step import Ours  # before.py reads it here, as in earlier checkouts
from brats_jax.runtime import devices

STEP = measure.Record(
    "* * *",
    optional=("ratio", "peer_memory", "least_flops", "least_bytes"),
    **dict.fromkeys(("batch", "memory", "planned", "operations"), int),
    **dict.fromkeys(("rate", "flops", "bytes", "peer_memory", "share"), float),
    **dict.fromkeys(("least_flops", "least_bytes"), float),
    **dict.fromkeys(("ratio", "seconds"), Spread),
    text=str,
)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=("pretrain", "segment"), default="segment")
    parser.add_argument("--mode", choices=("train", "inference"), default="train")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument(
        "--patch", type=int, default=0, help="side; 0: 128 in training, 240 in inference"
    )
    parser.add_argument("--steps", type=int, default=2, help="steps per turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps_per_dispatch", type=int, default=1)
    parser.add_argument(
        "--any_order",
        action="store_true",
        help="train.deterministic=False, as PyTorch by default",
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default=None)
    parser.add_argument("--peer_python", help="Python with torch; without it, no peer is measured")
    parser.add_argument(
        "--peer",
        choices=("twin", "smp"),
        default="twin",
        help="the same network, or the U-Net of segmentation_models_pytorch",
    )
    parser.add_argument(
        "--peer_keeps_memory",
        action="store_true",
        help="the peer's malloc keeps freed memory, as ours does on a CPU",
    )
    parser.add_argument(
        "--peer_form",
        choices=("best", "eager", "compiled", "reduce-overhead", "max-autotune"),
        default="best",
        help="best: the fastest of eager and compiled on a CPU, where compiling takes minutes, "
        "and of the three modes of torch.compile on a GPU",
    )
    return parser


def check(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Ends the program with one line if the arguments contradict each other."""
    if arguments.steps % arguments.steps_per_dispatch:
        parser.error("--steps must be a multiple of --steps_per_dispatch")
    if arguments.mode == "inference" and arguments.steps_per_dispatch > 1:
        parser.error("--steps_per_dispatch applies to --mode=train only")
    if arguments.peer == "smp" and (arguments.stage, arguments.width) != ("segment", 64):
        parser.error("--peer=smp needs --stage=segment and --width=64")


def main() -> None:
    arguments = parser().parse_args()
    check(arguments, parser())
    arguments.patch = arguments.patch or {"train": 128, "inference": 240}[arguments.mode]
    devices.keep_freed_memory()  # as the commands do
    if arguments.device:
        jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda"}[arguments.device])
    compare(arguments)


def start_peer(arguments: argparse.Namespace, device: str) -> measure.Peer:
    """Starts torch_peer.py with the sizes of the command; `device` is 'cpu' or 'cuda'."""
    shared = ("stage", "mode", "width", "batch", "patch", "peer")
    flags = [f"--{name}={getattr(arguments, name)}" for name in shared]
    flags += [f"--device={device}", f"--form={arguments.peer_form}"]
    return measure.Peer(
        arguments.peer_python, "peers/torch_peer.py", flags, arguments.peer_keeps_memory
    )


class Times(NamedTuple):
    """Seconds of a step of one program, one entry for each turn.

    Attributes:
      wall: wall time.
      processor: processor time of all threads.
    """

    wall: list[float]
    processor: list[float]

    def add(self, seconds: Sequence[float], steps: int) -> None:
        """Adds (wall time, processor time) of a turn of `steps` steps."""
        for times, value in zip(self, seconds, strict=True):
            times.append(value / steps)


def compare(arguments: argparse.Namespace) -> None:
    """Measures both programs alternately, prints and records the results."""
    stage, mode, batch = arguments.stage, arguments.mode, arguments.batch
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    peer = start_peer(arguments, device) if arguments.peer_python else None
    form = (arguments.steps_per_dispatch, arguments.any_order)
    ours = Ours(stage, mode, arguments.width, batch, arguments.patch, *form)
    is_twin = arguments.peer == "twin"
    if peer and is_twin and peer.description["parameters"] != ours.parameters:
        raise SystemExit(
            f"the networks differ: {ours.parameters} parameters in brats_jax, "
            f"{peer.description['parameters']} in PyTorch"
        )
    mine, theirs = Times([], []), Times([], [])
    for _ in range(arguments.turns):
        if peer:
            theirs.add(peer.request(arguments.steps), arguments.steps)
        mine.add(ours.seconds(arguments.steps), arguments.steps)
    memory = measure.peak_memory()  # before other programs are compiled
    seconds = Spread.of(mine.wall)
    rate = batch / seconds.middle
    numbers: dict[str, Any] = {"batch": batch, "seconds": seconds, "rate": rate}
    title = f"{stage} {mode}"
    if peer:
        numbers["ratio"] = show_ratio(title, mine, theirs, device)
        numbers["peer_memory"] = peer.request("memory")[0]
    else:
        print(title)
    print(
        f"  ours     {seconds.show(1e3)} ms, {rate:.1f} images/s, peak memory "
        f"{memory / 2**30:.2f} GiB"
    )
    if peer:
        show_peer(arguments, peer, Spread.of(theirs.wall), numbers["peer_memory"])
        peer.close()
    numbers |= show_roofline(arguments, ours, seconds) | {"memory": memory}
    print(
        f"  width {arguments.width}, batch {batch}, {arguments.patch} x {arguments.patch}, "
        f"{ours.parameters:,} parameters, {devices.compute_dtype('auto').__name__}, "
        f"{arguments.steps_per_dispatch} step(s) per dispatch; first step with compilation "
        f"{ours.compile_seconds:.1f} s"
    )
    print(f"  {measure.where()}")
    speedup = f"{1 / numbers['ratio'].middle:.2f} x PyTorch; " if "ratio" in numbers else ""
    text = (
        f"{speedup}{rate:.0f} images/s, {numbers['share']:.0%} of the roofline; peak memory "
        f"{memory / 2**30:.1f} GiB"
    )
    STEP.keep(f"{stage} {mode} {batch}", text=text, **numbers)


def show_ratio(title: str, mine: Times, theirs: Times, device: str) -> Spread:
    """Prints and returns the ratio of the times of both programs."""
    quotient = measure.ratio(mine.wall, theirs.wall)
    least = min(mine.wall) / min(theirs.wall)
    print(
        f"{title}: {quotient.show(digits=2)} of PyTorch's time over {len(mine.wall)} turns; "
        f"ratio of the fastest turns {least:.2f}; {1 / quotient.middle:.2f} times as fast"
    )
    if device == "cpu":
        # Other load on the machine increases wall time, most of all with OpenMP's barriers.
        our_busy, peer_busy = (np.median(times.processor) for times in (mine, theirs))
        print(
            f"  processor time of all threads {our_busy / peer_busy:.2f} of PyTorch's "
            f"({1e3 * our_busy:.0f} and {1e3 * peer_busy:.0f} ms)"
        )
    return quotient


def show_peer(
    arguments: argparse.Namespace, peer: measure.Peer, seconds: Spread, memory: float
) -> None:
    """Prints the times of the peer, its form and its network."""
    its = peer.description
    print(
        f"  PyTorch  {seconds.show(1e3)} ms, {arguments.batch / seconds.middle:.1f} images/s, peak "
        f"memory {memory / 2**30:.2f} GiB; {its['version']} {its['form']}, tried "
        f"{its['tried']}{', freed memory kept' * arguments.peer_keeps_memory}"
    )
    if arguments.peer != "twin":
        print(f"  PyTorch's network is {its['network']}: {its['parameters']:,} parameters")


def show_roofline(arguments: argparse.Namespace, ours: Ours, seconds: Spread) -> dict[str, Any]:
    """Prints XLA's counts beside the ceilings; returns the counts and the share of the roofline."""
    counted, limits = ours.counted(), measure.ceilings()
    arithmetic, traffic = counted.flops / limits.flops, counted.bytes / limits.bandwidth
    share = max(arithmetic, traffic) / seconds.middle
    numbers: dict[str, Any] = {**counted._asdict(), "planned": counted.memory}
    least_seconds = max(arithmetic, traffic)
    if arguments.mode == "train":
        sizes = (arguments.batch, arguments.patch, arguments.width)
        least = roofline.count(arguments.stage, *sizes, devices.compute_dtype("auto"))
        numbers["least_flops"] = least["flops"]
        numbers["least_bytes"] = least["products"] + least["maps"] + least["adam"]
        least_seconds = max(
            numbers["least_flops"] / limits.flops, numbers["least_bytes"] / limits.bandwidth
        )
    numbers["share"] = least_seconds / seconds.middle
    print(
        f"  counted  {counted.flops / 1e9:.1f} GFLOP, {counted.bytes / 1e9:.2f} GB, "
        f"{counted.operations} operations, {counted.memory / 2**30:.2f} GiB planned; measured "
        f"ceilings {limits.flops / 1e9:.0f} GFLOP/s, {limits.bandwidth / 1e9:.1f} GB/s: "
        f"{1e3 * arithmetic:.1f} ms of arithmetic, {1e3 * traffic:.1f} ms of memory traffic; the "
        f"larger is {share:.0%} of the measured time"
    )
    return numbers


if __name__ == "__main__":
    main()
