"""The settings of a training stage."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from brats_jax.data.folds import fold_entropy


@dataclass(frozen=True)
class TrainOptions:
    """Settings of a training stage; the defaults are the paper's.

    Attributes:
      epochs: number of epochs.
      steps_per_epoch: optimiser steps in an epoch; 0: one pass over the training slices.
      batch_size: patches in a batch, over all devices.
      learning_rate, decay_factor, decay_every_epochs: see `optim.step_schedule`.
      schedule: 'halve' for that, or 'cosine' for `optim.cosine_schedule`.
      optimizer: 'adam' or 'adamw', with `weight_decay`; see `optim.optimizer_of`.
      warmup_epochs: first epochs in which the rate rises from 0 (`optim.warmed_up`).
      clip_norm: largest global norm of the gradients of a step; 0: any.
      patch_size: height and width of a patch in pixels.
      tumour_probability: probability that the patch of a slice with tumour holds tumour pixels.
      sampling: what such a patch is drawn around, see `patches.PatchPlan`.
      validation_batch_size: slices in a validation batch, over all devices.
      save_every_steps: steps between two checkpoints within an epoch.
      log_every_steps: steps between two log lines within an epoch.
      seed, purpose, fold: of all random numbers; purpose and fold tell stages and folds apart.
      workers: loader processes; 0 reads in threads of this process.
      threads: reading threads of each process.
      placement: where patches are cut: 'host', 'device' or 'auto'; the patches are the same.
      steps_per_dispatch: see `feed.steps_per_dispatch`.
      deterministic: same bits in every run also on a GPU (see `devices.compiler_options`).
      float32_epochs: first epochs computed in float32, whatever the task's dtype is.
      freeze_epochs: first epochs in which transferred parameters do not change.
      transferred_factor: multiplies the learning rate of transferred parameters.
      keep_last: the checkpoint `best` is that of the last epoch, whatever its score is.
      ema: decay of the moving average of the network (`averaging.averaged`); 0: none.
      norm_group, gradient_sum: how devices share a step, see `forward.forward_of`.
    """

    epochs: int = 30
    steps_per_epoch: int = 0
    batch_size: int = 16
    learning_rate: float = 1e-4
    decay_factor: float = 0.5
    decay_every_epochs: int = 10
    schedule: str = "halve"
    optimizer: str = "adam"
    weight_decay: float = 0.01
    warmup_epochs: float = 0.0
    clip_norm: float = 0.0
    patch_size: int = 128
    tumour_probability: float = 0.5
    sampling: str = "tumour"
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
    freeze_epochs: int = 0
    transferred_factor: float = 1.0
    keep_last: bool = False
    ema: float = 0.0
    norm_group: int = 0
    gradient_sum: str = "auto"

    def derived_seed(self, use: str) -> int:
        """A 32-bit seed for one use ('init', 'patches') in this stage and fold."""
        entropy = [self.seed, self.purpose, fold_entropy(self.fold), *use.encode()]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    @property
    def of_step(self) -> dict[str, Any]:
        """The options of a step, as `steps.make_train_step` takes them."""
        names = ("ema", "norm_group", "gradient_sum")
        return {name: getattr(self, name) for name in names}

    def epoch_length(self, slices: int) -> int:
        """Steps in an epoch over this many training slices."""
        return self.steps_per_epoch or max(1, slices // self.batch_size)
