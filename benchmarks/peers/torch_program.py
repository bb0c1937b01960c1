"""Lists the GPU kernels that PyTorch's compiler generates for the peer's step; needs no GPU.

    TORCH benchmarks/peers/torch_program.py                          # both stages, batch 16
    TORCH benchmarks/peers/torch_program.py --stages=segment --batch=128 --gpu=h200

The peer of gpu/gpu_program.py, with the same rule of counting. TORCH is the Python of an
environment with a CUDA build of `torch` and with `triton`. A GPU, its driver and jax are not
needed.

The step of torch_peer.py (network and loss compiled by inductor, channels-last, convolutions in
bfloat16 as with AMP) is traced with fake tensors on a fake GPU. Inductor generates the code but
does not compile it. This script replaces the functions of PyTorch that query the GPU; they are
internals of torch 2.14, so other versions may need other replacements. The gradient of a
convolution counts as two cuDNN kernels; fused Adam reads four arrays and writes three per
parameter. With the mode "reduce-overhead" the kernels run as a CUDA graph; otherwise Python starts
each of them. As in gpu_program.py, the algorithms that cuDNN would choose, and their copies, are
unknown.
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
ADAM_TENSORS = 36  # tensors per fused kernel when an optimiser has four lists of tensors


class Bfloat16Convolutions(TorchFunctionMode):
    """Casts inputs of convolutions to bfloat16, as AMP does on a GPU, while tracing on a CPU."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function in CONVOLUTIONS:
            args = tuple(a.to(torch.bfloat16) if isinstance(a, torch.Tensor) else a for a in args)
        return function(*args, **(kwargs or {}))


def traced(
    stage: str, width: int, batch: int, patch: int, mode: FakeTensorMode
) -> tuple[list[tuple[torch.fx.GraphModule, list[Any]]], list[int]]:
    """Traces a step: (forward and backward graph with their inputs, sizes of the parameters)."""
    if stage == "segment":
        model, channels, loss_of = torch_twin.Segmentation(4, width), 4, torch_twin.dice_ce
        target = torch.randint(0, 4, (batch, patch, patch))
    else:
        model, channels, loss_of = torch_twin.Reconstruction(2, width), 2, torch_twin.mse
        target = torch.randn(batch, 1, patch, patch)
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.ndim == 4:
                channels_last = weight.detach().to(memory_format=torch.channels_last)
                setattr(module, name, torch.nn.Parameter(channels_last))
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
    """The kernels that a generated program starts."""
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
            mask = arguments[-1]  # gradients to compute: of input, kernel, bias
            for name, needed in zip(("input", "kernel", "bias"), mask, strict=True):
                if needed:
                    kind = f"convolution, gradient of its {name}"
                    yield Kernel(kind, output + image + weight, operation)
        elif "convolution" in operation:
            yield Kernel("convolution", moved, operation)
        elif operation != "None":
            yield Kernel(operation, moved, operation)
        # Other nodes select one of several results and start no kernel.


def bytes_of(buffer: Any) -> int:
    return prod(int(n) for n in buffer.get_size()) * buffer.get_dtype().itemsize


@contextlib.contextmanager
def fake_gpu(name: str, memory: int) -> Iterator[None]:
    """Replaces PyTorch's queries of the GPU, so that inductor generates code for this GPU."""
    properties = SimpleNamespace(
        name=name, major=9, minor=0, multi_processor_count=132, total_memory=memory,
        max_threads_per_multi_processor=2048, max_threads_per_block=1024, warp_size=32,
        regs_per_multiprocessor=65536, shared_memory_per_block=49152,
        shared_memory_per_block_optin=232448, shared_memory_per_multiprocessor=233472,
        L2_cache_size=52428800, clock_rate=1980000, memory_bus_width=5120,
        memory_clock_rate=2619000, gcnArchName="", is_integrated=0, is_multi_gpu_board=0,
    )  # fmt: skip
    replacements = {
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
        for function, value in replacements.items():
            stack.enter_context(
                mock.patch(function, lambda *_, value=value, **__: value, create=True)
            )
        yield


class Generated(Exception):
    """Raised after code generation, to skip compilation."""


def generated(
    graph: torch.fx.GraphModule, inputs: list[Any], mode: FakeTensorMode, gpu: str, *, last: bool
) -> list[Kernel]:
    """The kernels that inductor generates for one graph that was traced on a CPU."""
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
        on_gpu = [a.to(GPU) if isinstance(a, torch.Tensor) else a for a in inputs]
    FakeTensorProp(graph, mode).propagate_dont_convert_inputs(*on_gpu)
    name, _, memory = GPUS[gpu]
    with fake_gpu(name, memory), mock.patch.object(GraphLowering, "compile_to_module", stop):
        try:
            compile_fx_inner(graph, on_gpu, is_backward=last)
        except Exception:  # inductor wraps `Generated` in an exception of its own
            if not found:
                raise
    return found


def commit() -> str:
    """Short hash of the commit, '+' if the working tree has changes (measure.py needs jax)."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changes else "")
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
    # Without this, PyTorch's device guard would call the driver.
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
            f"  {1e3 * each:.2f} ms per step as a CUDA graph: {arguments.batch / each:.0f} "
            "patches/s"
        )
    print(
        f"  torch {torch.__version__}, triton {triton.__version__}, commit {commit()}, "
        f"{platform.machine()}, {datetime.now(UTC):%Y-%m-%d}"
    )


if __name__ == "__main__":
    main()
