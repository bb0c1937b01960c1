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
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks import measure
from benchmarks.gpu import hlo, roofline
from benchmarks.measure import Spread
from brats_jax import models
from brats_jax.data.device_store import DeviceSlices
from brats_jax.runtime import devices
from brats_jax.tasks import Pretraining, Segmentation, Task
from brats_jax.training.optim import adam, step_schedule
from brats_jax.training.steps import TrainState, make_train_step


class Counted(NamedTuple):
    """XLA's cost analysis of one compiled step; the body of a loop counts once.

    Attributes:
      flops, bytes: sums over all operations, without caches.
      memory: bytes of arguments, results and scratch space together.
      operations: number of operations in the program and its loop bodies; on a GPU, kernels.
    """

    flops: float
    bytes: float
    memory: int
    operations: int


STEP = measure.Record(
    "* * *",
    optional=("ratio", "peer_memory", "least_flops", "least_bytes"),
    **dict.fromkeys(("batch", "memory", "planned", "operations"), int),
    **dict.fromkeys(("rate", "flops", "bytes", "peer_memory", "share"), float),
    **dict.fromkeys(("least_flops", "least_bytes"), float),
    **dict.fromkeys(("ratio", "seconds"), Spread),
    text=str,
)


def random_patches(batch: int, size: int) -> dict[str, np.ndarray]:
    """Random patches: image float16[B, S, S, 4], label uint8[B, S, S], seed uint32[B]."""
    rng = np.random.default_rng(0)
    shape = (batch, size, size)
    return {
        "image": rng.standard_normal((*shape, 4)).astype(np.float16),
        "label": rng.integers(0, 4, shape).astype(np.uint8),
        "seed": np.arange(batch, dtype=np.uint32),
    }


def repeated(
    step: Callable[..., Any], state: Any, batch: dict[str, np.ndarray], mesh: Mesh, steps: int
) -> Callable[[], object]:
    """A function that does `steps` steps on one batch of arrays, and goes on where it ended."""
    examples = devices.put_batch(batch, mesh)
    kept = jax.device_put(state, devices.replicated_sharding(mesh))

    def run() -> object:
        nonlocal kept
        for _ in range(steps):
            kept, progress = step(kept, examples)
        return progress

    return run


def step_of_task(
    task: Task,
    mode: str,
    mesh: Mesh,
    resident: DeviceSlices | None = None,
    patch_size: int = 0,
    deterministic: bool = True,
    norm_group: int = 0,
    gradient_sum: str = "auto",
) -> tuple[Callable[..., Any], Any]:
    """The training step or forward pass of a task, and its initial state in host memory.

    Args:
      task: the stage.
      mode: 'train' or 'inference'.
      mesh: devices to run on.
      resident: slices in device memory, from which the step cuts its patches; None for batches of
        images.
      patch_size: side of these patches.
      deterministic: a GPU sums in a fixed order.
      norm_group, gradient_sum: see `training.forward.forward_of`.

    Returns:
      (step, state): `step(state, batch)` returns a new state and the progress or output. The
      first element of the state is the parameters.
    """
    graph, params, stats = models.split(task.build(0))
    if mode == "train":
        optimizer = adam(step_schedule(1e-4, factor=0.5, every_epochs=10, steps_per_epoch=1000))
        counters = (np.zeros((), np.int32), np.zeros((), np.float32), np.full((), -1, np.int32))
        state = TrainState(params, stats, optimizer.init(params), *counters)
        rest = (resident, patch_size, devices.compiler_options(mesh, deterministic=deterministic))
        shared = {"norm_group": norm_group, "gradient_sum": gradient_sum}
        return make_train_step(task, graph, optimizer, mesh, *rest, **shared), state

    @jax.jit
    def forward(state: Any, batch: Any) -> jax.Array:
        x, _ = task.prepare(batch, training=False)
        output, _ = models.apply(graph, *state, x, train=False)
        return jnp.argmax(output, axis=-1).astype(jnp.uint8) if task.name == "segment" else output

    return lambda state, batch: (state, forward(state, batch)), (params, stats)


def lowered(step: Callable[..., Any], mode: str, state: Any, batch: Any) -> Any:
    """Lowers the step of `step_of_task` for arrays or shapes, without running it."""
    if mode == "train":
        return step.lower(state, batch)  # type: ignore[attr-defined]
    # Drops the state from the results, because the program would copy it.
    return jax.jit(lambda *inputs: step(*inputs)[1]).lower(state, batch)


class Ours:
    """The compiled step or forward pass of brats_jax on one batch in device memory.

    Args:
      stage: 'pretrain' or 'segment'.
      mode: 'train' or 'inference'.
      width: channels of the stem.
      batch: number of images.
      size: side of an image in pixels.
      dispatch: steps in one dispatch.
      any_order: allow a GPU to sum in any order.
    """

    def __init__(
        self,
        stage: str,
        mode: str,
        width: int,
        batch: int,
        size: int,
        dispatch: int,
        any_order: bool = False,
    ) -> None:
        mesh = measure.one_device_mesh()
        kind = {"segment": Segmentation, "pretrain": Pretraining}[stage]
        task = kind(width=width, dtype=devices.compute_dtype("auto"))
        step, state = step_of_task(task, mode, mesh, deterministic=not any_order)
        self.parameters = roofline.count_parameters(state[0])
        rng = np.random.default_rng(0)
        shape = (dispatch, batch, size, size)
        host = {
            "image": rng.standard_normal((*shape, 4)).astype(np.float16),
            "label": rng.integers(0, 4, shape).astype(np.uint8),
            "seed": np.zeros(shape[:2], np.uint32),
        }
        self._dispatch, self._mode = dispatch, mode
        if dispatch == 1:
            batches = devices.put_batch({n: a[0] for n, a in host.items()}, mesh)
        else:
            batches = devices.put_batches(host, mesh)
        self._step, self._state = step, jax.device_put(state, devices.replicated_sharding(mesh))
        self._batch = batches
        start = time.perf_counter()
        self.seconds(dispatch)
        self.compile_seconds = time.perf_counter() - start
        self.seconds(dispatch)

    def seconds(self, steps: int) -> tuple[float, float]:
        """(wall time, processor time of all threads) of `steps` steps, until the device is done."""
        start, busy = time.perf_counter(), time.process_time()
        for _ in range(steps // self._dispatch):
            self._state, done = self._step(self._state, self._batch)
        jax.block_until_ready(done)
        return time.perf_counter() - start, time.process_time() - busy

    def compiled(self) -> Any:
        """Compiles the program once more and returns it for inspection."""
        return lowered(self._step, self._mode, self._state, self._batch).compile()

    def counted(self) -> Counted:
        """XLA's counts for the compiled program."""
        compiled = self.compiled()
        cost = compiled.cost_analysis() or {}
        planned = compiled.memory_analysis()
        memory = planned.argument_size_in_bytes + planned.temp_size_in_bytes
        return Counted(
            float(cost.get("flops", 0)),
            float(cost.get("bytes accessed", 0)),
            memory + planned.output_size_in_bytes - planned.alias_size_in_bytes,
            hlo.Program(compiled.as_text()).number(),
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
