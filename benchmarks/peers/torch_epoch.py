"""A training epoch in PyTorch; the peer of epoch.py and start.py, which start it.

Trains the network of torch_twin.py on patches from a DataLoader over Kaggle slice files
(torch_loader.py), with channels-last memory format and fused Adam, on a GPU with AMP bfloat16 and
`torch.compile`; then validates whole slices and saves the last and the best state. Prints a JSON
object after two steps. Then, for each input line, it runs an epoch and prints the seconds of the
epoch, of its steps, of its validation and of its saving. Needs torch and h5py.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, RandomSampler, Subset

from benchmarks.peers import torch_inference, torch_twin
from benchmarks.peers.torch_loader import Slices

Pair = tuple[torch.Tensor, torch.Tensor]


class Training:
    """Network, optimiser and data of a stage."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = arguments.device
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        if arguments.stage == "segment":
            self.model: torch.nn.Module = torch_twin.Segmentation(4, arguments.width)
        else:
            self.model = torch_twin.Reconstruction(2, arguments.width)
        self.model = self.model.to(self.device, memory_format=torch.channels_last)
        on_gpu = self.device == "cuda"
        self.forward = torch.compile(self.model) if on_gpu else self.model
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)
        options = {"num_workers": arguments.workers, "pin_memory": on_gpu}
        patches = Slices(arguments.folder, arguments.patch)
        sampler = RandomSampler(patches, replacement=True, num_samples=10**9)
        self.patches = iter(DataLoader(patches, arguments.batch, sampler=sampler, **options))
        whole = Subset(Slices(arguments.folder, arguments.size), range(arguments.validation_slices))
        self.whole = DataLoader(whole, arguments.batch, persistent_workers=True, **options)

    def _pair(self, batch: list[torch.Tensor]) -> Pair:
        """(input, target); the order of the modalities has no effect on the time."""
        image, mask = (part.to(self.device, non_blocking=True) for part in batch)
        if self.arguments.stage == "pretrain":
            return image[:, 1:3].contiguous(memory_format=torch.channels_last), image[:, :1]
        label = (mask.long() * torch.tensor([1, 2, 3], device=self.device)[:, None, None]).amax(1)
        return image.contiguous(memory_format=torch.channels_last), label

    def _loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = torch_twin.dice_ce if self.arguments.stage == "segment" else torch_twin.mse
        return loss(output, target)

    def _amp(self) -> torch.autocast:
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.device == "cuda")

    def step(self) -> torch.Tensor:
        """One training step on the next batch of the loader."""
        x, target = self._pair(next(self.patches))
        self.optimizer.zero_grad(set_to_none=True)
        with self._amp():
            output = self.forward(x)
        loss = self._loss(output, target)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def validate(self) -> float:
        """Mean loss over whole slices."""
        self.model.train(False)
        losses = []
        with torch.inference_mode():
            for batch in self.whole:
                x, target = self._pair(batch)
                with self._amp():
                    output = torch_inference.cropped(self.forward, x)
                losses.append(self._loss(output, target))
        self.model.train(True)
        return float(torch.stack(losses).mean())

    def save(self, folder: Path) -> None:
        """Saves the last state and the best model."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state, folder / "last.pt")
        torch.save(state["model"], folder / "best.pt")

    def parts(self, folder: Path) -> Iterator[float]:
        """Runs an epoch; yields the seconds of its steps, validation and saving."""
        for part in (self._steps, self.validate, lambda: self.save(folder)):
            start = time.perf_counter()
            part()
            yield time.perf_counter() - start

    def _steps(self) -> float:
        loss = torch.zeros((), device=self.device)
        for _ in range(self.arguments.steps):
            loss += self.step()
        return float(loss)  # waits for the device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=("pretrain", "segment"), required=True)
    parser.add_argument("--folder", type=Path, required=True)
    for name in ("width", "batch", "patch", "size", "steps", "workers", "validation_slices"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = parser.parse_args()
    if arguments.device == "auto":
        use_gpu = torch.cuda.is_available() and os.environ.get("JAX_PLATFORMS") != "cpu"
        arguments.device = "cuda" if use_gpu else "cpu"
    training = Training(arguments)
    for _ in range(2):
        float(training.step())
    print(json.dumps({"version": torch.__version__}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            if not line.strip():
                break
            parts = list(training.parts(Path(folder)))
            print(sum(parts), *parts, flush=True)


if __name__ == "__main__":
    main()
