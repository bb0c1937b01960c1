"""One training step, ours and PyTorch's alternately in one run: ratio, medians, spread, roofline.

    python benchmarks/train_step.py --stage=segment --peer_python=TORCH_VENV/bin/python
    python benchmarks/train_step.py --stage=pretrain --batch=16 --steps=50 --device=gpu \
        --peer_python=TORCH_VENV/bin/python          # on a GPU: bfloat16, torch.compile + AMP

TORCH_VENV is any environment with torch; benchmarks/torch_peer.py runs in it as a process that
is told when to run, so that both are measured by turns on the same machine. Without
--peer_python only ours. Augmentation is off: the peer has none.

The roofline: FLOPs and bytes of the compiled step as XLA counts them (bytes are those of every
operation, before caches), over a matrix product and a copy measured in the same run.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from brats_jax import devices, models
from brats_jax.models import count_parameters
from brats_jax.optim import adam, step_schedule
from brats_jax.steps import TrainState, make_train_step
from brats_jax.tasks import Reconstruction, Segmentation

PEER = Path(__file__).with_name("torch_peer.py")


class Ours:
    """The compiled step of brats_jax on one batch that lies on the device."""

    def __init__(self, stage: str, width: int, batch: int, patch: int, dispatch: int) -> None:
        mesh = jax.make_mesh(
            (1,), ("data",), devices=jax.devices()[:1], axis_types=(AxisType.Auto,)
        )
        dtype = devices.compute_dtype("auto")
        kind = {"segment": Segmentation, "pretrain": Reconstruction}[stage]
        task = kind(width=width, dtype=dtype)
        graph, params, stats = models.split(task.build(0))
        self.parameters = count_parameters(params)
        optimizer = adam(step_schedule(1e-4, factor=0.5, every_epochs=10, steps_per_epoch=1000))
        self._step = make_train_step(task, graph, optimizer, mesh)
        state = TrainState(
            params,
            stats,
            optimizer.init(params),
            jnp.zeros((), jnp.int32),
            jnp.zeros(()),
            jnp.full((), -1, jnp.int32),
        )
        self._state = jax.device_put(state, devices.replicated(mesh))
        rng = np.random.default_rng(0)
        shape = (dispatch, batch, patch, patch)
        host = {
            "image": rng.standard_normal((*shape, 4)).astype(np.float16),
            "label": rng.integers(0, 4, shape).astype(np.uint8),
            "seed": np.zeros(shape[:2], np.uint32),
        }
        self._dispatch = dispatch
        if dispatch == 1:
            self._batch = devices.put_batch({n: a[0] for n, a in host.items()}, mesh)
        else:
            self._batch = devices.put_batches(host, mesh)
        start = time.perf_counter()
        self.seconds(dispatch)
        self.compile_seconds = time.perf_counter() - start
        self.seconds(dispatch)

    def seconds(self, steps: int) -> tuple[float, float]:
        """Time of so many steps, until the device is done, and processor time of all threads."""
        start, busy = time.perf_counter(), time.process_time()
        for _ in range(steps // self._dispatch):
            self._state, progress = self._step(self._state, self._batch)
        jax.block_until_ready(progress)
        return time.perf_counter() - start, time.process_time() - busy

    def counted(self) -> tuple[float, float]:
        """(FLOPs, bytes) of one step, as XLA counts them."""
        lowered = jax.jit(self._step).lower(self._state, self._batch)
        cost = lowered.compile().cost_analysis() or {}
        # A loop's body is counted once.
        return float(cost.get("flops", 0)), float(cost.get("bytes accessed", 0))


class Peer:
    """The PyTorch process."""

    def __init__(self, python: str, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [python, str(PEER), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.description = json.loads(self._line())

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise SystemExit(f"the PyTorch process ended with status {self._process.wait()}")
        return line

    def seconds(self, steps: int) -> tuple[float, float]:
        """Time of so many steps, and processor time of all threads."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        took, busy = self._line().split()
        return float(took), float(busy)

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def best(run: Callable[[], object], repeats: int = 5) -> float:
    """The shortest of a few runs, in seconds."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return min(times)


def ceilings() -> tuple[float, float]:
    """(FLOP/s of a matrix product in the compute type, bytes/s of a copy), measured now."""
    on_cpu = jax.default_backend() == "cpu"
    size = 2048 if on_cpu else 8192
    a = jnp.ones((size, size), devices.compute_dtype("auto"))
    product = jax.jit(lambda a: a @ a)
    x = jnp.ones((1 << 26) if on_cpu else (1 << 28), jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return 2 * size**3 / best(lambda: product(a)), 2 * x.nbytes / best(lambda: copy(x))


def spread(times: list[float]) -> str:
    """Median and quartiles in milliseconds."""
    low, middle, high = 1e3 * np.percentile(times, [25, 50, 75])
    return f"{middle:.1f} ms (quartiles {low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=("pretrain", "segment"), default="segment")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2, help="in each turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps_per_dispatch", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "gpu"), default=None)
    parser.add_argument("--peer_python", help="a Python with torch; without it only ours")
    parser.add_argument(
        "--peer_form",
        choices=("best", "eager", "compiled"),
        default="best",
        help="best tries both on CPU, where compiling takes minutes; on a GPU it is compiled",
    )
    arguments = parser.parse_args()
    if arguments.steps % arguments.steps_per_dispatch:
        parser.error("--steps must be a multiple of --steps_per_dispatch")
    if arguments.device:
        jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda"}[arguments.device])
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    shape = [f"--{n}={getattr(arguments, n)}" for n in ("stage", "width", "batch", "patch")]
    peer = None
    if arguments.peer_python:
        peer = Peer(
            arguments.peer_python, [*shape, f"--device={device}", f"--form={arguments.peer_form}"]
        )
    ours = Ours(
        arguments.stage,
        arguments.width,
        arguments.batch,
        arguments.patch,
        arguments.steps_per_dispatch,
    )
    if peer and peer.description["parameters"] != ours.parameters:
        raise SystemExit(
            f"not the same network: {ours.parameters} parameters here, "
            f"{peer.description['parameters']} in PyTorch"
        )
    here: list[float] = []
    there: list[float] = []
    busy: list[tuple[float, float]] = []
    for _ in range(arguments.turns):
        peer_time = peer_busy = float("nan")
        if peer:
            peer_time, peer_busy = (t / arguments.steps for t in peer.seconds(arguments.steps))
        time_here, busy_here = (t / arguments.steps for t in ours.seconds(arguments.steps))
        here.append(time_here)
        there.append(peer_time)
        busy.append((busy_here, peer_busy))

    if peer:
        ratios = np.array(here) / np.array(there)
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        print(
            f"{arguments.stage}: {middle:.2f} of PyTorch's time (quartiles {low:.2f} to "
            f"{high:.2f} over {arguments.turns} turns; best against best "
            f"{min(here) / min(there):.2f})"
        )
    if peer and device == "cpu":
        # What others do on the machine stretches the time, and OpenMP's barriers stretch most.
        mine, its = np.median(busy, axis=0)
        print(
            f"  processor time of all threads {mine / its:.2f} of PyTorch's "
            f"({1e3 * mine:.0f} and {1e3 * its:.0f} ms)"
        )
    print(f"  ours     {spread(here)}, {arguments.batch / np.median(here):.1f} patches/s")
    if peer:
        told = peer.description
        print(
            f"  PyTorch  {spread(there)}, {arguments.batch / np.median(there):.1f} patches/s; "
            f"{told['version']} {told['form']}, tried {told['tried']}"
        )
        peer.close()
    flops, touched = ours.counted()
    peak, bandwidth = ceilings()
    bound = max(flops / peak, touched / bandwidth)
    print(
        f"  counted  {flops / 1e9:.1f} GFLOP, {touched / 1e9:.2f} GB; measured ceilings "
        f"{peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s: {1e3 * flops / peak:.1f} ms of "
        f"arithmetic, {1e3 * touched / bandwidth:.1f} ms of memory; the step runs at "
        f"{bound / np.median(here):.0%} of that bound"
    )
    print(
        f"  width {arguments.width}, batch {arguments.batch}, {arguments.patch} x "
        f"{arguments.patch}, {ours.parameters:,} parameters, "
        f"{devices.compute_dtype('auto').__name__}, "
        f"{arguments.steps_per_dispatch} step(s) a dispatch; first step with compilation "
        f"{ours.compile_seconds:.1f} s"
    )
    print(
        f"  jax {jax.__version__}, {devices.describe()}, {platform.machine()}, "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
