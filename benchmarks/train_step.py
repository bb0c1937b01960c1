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
from typing import Any

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


def compare(arguments: argparse.Namespace) -> None:
    """Measures both programs alternately and prints the results."""
    stage, mode, batch = arguments.stage, arguments.mode, arguments.batch
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    peer = None
    if arguments.peer_python:
        shared = ("stage", "mode", "width", "batch", "patch", "peer")
        flags = [f"--{name}={getattr(arguments, name)}" for name in shared]
        flags += [f"--device={device}", f"--form={arguments.peer_form}"]
        peer = measure.Peer(
            arguments.peer_python, "peers/torch_peer.py", flags, arguments.peer_keeps_memory
        )
    form = (arguments.steps_per_dispatch, arguments.any_order)
    ours = Ours(stage, mode, arguments.width, batch, arguments.patch, *form)
    twin = arguments.peer == "twin"
    if peer and twin and peer.description["parameters"] != ours.parameters:
        raise SystemExit(
            f"the networks differ: {ours.parameters} parameters in brats_jax, "
            f"{peer.description['parameters']} in PyTorch"
        )
    times: dict[str, list[float]] = {"ours": [], "PyTorch": []}
    busy: list[tuple[float, float]] = []
    for _ in range(arguments.turns):
        theirs = [np.nan, np.nan]
        if peer:
            theirs = [t / arguments.steps for t in peer.request(arguments.steps)]
        mine = [t / arguments.steps for t in ours.seconds(arguments.steps)]
        times["ours"].append(mine[0])
        times["PyTorch"].append(theirs[0])
        busy.append((mine[1], theirs[1]))
    memory = measure.peak_memory()  # before other programs are compiled
    numbers: dict[str, Any] = {"batch": batch, "memory": memory}
    title = f"{stage} {mode}"
    if peer:
        quotient = measure.ratio(times["ours"], times["PyTorch"])
        least = min(times["ours"]) / min(times["PyTorch"])
        print(
            f"{title}: {quotient.show(digits=2)} of PyTorch's time over {arguments.turns} turns; "
            f"ratio of the fastest turns {least:.2f}; {1 / quotient.middle:.2f} times as fast"
        )
        numbers["ratio"] = quotient
        numbers["peer_memory"] = peer.request("memory")[0]
    else:
        print(title)
    if peer and device == "cpu":
        # Other load on the machine increases wall time, most of all with OpenMP's barriers.
        our_busy, peer_busy = np.median(busy, axis=0)
        print(
            f"  processor time of all threads {our_busy / peer_busy:.2f} of PyTorch's "
            f"({1e3 * our_busy:.0f} and {1e3 * peer_busy:.0f} ms)"
        )
    shown = {name: Spread.of(values) for name, values in times.items()}
    rate = batch / shown["ours"].middle
    numbers |= {"seconds": shown["ours"], "rate": rate}
    print(
        f"  ours     {shown['ours'].show(1e3)} ms, {rate:.1f} images/s, peak memory "
        f"{memory / 2**30:.2f} GiB"
    )
    if peer:
        its = peer.description
        print(
            f"  PyTorch  {shown['PyTorch'].show(1e3)} ms, "
            f"{batch / shown['PyTorch'].middle:.1f} images/s, peak memory "
            f"{numbers['peer_memory'] / 2**30:.2f} GiB; {its['version']} {its['form']}, tried "
            f"{its['tried']}{', freed memory kept' * arguments.peer_keeps_memory}"
        )
        if not twin:
            print(f"  PyTorch's network is {its['network']}: {its['parameters']:,} parameters")
        peer.close()
    counted, limits = ours.counted(), measure.ceilings()
    arithmetic, traffic = counted.flops / limits.flops, counted.bytes / limits.bandwidth
    share = max(arithmetic, traffic) / shown["ours"].middle
    numbers |= {**counted._asdict(), "memory": memory, "planned": counted.memory}
    least_seconds = max(arithmetic, traffic)
    if mode == "train":
        dtype = devices.compute_dtype("auto")
        least = roofline.count(stage, batch, arguments.patch, arguments.width, dtype)
        numbers["least_flops"] = least["flops"]
        numbers["least_bytes"] = least["products"] + least["maps"] + least["adam"]
        least_seconds = max(
            numbers["least_flops"] / limits.flops, numbers["least_bytes"] / limits.bandwidth
        )
    numbers["share"] = least_seconds / shown["ours"].middle
    print(
        f"  counted  {counted.flops / 1e9:.1f} GFLOP, {counted.bytes / 1e9:.2f} GB, "
        f"{counted.operations} operations, {counted.memory / 2**30:.2f} GiB planned; measured "
        f"ceilings {limits.flops / 1e9:.0f} GFLOP/s, {limits.bandwidth / 1e9:.1f} GB/s: "
        f"{1e3 * arithmetic:.1f} ms of arithmetic, {1e3 * traffic:.1f} ms of memory traffic; the "
        f"larger is {share:.0%} of the measured time"
    )
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


if __name__ == "__main__":
    main()
