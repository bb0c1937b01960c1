"""One training step or forward pass of brats_jax, for the benchmarks that time or inspect it."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks import measure
from benchmarks.gpu import hlo, roofline
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


def random_patches(batch: int, size: int) -> dict[str, np.ndarray]:
    """Random patches: image float16[B, S, S, 4], label uint8[B, S, S], seed uint32[B]."""
    rng = np.random.default_rng(0)
    shape = (batch, size, size)
    return {
        "image": rng.standard_normal((*shape, 4)).astype(np.float16),
        "label": rng.integers(0, 4, shape).astype(np.uint8),
        "seed": np.arange(batch, dtype=np.uint32),
    }


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


def repeated_steps(task: Task, batch: dict[str, np.ndarray], steps: int) -> Callable[[], object]:
    """A function that takes `steps` training steps on one batch, and goes on where it ended."""
    mesh = measure.one_device_mesh()
    step, state = step_of_task(task, "train", mesh)
    examples = devices.put_batch(batch, mesh)
    kept = jax.device_put(state, devices.replicated_sharding(mesh))

    def run() -> object:
        nonlocal kept
        for _ in range(steps):
            kept, progress = step(kept, examples)
        return progress

    return run


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
