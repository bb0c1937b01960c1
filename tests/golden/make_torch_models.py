"""Stores what torch computes for a narrow ResNet-50 and for single layers: torch_models.npz.

Run in an environment of its own, which the test suite does not need:

    python -m venv golden && golden/bin/pip install torch==2.13.0 numpy
    golden/bin/python tests/golden/make_torch_models.py

The network is torchvision's `resnet50` as benchmarks/peers/torch_twin.py writes it out, its
names checked
by loading every one strictly. Weights and inputs come from resnet50_weights.py. Stored, NHWC:

    {eval,train}/c0..c4   the five maps at width 8, two 64x64 images of 3 channels
    train/stats/*         running statistics after that one training step
    train/grad/*          gradients of sum_k <c_k, fixed random> by some weights and the input
    pool/*, transposed/*  nn.MaxPool2d(3, 2, 1) and nn.ConvTranspose2d(i, o, 4, 2, 1), with
                          the gradients by all their inputs
"""

import sys
from pathlib import Path

import numpy as np
import torch
from resnet50_weights import random_cotangents, random_input, random_weights
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.peers.torch_twin import ResNet50

GRADIENTS = (
    "conv1.weight",
    "bn1.weight",
    "bn1.bias",
    "layer1.0.downsample.0.weight",
    "layer2.0.conv2.weight",
    "layer3.5.bn3.weight",
    "layer4.2.conv3.weight",
)


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def nhwc(x: torch.Tensor) -> np.ndarray:
    return x.detach().numpy().transpose(0, 2, 3, 1)


def resnet(out: dict[str, np.ndarray]) -> None:
    model = ResNet50(3, 8)
    weights = {k: torch.from_numpy(v) for k, v in random_weights(3, 8).items()}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    with torch.no_grad():
        for i, y in enumerate(model.eval()(nchw(random_input(3)))):
            out[f"eval/c{i}"] = nhwc(y)
    x = nchw(random_input(3)).requires_grad_()
    maps = model.train()(x)
    for i, y in enumerate(maps):
        out[f"train/c{i}"] = nhwc(y)
    cotangents = random_cotangents([nhwc(y) for y in maps])
    sum((y * nchw(g)).sum() for y, g in zip(maps, cotangents, strict=True)).backward()
    out["train/grad/input"] = nhwc(x.grad)
    parameters = dict(model.named_parameters())
    for name in GRADIENTS:
        out[f"train/grad/{name}"] = parameters[name].grad.numpy()
    for name, value in model.state_dict().items():
        if "running" in name and ("bn1" in name or "downsample" in name):
            out[f"train/stats/{name}"] = value.numpy()


def layers(out: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    for size in ((8, 8), (7, 5), (1, 6)):
        name = f"pool/{size[0]}x{size[1]}"
        x = rng.integers(-4, 3, (2, *size, 3)).astype(np.float32)  # many ties
        t = nchw(x).requires_grad_()
        y = nn.MaxPool2d(3, stride=2, padding=1)(t)
        g = rng.standard_normal(nhwc(y).shape).astype(np.float32)
        y.backward(nchw(g))
        out |= {f"{name}/x": x, f"{name}/y": nhwc(y), f"{name}/g": g, f"{name}/dx": nhwc(t.grad)}
    conv = nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1, bias=False)
    w = rng.standard_normal((6, 5, 4, 4)).astype(np.float32)
    conv.weight.data = torch.from_numpy(w.copy())
    x = rng.standard_normal((2, 5, 3, 6)).astype(np.float32)
    t = nchw(x).requires_grad_()
    y = conv(t)
    g = rng.standard_normal(nhwc(y).shape).astype(np.float32)
    y.backward(nchw(g))
    out |= {
        "transposed/x": x,
        "transposed/weight": w,
        "transposed/y": nhwc(y),
        "transposed/g": g,
        "transposed/dx": nhwc(t.grad),
        "transposed/dweight": conv.weight.grad.numpy(),
    }


def main() -> None:
    out: dict[str, np.ndarray] = {}
    resnet(out)
    layers(out)
    np.savez_compressed(Path(__file__).with_name("torch_models.npz"), **out)


if __name__ == "__main__":
    main()
