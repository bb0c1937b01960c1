"""Trains a PyTorch network on patches from a pipe; a peer of real.py, which starts it.

Reads messages of array_pipe.py from standard input and answers each on standard output:

    build    network, sizes, optimiser; initial weights by name -> versions, number of parameters
    train    patches [N, B, P, P, C], labels [N, B, P, P], learning rates [N] -> losses [N], seconds
    predict  slices [S, H, W, C] -> logits [S, H, W, K], seconds
    keep     keeps the weights as the best so far;  restore  goes back to them

The seconds are those of the loop, without waiting for data. Networks: `twin`, our own parameter for
parameter (torch_twin.py), and `smp`, the ResNet-50 U-Net of segmentation_models_pytorch without
pretrained weights. Needs torch, and segmentation_models_pytorch for `smp`.
"""

import copy
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.peers import array_pipe, torch_twin

STRIDE = 32


def smp_unet(in_channels: int, width: int, outputs: int) -> torch.nn.Module:
    """The U-Net of segmentation_models_pytorch with ResNet-50; all channels scale with the width.

    Its ResNet has 64 channels in the stem; its own pieces are made again with `width` channels. It
    initialises itself.
    """
    import segmentation_models_pytorch as smp
    from segmentation_models_pytorch.encoders import encoders
    from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
    from torchvision.models.resnet import Bottleneck

    class Narrow(ResNetEncoder):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.inplanes = width
            self.conv1 = torch.nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(width)
            for stage, blocks in enumerate(torch_twin.BLOCKS):
                layer = self._make_layer(
                    Bottleneck, width * 2**stage, blocks, stride=2 if stage else 1
                )
                setattr(self, f"layer{stage + 1}", layer)
            for module in self.modules():  # as torchvision's ResNet does
                if isinstance(module, torch.nn.Conv2d):
                    torch.nn.init.kaiming_normal_(module.weight, mode="fan_out")

    name = f"resnet50_width{width}"
    encoders[name] = {
        "encoder": Narrow,
        "pretrained_settings": {},
        "params": {
            "out_channels": [3, width, *(4 * width * 2**stage for stage in range(4))],
            "block": Bottleneck,
            "layers": list(torch_twin.BLOCKS),
        },
    }
    return smp.Unet(
        "resnet50" if width == 64 else name,
        encoder_weights=None,
        decoder_channels=tuple(torch_twin.decoder_channels(width)),
        in_channels=in_channels,
        classes=outputs,
    )


def twin_name(name: str) -> str:
    """The name in torch_twin.py of a tensor of `brats_jax.models.torch_weights.torch_state`.

    decoder.stages.0.block1.conv.weight -> decoder.0.0.0.weight; those of the encoder have no
    prefix there.
    """
    parts = name.split(".")
    if parts[0] == "decoder":
        block = str(int(parts[3].removeprefix("block")) - 1)
        return ".".join(["decoder", parts[2], block, {"conv": "0", "bn": "1"}[parts[4]], parts[5]])
    return name if parts[0] == "head" else f"encoder.{name}"


def twin(in_channels: int, width: int, outputs: int, weights: dict[str, np.ndarray]) -> Any:
    """Our network, with the given initial weights."""
    model = torch_twin.Segmentation(in_channels, width, outputs)
    state = {
        twin_name(name): torch.from_numpy(value)
        for name, value in weights.items()
        if not name.startswith("auxiliary.")
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    left = [name for name in missing if not name.endswith("num_batches_tracked")]
    if left or unexpected:
        raise SystemExit(f"weights do not fit the twin: {left[:3]} {unexpected[:3]}")
    return model


def use_leaky_relu(decoder: torch.nn.Module, slope: float) -> None:
    """Replaces each ReLU of a decoder by a leaky one with this slope, as config.model.slope."""
    for module in list(decoder.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ReLU):
                setattr(module, name, torch.nn.LeakyReLU(slope, inplace=child.inplace))


class DeeplySupervised(torch.nn.Module):
    """A network with 1x1 convolutions as heads of its decoder's maps at strides 2, 4 and 8.

    In training its result is (logits, {stride: logits of the coarser map}), otherwise the logits.

    Args:
      model: the network.
      stages: of its decoder, coarsest first.
      channels: of their results.
      outputs: channels of the heads.
      weights: initial weights of the heads by name; without them He's normal of the inputs.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        stages: Sequence[torch.nn.Module],
        channels: Sequence[int],
        outputs: int,
        weights: dict[str, np.ndarray],
    ) -> None:
        super().__init__()
        self.model, self.maps = model, dict[int, torch.Tensor]()
        self.auxiliary = torch.nn.ModuleList()
        finest_first = list(zip(stages, channels, strict=True))[::-1]
        for stride, (stage, inputs) in zip((2, 4, 8), finest_first[1:], strict=False):
            head = torch.nn.Conv2d(inputs, outputs, 1)
            torch.nn.init.kaiming_normal_(head.weight, nonlinearity="relu")
            torch.nn.init.zeros_(head.bias)
            self.auxiliary.append(head)
            stage.register_forward_hook(self._keeps(stride))
        own = {name: torch.from_numpy(value) for name, value in weights.items()}
        self.load_state_dict(own, strict=False)

    def _keeps(self, stride: int) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
            self.maps[stride] = output

        return hook

    def forward(self, x: torch.Tensor) -> Any:
        logits = self.model(x)
        if not self.training:
            return logits
        heads = zip(sorted(self.maps), self.auxiliary, strict=True)
        return logits, {stride: head(self.maps[stride]) for stride, head in heads}


def with_auxiliary_heads(
    model: torch.nn.Module, options: dict[str, Any], weights: dict[str, Any]
) -> Any:
    """The network with the heads of deep supervision."""
    decoder = model.decoder
    stages = list(decoder.blocks if options["network"] == "smp" else decoder)
    channels = torch_twin.decoder_channels(options["width"])
    own = {name: value for name, value in weights.items() if name.startswith("auxiliary.")}
    return DeeplySupervised(model, stages, channels, options["outputs"], own)


def loss_of(output: Any, labels: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """The loss of a batch, as `brats_jax.losses.deeply_supervised` where there are more heads."""
    how = options["regions"], options["label_smoothing"]
    if isinstance(output, torch.Tensor):
        return dice_ce(output, labels, *how)
    logits, auxiliary = output
    total, weights = dice_ce(logits, labels, *how), 1.0
    for i, (stride, coarse) in enumerate(sorted(auxiliary.items()), start=1):
        nearest = labels[:, stride // 2 :: stride, stride // 2 :: stride]
        total = total + dice_ce(coarse, nearest, *how) / 2**i
        weights += 1 / 2**i
    return total / weights


def dice_ce(
    logits: torch.Tensor, labels: torch.Tensor, regions: list[list[int]] | None, smoothing: float
) -> torch.Tensor:
    """`brats_jax.losses.dice_ce`: of classes by the softmax, of regions by the sigmoid.

    Args:
      logits: [B, K, H, W].
      labels: [B, H, W].
      regions: the labels of each channel, where channels overlap; None: channel k is label k.
      smoothing: of the cross-entropy's target.
    """
    if not regions:
        if not smoothing:
            return torch_twin.dice_ce(logits, labels)
        plain = torch_twin.dice_ce(logits, labels)
        smoothed = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        return plain + 0.5 * (smoothed - F.cross_entropy(logits.float(), labels))
    logits = logits.float()
    p = logits.sigmoid()
    inside = [torch.isin(labels, torch.tensor(r, device=labels.device)) for r in regions]
    truth = torch.stack(inside, 1).to(p.dtype)
    total = p.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    dice = (1 - (2 * (p * truth).sum((0, 2, 3)) + 1e-5) / (total + 1e-5)).mean()
    target = (1 - smoothing) * truth + smoothing / 2
    return 0.5 * dice + 0.5 * F.binary_cross_entropy_with_logits(logits, target)


def averaged_tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    """The tensors of the moving average: parameters and running statistics."""
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    return [*model.parameters(), *buffers]


def optimizer_of(model: torch.nn.Module, options: dict[str, Any]) -> torch.optim.Optimizer:
    """Adam, or AdamW with weight decay of the kernels alone."""
    if options["optimizer"] == "adam":
        return torch.optim.Adam(model.parameters(), lr=1.0, fused=True)
    kernels = [p for p in model.parameters() if p.ndim == 4]
    others = [p for p in model.parameters() if p.ndim != 4]
    groups = [
        {"params": kernels, "weight_decay": options["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1.0, fused=True)


class Worker:
    """A network, its optimiser and its best weights.

    Args:
      options: the header of the message `build`.
      weights: its arrays.
    """

    def __init__(self, options: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
        self.options, self.device = options, options["device"]
        torch.manual_seed(options["seed"])
        torch.backends.cudnn.benchmark = True  # autotuning, as in XLA
        sizes = options["in_channels"], options["width"], options["outputs"]
        model = smp_unet(*sizes) if options["network"] == "smp" else twin(*sizes, weights)
        if options["slope"]:
            use_leaky_relu(model.decoder, options["slope"])
        if options["deep_supervision"]:
            model = with_auxiliary_heads(model, options, weights)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.forward = torch.compile(self.model) if options["form"] == "compiled" else self.model
        self.optimizer = optimizer_of(self.model, options)
        # The network to predict with: the moving average, or the network of the last step.
        self.predicting = copy.deepcopy(self.model).train(False) if options["ema"] else self.model
        self.steps = 0
        self.best: dict[str, Any] = {}

    def answer(self, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> array_pipe.Message:
        """Does what a message asks for."""
        if header["do"] == "train":
            return self.train(arrays)
        if header["do"] == "predict":
            return self.predict(arrays["x"], header["batch"])
        {"keep": self.keep, "restore": self.restore}[header["do"]]()
        return {}, {}

    def _amp(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda")

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def _images(self, x: np.ndarray) -> torch.Tensor:
        """[B, H, W, C] as [B, C, H, W] in the memory format channels-last, without a copy."""
        return torch.from_numpy(x).to(self.device).float().permute(0, 3, 1, 2)

    def describe(self) -> dict[str, Any]:
        """Versions, threads and size."""
        return {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "form": self.options["form"],
        }

    def train(self, arrays: dict[str, np.ndarray]) -> array_pipe.Message:
        """Optimiser steps in order, one for each entry of the first axis."""
        self.model.train(True)
        options, losses = self.options, []
        begin = time.perf_counter()
        for x, labels, rate in zip(arrays["x"], arrays["labels"], arrays["rate"], strict=True):
            for group in self.optimizer.param_groups:
                group["lr"] = float(rate)
            self.optimizer.zero_grad(set_to_none=True)
            target = torch.from_numpy(labels).to(self.device).long()
            with self._amp():
                output = self.forward(self._images(x))
            loss = loss_of(output, target, options)
            loss.backward()
            if options["clip_norm"]:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), options["clip_norm"])
            self.optimizer.step()
            self._average()
            losses.append(loss.detach())
        self._wait()
        seconds = time.perf_counter() - begin
        return {"seconds": seconds}, {"losses": torch.stack(losses).cpu().numpy()}

    @torch.no_grad()
    def _average(self) -> None:
        """Updates the moving average, as `brats_jax.training.averaging` does."""
        self.steps += 1
        if self.options["ema"]:
            share = max(1 - self.options["ema"], 9 / (10 + self.steps))
            torch._foreach_lerp_(
                averaged_tensors(self.predicting), averaged_tensors(self.model), share
            )

    @torch.inference_mode()
    def predict(self, x: np.ndarray, batch: int) -> array_pipe.Message:
        """Logits of whole slices, padded to multiples of 32 by their border as in our networks."""
        self.predicting.train(False)
        # `forward` is compiled from the network of the last step.
        forward = self.predicting if self.options["ema"] else self.forward
        height, width = x.shape[1:3]
        parts = []
        begin = time.perf_counter()
        for start in range(0, len(x), batch):
            images = self._images(x[start : start + batch])
            padding = (0, -width % STRIDE, 0, -height % STRIDE)
            with self._amp():
                logits = forward(F.pad(images, padding, mode="replicate"))
            parts.append(logits[..., :height, :width].float().cpu())
        seconds = time.perf_counter() - begin
        return {"seconds": seconds}, {"logits": torch.cat(parts).permute(0, 2, 3, 1).numpy()}

    def keep(self) -> None:
        """Keeps the weights and the running statistics."""
        self.best = copy.deepcopy(self.predicting.state_dict())

    def restore(self) -> None:
        """Goes back to the weights that were kept."""
        self.predicting.load_state_dict(self.best)


def main() -> None:
    source = sys.stdin.buffer
    # Libraries that print must not write into the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker: Worker | None = None
    while (message := array_pipe.receive(source)) is not None:
        header, arrays = message
        if worker is None:
            worker = Worker(header, arrays)
            array_pipe.send(answers, worker.describe())
        else:
            array_pipe.send(answers, *worker.answer(header, arrays))


if __name__ == "__main__":
    main()
