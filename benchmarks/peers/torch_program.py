"""The kernels that PyTorch's compiler makes of the peer's step for a GPU, looked at without one.

    TORCH benchmarks/peers/torch_program.py                          # both stages, batch 16
    TORCH benchmarks/peers/torch_program.py --stages=segment --batch=128 --gpu=h200

The peer of gpu_program.py, counted by the same rule. TORCH is the Python of an environment with a
CUDA build of `torch` and with `triton`; neither a GPU nor its driver is needed, nor this package.

The step of `torch_peer.py` (network and loss compiled by inductor, convolutions in bfloat16 as
AMP has them, channels-last) is traced with tensors that have no contents, put on a GPU that is
not there, and its code generated, but not compiled. What would have to be asked of a GPU is
answered here, by way of PyTorch's internals: written for torch 2.14, others may need other
answers. A gradient of a convolution is two kernels of cuDNN; fused Adam reads four arrays and
writes three for every parameter. With the mode "reduce-overhead" these are the kernels of a CUDA
graph; without it each is started from Python. Which algorithms cuDNN would choose, and the copies
that some of them make, are not known, as in gpu_program.py.
"""

import argparse
import contextlib
import platform
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import triton
from torch._functorch.aot_autograd import aot_function
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.compile_fx import compile_fx_inner
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.scheduler import ExternKernelSchedulerNode, NopKernelSchedulerNode
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.overrides import TorchFunctionMode
from triton.backends.compiler import GPUTarget

from benchmarks.gpu.kernels import GPUS, Kernel, show
from benchmarks.peers import torch_twin

GPU = torch.device("cuda:0")
CONVOLUTIONS = {
    torch.conv2d,
    torch.conv_transpose2d,
    torch.nn.functional.conv2d,
    torch.nn.functional.conv_transpose2d,
}
ADAM_ARRAYS = 7  # parameter, gradient and two moments read; all but the gradient written
ADAM_TENSORS = 36  # that PyTorch hands to one kernel when each has four lists


class Bfloat16Convolutions(TorchFunctionMode):
    """What AMP does on a GPU to these networks, for tensors that are traced on a CPU."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function in CONVOLUTIONS:
            args = tuple(a.to(torch.bfloat16) if isinstance(a, torch.Tensor) else a for a in args)
        return function(*args, **(kwargs or {}))


def traced(
    stage: str, width: int, batch: int, patch: int, mode: FakeTensorMode
) -> tuple[list[tuple[torch.fx.GraphModule, list[Any]]], list[int]]:
    """(forward and backward graph with their inputs, sizes of the parameters)."""
    if stage == "segment":
        model, channels, loss_of = torch_twin.Segmentation(4, width), 4, torch_twin.dice_ce
        target = torch.randint(0, 4, (batch, patch, patch))
    else:
        model, channels, loss_of = torch_twin.Reconstruction(2, width), 2, torch_twin.mse
        target = torch.randn(batch, 1, patch, patch)
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.ndim == 4:
                there = weight.detach().to(memory_format=torch.channels_last)
                setattr(module, name, torch.nn.Parameter(there))
    x = torch.randn(batch, channels, patch, patch).to(memory_format=torch.channels_last)
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())

    def loss_of_batch(parameters: Any, buffers: Any, x: Any, target: Any) -> Any:
        with Bfloat16Convolutions():
            output = torch.func.functional_call(model, (parameters, buffers), (x,))
        return loss_of(output, target)

    graphs: list[tuple[torch.fx.GraphModule, list[Any]]] = []

    def keep(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        graphs.append((graph, list(inputs)))

        def run(arguments: list[Any]) -> Any:
            return graph(*arguments)

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    step = aot_function(
        loss_of_batch,
        fw_compiler=keep,
        bw_compiler=keep,
        decompositions=select_decomp_table(),
        partition_fn=min_cut_rematerialization_partition,
    )
    step(parameters, buffers, x, target).backward()
    return graphs, [weight.numel() for weight in parameters.values()]


def kernels_of(lowered: GraphLowering) -> Iterator[Kernel]:
    """What a generated program starts."""
    for node in lowered.scheduler.nodes:
        moved = int(node.get_read_write_buffers_sizes())
        if isinstance(node, NopKernelSchedulerNode):
            continue
        if not isinstance(node, ExternKernelSchedulerNode):
            kind = "sum or maximum" if node.is_reduction() else "element by element"
            yield Kernel(kind, moved, node.get_name())
            continue
        operation = str(getattr(node.node, "op_overload", None))
        if "convolution_backward" in operation:
            output, image, weight = (bytes_of(buffer) for buffer in node.node.inputs[:3])
            arguments, _ = node.node.unflatten_args(node.node.inputs, node.node.constant_args)
            wanted = arguments[-1]  # of input, kernel, bias
            for of, is_wanted in zip(("input", "kernel", "bias"), wanted, strict=True):
                if is_wanted:
                    kind = f"convolution, gradient of its {of}"
                    yield Kernel(kind, output + image + weight, operation)
        elif "convolution" in operation:
            yield Kernel("convolution", moved, operation)
        elif operation != "None":
            yield Kernel(operation, moved, operation)
        # What is left takes one of several results, and is a name.


def bytes_of(buffer: Any) -> int:
    return prod(int(n) for n in buffer.get_size()) * buffer.get_dtype().itemsize


@contextlib.contextmanager
def a_gpu(name: str, memory: int) -> Iterator[None]:
    """As if one were there, for those who ask what it is."""
    properties = SimpleNamespace(
        name=name, major=9, minor=0, multi_processor_count=132, total_memory=memory,
        max_threads_per_multi_processor=2048, max_threads_per_block=1024, warp_size=32,
        regs_per_multiprocessor=65536, shared_memory_per_block=49152,
        shared_memory_per_block_optin=232448, shared_memory_per_multiprocessor=233472,
        L2_cache_size=52428800, clock_rate=1980000, memory_bus_width=5120,
        memory_clock_rate=2619000, gcnArchName="", is_integrated=0, is_multi_gpu_board=0,
    )  # fmt: skip
    answers = {
        "torch.cuda.is_available": True,
        "torch.cuda.device_count": 1,
        "torch.cuda.current_device": 0,
        "torch.cuda.get_device_properties": properties,
        "torch.cuda._get_device_properties": properties,
        "torch.cuda.get_device_capability": (9, 0),
        "torch.cuda._exchange_device": 0,
        "torch.cuda._maybe_exchange_device": 0,
        "torch.cuda._lazy_init": None,
        "torch.cuda.get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "torch.cuda.set_rng_state": None,
        "torch.cuda.is_current_stream_capturing": False,
        "torch.cuda.is_bf16_supported": True,
        "torch.cuda.synchronize": None,
        "torch._inductor.scheduler.has_triton": True,
        "torch.utils._triton.has_triton": True,
    }
    target = GPUTarget("cuda", 90, 32)
    driver = mock.MagicMock(get_current_target=lambda: target, get_current_device=lambda: 0)
    triton.runtime.driver.set_active(driver)
    with contextlib.ExitStack() as stack:
        for question, answer in answers.items():
            stack.enter_context(
                mock.patch(question, lambda *_, answer=answer, **__: answer, create=True)
            )
        yield


class Generated(Exception):
    """The code of a graph is there, and is not to be compiled."""


def generated(
    graph: torch.fx.GraphModule, inputs: list[Any], mode: FakeTensorMode, gpu: str, *, last: bool
) -> list[Kernel]:
    """The kernels of one graph, traced on a CPU."""
    found: list[Kernel] = []

    def stop(lowered: GraphLowering) -> None:
        lowered.codegen()
        found[:] = list(kernels_of(lowered))
        raise Generated

    for node in graph.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": GPU}
    graph.recompile()
    with mode:
        there = [a.to(GPU) if isinstance(a, torch.Tensor) else a for a in inputs]
    FakeTensorProp(graph, mode).propagate_dont_convert_inputs(*there)
    name, _, memory = GPUS[gpu]
    with a_gpu(name, memory), mock.patch.object(GraphLowering, "compile_to_module", stop):
        try:
            compile_fx_inner(graph, there, is_backward=last)
        except Exception:  # inductor wraps it
            if not found:
                raise
    return found


def commit() -> str:
    """As measure.py has it, which needs our package; '+' where the working tree differs."""

    def git(*arguments: str) -> str:
        where = Path(__file__).parent
        done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        differs = git("status", "--porcelain", "--untracked-files=no")
        return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if differs else "")
    except OSError:
        return "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", choices=tuple(GPUS), default="h100")
    parser.add_argument("--stages", default="segment,pretrain")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    # Else a guard of the device would ask the driver, which is not there.
    torch._C._ensureCUDADeviceGuardSet()
    name, bandwidth, _ = GPUS[arguments.gpu]
    for stage in arguments.stages.split(","):
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            graphs, sizes = traced(stage, arguments.width, arguments.batch, arguments.size, mode)
        kernels = [
            kernel
            for number, (graph, inputs) in enumerate(graphs)
            for kernel in generated(graph, inputs, mode, arguments.gpu, last=number > 0)
        ]
        adam = -(-len(sizes) // ADAM_TENSORS)
        kernels += [Kernel("Adam", 4 * ADAM_ARRAYS * sum(sizes) // adam, "Adam")] * adam
        print(
            f"{stage} train in PyTorch, batch {arguments.batch}, {arguments.size} x "
            f"{arguments.size}, bfloat16, {name}; {sum(sizes):,} parameters"
        )
        each = show("each step", kernels, bandwidth)
        print(
            f"  {1e3 * each:.2f} ms a step as a CUDA graph: {arguments.batch / each:.0f} patches/s"
        )
    print(
        f"  torch {torch.__version__}, triton {triton.__version__}, commit {commit()}, "
        f"{platform.machine()}, {datetime.now(UTC):%Y-%m-%d}"
    )


if __name__ == "__main__":
    main()
