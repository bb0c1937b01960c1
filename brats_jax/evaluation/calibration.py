"""Temperature scaling: one number that makes a fold's probabilities mean what they say.

    p = softmax(z / T),   T = argmin of the mean of -log p(true class), over validation pixels

It changes no arg-max, so that labels of one model stay as they are; an ensemble's may move, since
its members then weigh differently.

Reference: Guo et al. 2017, https://arxiv.org/abs/1706.04599
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import special

from brats_jax.data.store.reader import Store
from brats_jax.evaluation.slices import brain_mask, device_batches
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.inference.trained_run import (
    CALIBRATION_FILE,
    CALIBRATION_SCHEMA,
    CALIBRATION_VERSION,
)
from brats_jax.metrics.calibration import (
    BINS,
    expected_calibration_error,
    negative_log_likelihood,
)
from brats_jax.models import Weights
from brats_jax.runtime.console import bar
from brats_jax.runtime.files import write_json
from brats_jax.tasks import Batch

# About one pixel in six of a slice is brain; a million of those settle three digits.
_SAMPLE_FROM = 6_000_000


def sample_logits(
    network: RestoredNetwork, store: Store, indices: np.ndarray, batch_size: int, title: str
) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32[n, K] and labels uint8[n] of brain pixels, every k-th, about a million."""

    @jax.jit
    def logits_of(params: Weights, stats: Weights, batch: Batch) -> tuple[jax.Array, jax.Array]:
        x, _ = network.task.prepare(batch, training=False)
        return network.output(params, stats, x), brain_mask(batch["image"])

    height, width = store.slice_shape
    step = max(1, len(indices) * height * width // _SAMPLE_FROM)
    logits, labels, passed = [], [], 0
    with bar(len(indices), title, "slice") as progress:
        for batch, valid in device_batches(network.mesh, store, indices, batch_size):
            z, brain = jax.device_get(logits_of(network.params, network.stats, batch))
            brain = brain & valid[:, None, None]
            count = int(brain.sum())
            chosen = np.arange(-passed % step, count, step)
            passed += count
            logits.append(z[brain][chosen])
            labels.append(np.asarray(batch["label"])[brain][chosen])
            progress.update(int(valid.sum()))
    return np.concatenate(logits), np.concatenate(labels)


def measure(logits: np.ndarray, labels: np.ndarray, temperature: float) -> dict[str, Any]:
    """Before and after: NLL, ECE over the brain, and ECE where truth or prediction is tumour."""
    tumour = (labels > 0) | (logits.argmax(axis=1) > 0)
    numbers: dict[str, Any] = {"pixels": len(labels), "tumour_pixels": int(tumour.sum())}
    for when, divisor in (("before", 1.0), ("after", temperature)):
        scaled = logits / divisor
        p = special.softmax(scaled, axis=1)
        numbers[when] = {
            "nll": negative_log_likelihood(scaled, labels),
            "ece": expected_calibration_error(p, labels),
            "ece_tumour": expected_calibration_error(p[tumour], labels[tumour]),
        }
    return numbers


def write(fold: Path, model_hash: str, temperature: float, facts: dict[str, Any]) -> None:
    """Writes fold_K/calibration.json."""
    write_json(
        fold / CALIBRATION_FILE,
        {
            "schema": CALIBRATION_SCHEMA,
            "version": CALIBRATION_VERSION,
            "model": model_hash,
            "temperature": temperature,
            "over": f"every k-th brain pixel; ECE in {BINS} bins of the largest probability",
            **facts,
        },
    )
