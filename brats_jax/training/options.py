"""The numbers of a training stage."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TrainOptions:
    """Numbers of a training stage; the defaults are the paper's.

    steps_per_epoch 0 means one pass over the training slices. purpose and fold keep
    the random numbers of stages and folds apart. placement and steps_per_dispatch say how the
    work is laid out (see feeding), not what comes out; deterministic whether a GPU, too, does it
    to the bit in every run (see devices.compiler_options). float32_epochs at the beginning are
    computed in float32, whatever the rest is.
    """

    epochs: int = 30
    steps_per_epoch: int = 0
    batch_size: int = 16
    learning_rate: float = 1e-4
    decay_factor: float = 0.5
    decay_every_epochs: int = 10
    patch_size: int = 128
    tumour_probability: float = 0.5
    validation_batch_size: int = 16
    save_every_steps: int = 2000
    log_every_steps: int = 50
    seed: int = 0
    purpose: int = 0
    fold: int = 0
    workers: int = 0
    threads: int = 2
    placement: str = "host"
    steps_per_dispatch: int = 0
    deterministic: bool = True
    float32_epochs: int = 0

    def derived_seed(self, what: str) -> int:
        """A 32-bit seed for one use ('init', 'patches') in this stage and fold."""
        entropy = [self.seed, self.purpose, self.fold, *what.encode()]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def epoch_length(self, slices: int) -> int:
        """Steps in an epoch over so many slices."""
        return self.steps_per_epoch or max(1, slices // self.batch_size)
