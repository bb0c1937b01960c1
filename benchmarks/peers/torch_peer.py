"""A PyTorch step or forward pass, told when to run; `train_step.py` starts it as a process.

Takes the strongest form of this machine: channels-last, fused Adam, on a GPU AMP bfloat16 and
`torch.compile` in its default mode, with reduce-overhead or with max-autotune, on a CPU eager or
compiled, whichever is the fastest here.

Speaks one line at a time. First it prints a JSON object that describes it; then for every line
'N' that it reads it runs N steps and prints the seconds they took and those of processor time, and
for a line 'memory' the bytes of its peak: of the process, on a GPU of its allocations there. An
empty line ends it.
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
    """Our network's twin, or segmentation_models_pytorch's U-Net on ResNet-50."""
    if arguments.peer == "twin":
        return torch_twin.Segmentation(4, arguments.width)
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet50", encoder_weights=None, in_channels=4, classes=4)


# What `best` tries; those but eager and compiled are modes of torch.compile.
FORMS = {"cpu": ("eager", "compiled"), "cuda": ("compiled", "reduce-overhead", "max-autotune")}


def make_step(arguments: argparse.Namespace, form: str) -> tuple[Callable[[], object], int]:
    """(one training step or forward pass, the model's parameters)."""
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
    torch.backends.cudnn.benchmark = True  # tries algorithms, as XLA does

    def best_form(function: Callable[..., Any]) -> Callable[..., Any]:
        return function if form == "eager" else torch.compile(function, mode=mode)

    if arguments.mode == "inference":
        forward = best_form(model)

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

    loss_of_model = best_form(loss_of_batch)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of_model(x, target)
        loss.backward()
        optimizer.step()
        return loss

    return step, parameters


def seconds(step: Callable[[], object], count: int, device: str) -> float:
    """Time of `count` steps, until the device is done."""
    start = time.perf_counter()
    for _ in range(count):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(device: str) -> int:
    """Bytes: the largest use of the GPU so far, on CPU of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=("pretrain", "segment"), required=True)
    parser.add_argument("--mode", choices=("train", "inference"), default="train")
    parser.add_argument("--peer", choices=("twin", "smp"), default="twin")
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--patch", type=int, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    every = ("best", "eager", *FORMS["cuda"])
    parser.add_argument("--form", choices=every, default="best")
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda"
    forms = FORMS[arguments.device] if arguments.form == "best" else (arguments.form,)
    best: tuple[float, str, Callable[[], object], int] | None = None
    tried = {}
    for form in forms:
        try:
            step, parameters = make_step(arguments, form)
            # CUDA graphs are recorded in the second run and replayed from the third on.
            seconds(step, 5 if on_gpu else 2, arguments.device)
        except Exception as error:  # no C++ compiler, say: the other form is still a peer
            tried[form] = (str(error) or type(error).__name__).splitlines()[0][:100]
            continue
        count = 20 if on_gpu else 1
        took = min(seconds(step, count, arguments.device) for _ in range(3)) / count
        tried[form] = f"{took:.4f} s"
        if best is None or took < best[0]:
            best = took, form, step, parameters
        del step
    if on_gpu:  # of the chosen form alone
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if best is None:
        sys.exit(f"no form of the PyTorch step runs: {tried}")
    _, form, step, parameters = best
    description = {
        "version": torch.__version__,
        "form": form,
        "tried": tried,
        "threads": torch.get_num_threads(),
        "parameters": parameters,
        "network": arguments.peer,
    }
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
