"""A pretraining that compiles in a moment, and the command with it: python -m tests.pointwise.

In the environment SEEN=FILE makes the command write the seeds of its examples there, step by
step; DISPATCH=N makes it take N steps in a dispatch, as accelerators do.
"""

import dataclasses
import json
import os
from pathlib import Path

from flax import nnx

from brats_jax import main
from brats_jax.experiments import config as experiment_config
from brats_jax.models.layers import BatchNorm, Conv
from brats_jax.runtime import devices
from brats_jax.tasks import Pretraining
from brats_jax.training import feed


class Pointwise(nnx.Module):
    """A 1x1 convolution, batch normalisation and a float32 head: it compiles in a moment."""

    def __init__(self, channels, dtype, rngs, outputs=1):
        self.encoder = Conv(channels, 8, 1, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(8, dtype=dtype)
        self.head = Conv(8, outputs, 1, use_bias=True, rngs=rngs)

    def __call__(self, x, *, train):
        return self.head(self.bn(self.encoder(x), relu=True, train=train))


@dataclasses.dataclass(frozen=True)
class PointwiseTask(Pretraining):
    """Pretraining with that network."""

    def build(self, seed):
        return Pointwise(len(self.stem_channels), self.dtype, nnx.Rngs(seed), len(self.outputs))


def _noting(put, path):
    def put_and_note(batch, mesh):
        # Patches, or the numbers to cut them by; not whole slices.
        if "seed" in batch and ("row" in batch or batch["image"].shape[-2] == 32):
            steps = batch["seed"].tolist()
            with path.open("a") as file:
                for seeds in steps if batch["seed"].ndim == 2 else [steps]:
                    file.write(json.dumps(seeds) + "\n")
        return put(batch, mesh)

    return put_and_note


if __name__ == "__main__":
    experiment_config.pretraining = lambda settings: PointwiseTask()
    if "SEEN" in os.environ:
        seen = Path(os.environ["SEEN"])
        devices.put_batch = _noting(devices.put_batch, seen)
        devices.put_batches = _noting(devices.put_batches, seen)
    if "DISPATCH" in os.environ:
        feed.steps_per_dispatch = lambda *_: int(os.environ["DISPATCH"])
    main.run_main()
