"""Names, shapes and seeded random values of a ResNet-50's weights, as torchvision has them.

Needs NumPy only: the script that runs torch and the tests that run JAX make the same weights
here, so none have to be stored.
"""

import zlib

import numpy as np

BLOCKS = (3, 4, 6, 3)


def shapes(in_channels: int, width: int) -> dict[str, tuple[int, ...]]:
    """State-dict names and shapes (OIHW), without `fc` and `num_batches_tracked`."""
    out: dict[str, tuple[int, ...]] = {}

    def batch_norm(name: str, channels: int) -> None:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            out[f"{name}.{leaf}"] = (channels,)

    out["conv1.weight"] = (width, in_channels, 7, 7)
    batch_norm("bn1", width)
    channels = width
    for stage, blocks in enumerate(BLOCKS):
        inner = width * 2**stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            sizes = ((inner, channels, 1), (inner, inner, 3), (4 * inner, inner, 1))
            for i, (outputs, inputs, k) in enumerate(sizes, start=1):
                out[f"{name}.conv{i}.weight"] = (outputs, inputs, k, k)
                batch_norm(f"{name}.bn{i}", outputs)
            if block == 0:
                out[f"{name}.downsample.0.weight"] = (4 * inner, channels, 1, 1)
                batch_norm(f"{name}.downsample.1", 4 * inner)
            channels = 4 * inner
    return out


def random_weights(in_channels: int, width: int) -> dict[str, np.ndarray]:
    """float32 values that depend on the name alone, of a size that keeps activations near 1."""
    weights = {}
    for name, shape in shapes(in_channels, width).items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if len(shape) == 4:
            value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith("running_var") or name.endswith("weight"):
            value = rng.uniform(0.5, 1.5, shape)
            if ".bn3." in name and name.endswith("weight"):
                value *= 0.4  # or the sixteen residual sums grow from block to block
        else:
            value = rng.normal(0, 0.2, shape)
        weights[name] = value.astype(np.float32)
    return weights


def random_input(in_channels: int, seed: int = 5) -> np.ndarray:
    """float32[2, 64, 64, in_channels]: noise with a constant corner, where pooling sees ties."""
    x = np.random.default_rng(seed).standard_normal((2, 64, 64, in_channels))
    x[:, :24, :24] = -0.7
    return x.astype(np.float32)


def random_cotangents(outputs: list[np.ndarray]) -> list[np.ndarray]:
    """Weights of each element of the maps (NHWC) in the scalar whose gradient is stored."""
    rng = np.random.default_rng(11)
    return [(rng.standard_normal(y.shape) / np.sqrt(y.size)).astype(np.float32) for y in outputs]
