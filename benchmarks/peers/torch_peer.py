"""A training step or forward pass in PyTorch; the peer of train_step.py, which starts it.

Uses channels-last memory format and fused Adam. With --form=best it selects the fastest form on
this machine: on a GPU, with AMP bfloat16, one of three modes of `torch.compile` (default,
reduce-overhead, max-autotune); on a CPU eager or compiled.

First prints a JSON object with version, form, threads and parameters. Then, for each input line
'N', it runs N steps and prints their wall time and processor time in seconds. For a line 'memory'
it prints its peak memory in bytes: of the process, on a GPU of the allocations there. An empty line
ends it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import torch_inference, torch_twin


def segmentation(arguments: argparse.Namespace) -> torch.nn.Module:
    """The same network as ours, or the ResNet-50 U-Net of segmentation_models_pytorch."""
    if arguments.peer == "twin":
        return torch_twin.Segmentation(4, arguments.width)
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet50", encoder_weights=None, in_channels=4, classes=4)


# The forms that --form=best measures; "compiled" is the default mode of torch.compile.
FORMS = {"cpu": ("eager", "compiled"), "cuda": ("compiled", "reduce-overhead", "max-autotune")}


def make_step(arguments: argparse.Namespace, form: str) -> tuple[Callable[[], object], int]:
    """(function of one training step or forward pass, number of parameters)."""
    torch.manual_seed(0)
    device = arguments.device
    size = (arguments.batch, arguments.patch, arguments.patch)
    if arguments.stage == "segment":
        model = segmentation(arguments)
        loss_of = torch_twin.dice_ce
        target = torch.randint(0, 4, size, device=device)
        channels = 4
    else:
        model = torch_twin.Reconstruction(2, arguments.width)
        loss_of = torch_twin.mse
        target = torch.randn(size[0], 1, *size[1:], device=device)
        channels = 2
    model = model.to(device, memory_format=torch.channels_last)
    model.train(arguments.mode == "train")
    parameters = sum(p.numel() for p in model.parameters())
    x = torch.randn(size[0], channels, *size[1:], device=device)
    x = x.to(memory_format=torch.channels_last)
    mode = None if form == "compiled" else form
    use_amp = device == "cuda"
    torch.backends.cudnn.benchmark = True  # autotuning, as in XLA

    def in_form(function: Callable[..., Any]) -> Callable[..., Any]:
        return function if form == "eager" else torch.compile(function, mode=mode)

    if arguments.mode == "inference":
        forward = in_form(model)

        @torch.inference_mode()
        def predict() -> object:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=use_amp):
                output = torch_inference.cropped(forward, x)
            return output.argmax(1).to(torch.uint8) if channels == 4 else output.float()

        return predict, parameters
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def loss_of_batch(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=use_amp):
            output = model(x)
        return loss_of(output, target)

    loss_of_model = in_form(loss_of_batch)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of_model(x, target)
        loss.backward()
        optimizer.step()
        return loss

    return step, parameters


def seconds(step: Callable[[], object], count: int, device: str) -> float:
    """Seconds of `count` steps, including the wait for the device."""
    start = time.perf_counter()
    for _ in range(count):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(device: str) -> int:
    """Peak memory in bytes: of allocations on the GPU, or of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def chosen_step(arguments: argparse.Namespace) -> tuple[Callable[[], object], dict[str, Any]]:
    """The step in the fastest of the forms to try, and the description that is printed first.

    Raises:
      SystemExit: no form runs.
    """
    on_gpu = arguments.device == "cuda"
    forms = FORMS[arguments.device] if arguments.form == "best" else (arguments.form,)
    best: tuple[float, str, Callable[[], object], int] | None = None
    tried = {}
    for form in forms:
        try:
            step, parameters = make_step(arguments, form)
            # A CUDA graph is recorded in the second run and replayed from the third on.
            seconds(step, 5 if on_gpu else 2, arguments.device)
        except Exception as error:  # e.g. without a C++ compiler; other forms may still run
            tried[form] = (str(error) or type(error).__name__).splitlines()[0][:100]
            continue
        count = 20 if on_gpu else 1
        took = min(seconds(step, count, arguments.device) for _ in range(3)) / count
        tried[form] = f"{took:.4f} s"
        if best is None or took < best[0]:
            best = took, form, step, parameters
        del step
    if on_gpu:  # so that the peak is that of the chosen form
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if best is None:
        sys.exit(f"no form of the PyTorch step runs: {tried}")
    _, form, step, parameters = best
    return step, {
        "version": torch.__version__,
        "form": form,
        "tried": tried,
        "threads": torch.get_num_threads(),
        "parameters": parameters,
        "network": arguments.peer,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=("pretrain", "segment"), required=True)
    parser.add_argument("--mode", choices=("train", "inference"), default="train")
    parser.add_argument("--peer", choices=("twin", "smp"), default="twin")
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--patch", type=int, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--form", choices=("best", "eager", *FORMS["cuda"]), default="best")
    arguments = parser.parse_args()
    step, description = chosen_step(arguments)
    print(json.dumps(description), flush=True)
    for line in sys.stdin:
        if not line.strip():
            break
        if line.strip() == "memory":
            print(peak_memory(arguments.device), flush=True)
            continue
        busy = time.process_time()
        took = seconds(step, int(line), arguments.device)
        print(took, time.process_time() - busy, flush=True)


if __name__ == "__main__":
    main()
