"""A network of convolutions, fed from either place: python -m tests.placements STORE FOLDER CACHE.

Trains FOLDER/host and FOLDER/device for an epoch of three steps.
"""

import sys
from pathlib import Path

import numpy as np

from brats_jax import devices
from brats_jax.data.augment import Augmentation
from brats_jax.data.store import Store
from brats_jax.models import resnet
from brats_jax.tasks import Segmentation
from brats_jax.train import Stage, TrainOptions


def main(store: str, folder: str, cache: str) -> None:
    resnet.BLOCKS = (1, 1, 1, 1)
    devices.use_compilation_cache(cache)
    task = Segmentation(width=4, augmentation=Augmentation(noise=False))
    for placement in ("host", "device"):
        options = TrainOptions(
            epochs=1,
            steps_per_epoch=3,
            batch_size=4,
            learning_rate=1e-2,
            patch_size=32,
            validation_batch_size=8,
            log_every_steps=3,
            placement=placement,
        )
        slices = (np.arange(20, 60), np.arange(10))
        where = Path(folder) / placement
        Stage(task, Store.open(Path(store)), *slices, options, where, devices.data_mesh()).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
