"""Lists the kernels of the program that XLA compiles for a GPU, and their bytes; needs no GPU.

    python benchmarks/gpu/gpu_program.py                                # both stages, batch 16
    python benchmarks/gpu/gpu_program.py --stages=segment --batch=128 --gpu=h200 --text=step.txt
    python benchmarks/gpu/gpu_program.py --mode=inference --batch=16    # whole slices, 240 x 240
    python benchmarks/gpu/gpu_program.py --gpus=8 --batch=128 --norm_group=16   # 16 on each GPU

Needs JAX's CUDA plugin (`pip install 'brats_jax[cuda12]'`), but neither a GPU nor its driver. On a
GPU, XLA measures several algorithms for each convolution and matrix product; here it takes its
default. Fusion, and so the number of reads and writes of each map, is the same as on a GPU.

The time is an estimate: each kernel moves its operands and results at 80 % of the published
bandwidth and takes at least two microseconds. Arithmetic does not limit these networks (see
roofline.py). Savings by caches are ignored. With several GPUs, each message takes ten microseconds
and the time of its bytes around a ring, at 80 % of the published rate of NVLink 4 in one direction,
and nothing is computed meanwhile; or kernels pass beside it, where the program has any between its
start and its end. The efficiency is the time of one GPU alone, with its share of the batch, over
that of several.
"""

import argparse
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks import measure, one_step
from benchmarks.epoch import TUMOUR_SLICES
from benchmarks.gpu import hlo
from benchmarks.gpu.kernels import GPUS, show, show_messages
from brats_jax.data.augment import Augmentation
from brats_jax.data.device_store import ROW, DeviceSlices
from brats_jax.runtime import devices, forms
from brats_jax.tasks import Pretraining, Segmentation, Task
from brats_jax.training import feed

# Rows of the device store per slice of BraTS 2020: a third of its pixels, 4.2 GB in total.
ROWS_OF_A_SLICE = 75

# Description of the device for the compiler, in the text format of XLA's GpuTargetConfigProto.
_TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448  core_count: 132  fpus_per_core: 128
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth:.0f}  l2_cache_size: 52428800  clock_rate_ghz: 1.98
  device_memory_size: {memory}  cuda_compute_capability {{ major: 9 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 12 minor: 9 }}
device_description_str: "{name}"
"""


def mesh_of(gpu: str, number: int = 1) -> Mesh:
    """A mesh of `number` GPUs in one machine, to compile for; the GPUs need not exist.

    Raises:
      SystemExit: JAX's CUDA plugin is not installed.
    """
    name, bandwidth, memory = GPUS[gpu]
    target = _TARGET.format(name=name, bandwidth=bandwidth, memory=memory)
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", target_config=target, topology=f"1x1x{number}"
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise SystemExit(
            f"needs JAX's CUDA plugin (pip install 'brats_jax[cuda12]'), but no GPU: {reason}"
        ) from error
    return Mesh(np.array(topology.devices), ("data",), axis_types=(AxisType.Auto,))


def lower(
    task: Task,
    mode: str,
    batch: int,
    size: int,
    steps: int,
    mesh: Mesh,
    *,
    cut: bool = False,
    **shared: Any,
) -> Any:
    """Lowers the training step or forward pass for the devices of a mesh, without running it.

    `cut`: the step cuts its patches from the tumour slices of BraTS 2020 in device memory.
    `shared`: how devices share a step, see `one_step.step_of_task`.
    """
    sharding = devices.replicated_sharding(mesh)

    def replicated(sizes: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=sharding)

    n, rows = TUMOUR_SLICES, TUMOUR_SLICES * ROWS_OF_A_SLICE
    resident: Any = DeviceSlices(
        images=replicated((rows, ROW, 4), jnp.float16),
        labels=replicated((rows, ROW), jnp.uint8),
        first=replicated((n,), jnp.int32),
        box=replicated((n, 4), jnp.int32),
        background=replicated((n, 4), jnp.float16),
    )
    kept = resident if cut else None
    step, state = one_step.step_of_task(task, mode, mesh, kept, size, **shared)
    lead = () if steps == 1 else (steps,)
    divided = NamedSharding(mesh, PartitionSpec(*(None for _ in lead), "data"))

    def shape(array: Any) -> jax.ShapeDtypeStruct:
        return replicated(jnp.shape(array), jnp.result_type(array))

    def examples(*sizes: int, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*lead, batch, *sizes), dtype, sharding=divided)

    inputs = {"seed": examples(dtype=jnp.uint32)}
    if cut:
        inputs |= {name: examples(dtype=jnp.int32) for name in ("slice", "row", "column")}
    else:
        inputs["image"] = examples(size, size, 4, dtype=jnp.float16)
        inputs["label"] = examples(size, size, dtype=jnp.uint8)
    with forms.traced_for("gpu"):
        return one_step.lowered(step, mode, jax.tree.map(shape, state), inputs)


def task_of(stage: str, arguments: argparse.Namespace) -> Task:
    """The stage with the network that the flags describe."""
    kind = {"segment": Segmentation, "pretrain": Pretraining}[stage]
    return kind(
        width=arguments.width,
        dtype=jnp.dtype(arguments.dtype).type,
        augmentation=Augmentation() if arguments.augmentation else None,
    )


def show_program(
    arguments: argparse.Namespace, task: Task, batch: int, size: int, steps: int, gpus: int
) -> tuple[float, float]:
    """Prints the kernels and messages of a compiled program.

    Returns:
      (the estimated seconds of a step, those with messages beside kernels).
    """
    shared = {}
    if arguments.mode == "train" and gpus > 1:
        shared = {
            "norm_group": arguments.norm_group,
            "gradient_sum": arguments.gradient_sum_dtype,
        }
    mesh, mode = mesh_of(arguments.gpu, gpus), arguments.mode
    cut = arguments.placement == "device"
    compiled = lower(task, mode, batch, size, steps, mesh, cut=cut, **shared).compile()
    text = compiled.as_text()
    if arguments.text and gpus == arguments.gpus:
        with open(arguments.text, "w") as file:
            file.write(text)
    program, planned = hlo.Program(text), compiled.memory_analysis()
    name, bandwidth, _ = GPUS[arguments.gpu]
    print(
        f"{task.name} {mode}, batch {batch}, {size} x {size}, {arguments.dtype}, "
        f"{steps} step(s) per dispatch, {name}; scratch memory "
        f"{planned.temp_size_in_bytes / 2**30:.2f} GiB"
    )

    def shown(title: str, computation: str) -> np.ndarray:
        seconds = show(title, program.kernels(computation), bandwidth)
        messages = program.messages(computation)
        exchange = show_messages(messages, gpus, bandwidth) if messages else (0, 0)
        return seconds + np.array(exchange)

    each = shown("each dispatch", program.entry) / steps
    for body in program.loops():
        each += shown("each step", body)
        print(f"  in total {1e3 * each[0]:.2f} ms per step: {batch / each[0]:.0f} patches/s")
    return tuple(each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", choices=tuple(GPUS), default="h100")
    parser.add_argument("--stages", default="segment,pretrain")
    parser.add_argument("--mode", choices=("train", "inference"), default="train")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--size", type=int, default=0, help="side; 0: 128 in training, 240 in inference"
    )
    parser.add_argument(
        "--steps_per_dispatch", type=int, default=0, help="0: the default of training on a GPU"
    )
    parser.add_argument("--gpus", type=int, default=1, help="number of GPUs that share the batch")
    parser.add_argument("--placement", choices=("host", "device"), default="host")
    parser.add_argument(
        "--augmentation", action="store_true", help="augment as the segmentation of configs/base.py"
    )
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--norm_group", type=int, default=0, help="config.train.norm_group")
    parser.add_argument(
        "--gradient_sum_dtype",
        choices=devices.GRADIENT_SUMS,
        default="auto",
        help="config.train.gradient_sum_dtype",
    )
    parser.add_argument("--text", help="write the text of the compiled program to this file")
    arguments = parser.parse_args()
    batch, size = arguments.batch, arguments.size
    size = size or {"train": 128, "inference": 240}[arguments.mode]
    steps = arguments.steps_per_dispatch or feed.default_steps_per_dispatch(batch, size)
    steps = steps if arguments.mode == "train" else 1
    # Hides the GPUs of this machine, because XLA would query them instead of the description.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    jax.config.update("jax_platforms", "cpu")
    for stage in arguments.stages.split(","):
        task = task_of(stage, arguments)
        shown = (task, batch, size, steps)
        each = show_program(arguments, *shown, arguments.gpus)
        if arguments.gpus > 1 and batch % arguments.gpus == 0 and arguments.mode == "train":
            print(f"the same on one GPU with {batch // arguments.gpus} of the batch:")
            alone = show_program(arguments, task, batch // arguments.gpus, size, steps, 1)
            for words, mine, shared in zip(
                ("", ", messages beside kernels"), alone, each, strict=True
            ):
                print(
                    f"  efficiency of {arguments.gpus} GPUs{words}: {1e3 * mine:.2f} / "
                    f"{1e3 * shared:.2f} ms = {mine / shared:.0%}"
                )
    print(measure.where())


if __name__ == "__main__":
    main()
