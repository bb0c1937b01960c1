"""Layers of the networks: float32 parameters, compute in `dtype`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax.models.ops import (
    BATCH_NORM_EPSILON,
    add_and_relu,
    batch_norm,
    conv2d,
    conv2d_upsampled,
)

BATCH_NORM_MOMENTUM = 0.9  # share of the old running statistics that a step keeps

Initializer = Callable[[jax.Array, tuple[int, ...]], jax.Array]


def normal(key: jax.Array, shape: tuple[int, ...], variance: float) -> Float[Array, "..."]:
    """Draws N(0, variance) in float32 with NumPy, seeded by the words of `key`.

    XLA:CPU compiles 0.6 s for every new shape of `jax.random.normal`, 40 s for one network. NumPy
    draws the 25 million weights of a full-width network in 0.3 s. Under tracing
    (`nnx.eval_shape`, `jit`) the draw is a callback with the same numbers.
    """

    def draw(words: jax.Array) -> np.ndarray:
        generator = np.random.default_rng(np.asarray(words).ravel().tolist())
        sample = generator.standard_normal(shape, dtype=np.float32)
        return np.asarray(sample * np.float32(np.sqrt(variance)), np.float32)

    words = jax.random.key_data(key)
    if not isinstance(words, jax.core.Tracer):
        return _on_device(draw(words))
    return jax.pure_callback(
        draw, jax.ShapeDtypeStruct(shape, jnp.float32), words, vmap_method="sequential"
    )


def he_normal_fan_out(key: jax.Array, shape: tuple[int, ...]) -> Float[Array, "kh kw i o"]:
    """N(0, 2 / (kh kw out)): torchvision's initialisation of every ResNet convolution."""
    height, width, _, outputs = shape
    return normal(key, shape, 2 / (height * width * outputs))


def he_normal_fan_in(key: jax.Array, shape: tuple[int, ...]) -> Float[Array, "kh kw i o"]:
    """N(0, 2 / (kh kw in)): for decoders, whose layers have many more inputs than outputs."""
    height, width, inputs, _ = shape
    return normal(key, shape, 2 / (height * width * inputs))


def _constant(value: float, channels: int) -> Float[Array, " c"]:
    # From NumPy, because `jnp.full` compiles a program for every new size.
    return _on_device(np.full(channels, value, np.float32))


def _on_device(array: np.ndarray) -> jax.Array:
    # Without its type, JAX 0.10 compiles a program for every new shape here, too.
    return jnp.asarray(array, array.dtype)


class Conv(nnx.Module):
    """Square convolution, zero padded by (k - 1) // 2 on every side as in torch.

    Attributes:
      kernel: float32 parameter [k, k, in, out].
      bias: float32 parameter [out], or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        use_bias: bool = False,
        kernel_init: Initializer = he_normal_fan_out,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (kernel_size, kernel_size, in_channels, out_channels)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape))
        self.bias = nnx.Param(_constant(0.0, out_channels)) if use_bias else None
        self.stride = stride
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b ho wo o"]:
        y = conv2d(x.astype(self.dtype), self.kernel[...], stride=self.stride)
        return y if self.bias is None else y + self.bias[...].astype(y.dtype)


class Bias(nnx.Module):
    """A float32 parameter [channels] to add to a map; 0 at first."""

    def __init__(self, channels: int) -> None:
        self.bias = nnx.Param(_constant(0.0, channels))


class BatchNorm(nnx.Module):
    """Batch normalisation with float32 statistics and arithmetic in every compute dtype.

        y = (x - mean) / sqrt(var + 1e-5) * scale + bias

    In training `mean` and `var` are those of the whole batch: under `jit` over a sharded batch
    that is the global batch, so the number of devices does not change the numbers. The running
    statistics become 0.9 * running + 0.1 * batch, with the biased variance (torch's momentum 0.1
    is the same, but its running variance takes the unbiased one, n / (n - 1) larger).

    Not `nnx.BatchNorm`: it rounds the running statistics to bfloat16 in evaluation, and takes the
    variance as E[x^2] - E[x]^2, which loses the variance of channels far from zero.

    Attributes:
      scale, bias: float32 parameters [channels].
      mean, var: running statistics, float32 `nnx.BatchStat` [channels].
    """

    def __init__(self, channels: int, *, dtype: DTypeLike = jnp.float32) -> None:
        self.scale = nnx.Param(_constant(1.0, channels))
        self.bias = nnx.Param(_constant(0.0, channels))
        self.mean = nnx.BatchStat(_constant(0.0, channels))
        self.var = nnx.BatchStat(_constant(1.0, channels))
        self.dtype = dtype

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        shortcut: Float[Array, "b h w c"] | None = None,
        *,
        relu: bool = False,
        train: bool,
    ) -> Float[Array, "b h w c"]:
        """Normalises `x`; optionally adds a shortcut and applies ReLU."""
        x = x.astype(self.dtype)
        shortcut = None if shortcut is None else shortcut.astype(self.dtype)
        if not train:
            factor = lax.rsqrt(self.var[...] + BATCH_NORM_EPSILON) * self.scale[...]
            y = (x.astype(jnp.float32) - self.mean[...]) * factor + self.bias[...]
            return add_and_relu(y.astype(self.dtype), shortcut, relu)
        y, mean, var = batch_norm(x, self.scale[...], self.bias[...], shortcut, relu=relu)
        for running, batch in ((self.mean, mean), (self.var, var)):
            # Not `running[...] = `: NNX then asks for the sharding of a tracer, and for the words
            # of its error JAX searches all that is traced so far.
            running.set_value(
                lax.stop_gradient(
                    BATCH_NORM_MOMENTUM * running[...] + (1 - BATCH_NORM_MOMENTUM) * batch
                )
            )
        return y


class ConvBNReLU(nnx.Module):
    """3x3 convolution, batch normalisation, ReLU or leaky ReLU.

        max(y, slope y)

    Args:
      in_channels, out_channels: of the convolution.
      slope: below 0; 0 is ReLU.
      dtype: compute type.
      rngs: needs the stream `params`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        slope: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.slope = slope
        self.conv = Conv(
            in_channels, out_channels, 3, kernel_init=he_normal_fan_in, dtype=dtype, rngs=rngs
        )
        self.bn = BatchNorm(out_channels, dtype=dtype)

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b h w o"]:
        return activated(self.bn, self.conv(x), self.slope, train=train)

    def upsampled(
        self,
        x: Float[Array, "b h w i"],
        skip: Float[Array, "b 2*h 2*w s"] | None,
        *,
        train: bool,
    ) -> Float[Array, "b 2*h 2*w o"]:
        """Applies the layer to `x` up-sampled by 2 (nearest) and concatenated with `skip`."""
        dtype = self.conv.dtype
        fine = None if skip is None else skip.astype(dtype)
        y = conv2d_upsampled(x.astype(dtype), fine, self.conv.kernel[...])
        return activated(self.bn, y, self.slope, train=train)


def activated(
    norm: BatchNorm, y: Float[Array, "b h w c"], slope: float, *, train: bool
) -> Float[Array, "b h w c"]:
    """Batch normalisation and max(y, slope y); slope 0 is ReLU."""
    if not slope:
        return norm(y, relu=True, train=train)
    return jax.nn.leaky_relu(norm(y, train=train), slope)
