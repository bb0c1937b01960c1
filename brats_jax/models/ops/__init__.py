"""Array operations (NHWC) whose fast forms are written for XLA, each beside its plain form.

`runtime.forms` selects the plain forms, by name or all of them.
"""

from brats_jax.models.ops.batch_norm import BATCH_NORM_EPSILON, add_and_relu, batch_norm
from brats_jax.models.ops.convolution import conv2d
from brats_jax.models.ops.max_pool import max_pool_3x3_stride2
from brats_jax.models.ops.transposed_convolution import conv_transpose_4x4_stride2
from brats_jax.models.ops.upsampled_convolution import conv2d_upsampled

__all__ = [
    "BATCH_NORM_EPSILON",
    "add_and_relu",
    "batch_norm",
    "conv2d",
    "conv2d_upsampled",
    "conv_transpose_4x4_stride2",
    "max_pool_3x3_stride2",
]
