"""From a checkpoint to results: numbers for every slice first, tables made of those."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from brats_jax import checkpoints, devices, models
from brats_jax.data.modalities import CLASSES, NUM_CLASSES
from brats_jax.data.pipeline import full_slices
from brats_jax.data.store import Store
from brats_jax.metrics import image, overlap, surface
from brats_jax.models import Weights
from brats_jax.tasks import Batch, Reconstruction, Segmentation, Task

# Numbers per slice, by name; every array has one row per slice, in the order of "index".
Columns = dict[str, np.ndarray]


class Restored:
    """The best model of a stage, ready to predict.

    Args:
      task: the stage, as configured; a checkpoint of another model is refused.
      directory: the stage's folder.
      mesh: the devices.

    Attributes:
      meta: the checkpoint's description (step, epoch, value by which it was chosen).
    """

    def __init__(self, task: Task, directory: Path, mesh: Mesh) -> None:
        self.task, self.mesh = task, mesh
        self.graph, params, stats = models.split(task.build(0))
        placed = devices.replicated(mesh)
        template = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=placed),
            {"params": params, "stats": stats},
        )
        state, self.meta = checkpoints.read(directory / "best", template, task.describe())
        self.params: Weights = state["params"]
        self.stats: Weights = state["stats"]

    def output(self, params: Weights, stats: Weights, x: jax.Array) -> jax.Array:
        """The network's output for x float32[B, H, W, C]; for use inside a compiled function."""
        return models.apply(self.graph, params, stats, x, train=False)[0]


def evaluate_segmentation(
    restored: Restored, store: Store, indices: np.ndarray, batch_size: int
) -> Columns:
    """Counts and boundary distances of every slice and class.

    Args:
      restored: a segmentation model.
      store, indices: the slices, by global index.
      batch_size: slices at a time, a multiple of the number of devices.

    Returns:
      index int64[N], counts int32[N, K, 3] (tp, fp, fn in pixels), asd_mm float32[N, K]
      (pooled average surface distance; NaN where either mask lacks the class).
    """

    @jax.jit
    def step(params: Weights, stats: Weights, batch: Batch) -> tuple[jax.Array, jax.Array]:
        x, target = restored.task.prepare(batch, training=False)
        prediction = jnp.argmax(restored.output(params, stats, x), axis=-1).astype(jnp.uint8)
        return prediction, overlap.confusion_counts(prediction, target, NUM_CLASSES)

    spacing_of = {
        p: in_plane_spacing_mm(store, store.patients[p]) for p in set(store.patient_of[indices])
    }
    rows: list[Columns] = []
    for batch, valid, index in _batches(restored.mesh, store, indices, batch_size):
        prediction, counts = step(restored.params, restored.stats, batch)
        asd = np.full((batch_size, NUM_CLASSES), np.nan, np.float32)
        spacings = [spacing_of[p] for p in store.patient_of[index]]
        for spacing in sorted(set(spacings)):
            here = np.array([s == spacing for s in spacings])
            asd[here] = surface.class_average_surface_distance(
                prediction[here], batch["label"][here], NUM_CLASSES, spacing
            )
        rows.append(
            {"index": index[valid], "counts": np.asarray(counts)[valid], "asd_mm": asd[valid]}
        )
    return _concatenate(rows)


def evaluate_reconstruction(
    restored: Restored, store: Store, indices: np.ndarray, batch_size: int
) -> Columns:
    """Image quality of every slice, over the whole slice and over the brain alone.

    The range in PSNR and SSIM is that of the target slice (rule "target").

    Returns:
      index int64[N] and float32[N] each: mse, psnr, ssim over the slice; brain_mse,
      brain_psnr, brain_ssim over the brain. NaN where the slice is blank.
    """

    @jax.jit
    def step(params: Weights, stats: Weights, batch: Batch) -> dict[str, jax.Array]:
        x, target = restored.task.prepare(batch, training=False)
        prediction, target = restored.output(params, stats, x)[..., 0], target[..., 0]
        brain = brain_mask(batch["image"])
        extent = image.data_range(target, "target")
        return {
            "mse": image.mse(prediction, target),
            "psnr": image.psnr(prediction, target, extent),
            "ssim": image.ssim(prediction, target, extent),
            "brain_mse": image.mse(prediction, target, brain),
            "brain_psnr": image.psnr(prediction, target, extent, brain),
            "brain_ssim": image.ssim(prediction, target, extent, brain),
        }

    rows: list[Columns] = []
    for batch, valid, index in _batches(restored.mesh, store, indices, batch_size):
        values = jax.device_get(step(restored.params, restored.stats, batch))
        rows.append({"index": index[valid], **{k: v[valid] for k, v in values.items()}})
    return _concatenate(rows)


def predict_slices(restored: Restored, store: Store, indices: np.ndarray) -> np.ndarray:
    """The network's output for a few slices: labels uint8[N, H, W], or images float32[N, H, W]."""
    # A whole multiple of the devices, so that every one of them has a share.
    batch_size = -(-len(indices) // restored.mesh.size) * restored.mesh.size

    @jax.jit
    def step(params: Weights, stats: Weights, batch: Batch) -> jax.Array:
        x, _ = restored.task.prepare(batch, training=False)
        output = restored.output(params, stats, x)
        if isinstance(restored.task, Segmentation):
            return jnp.argmax(output, axis=-1).astype(jnp.uint8)
        return output[..., 0]

    for batch, valid, _ in _batches(restored.mesh, store, indices, batch_size):
        return np.asarray(step(restored.params, restored.stats, batch))[valid]
    raise ValueError("no slices")


def brain_mask(images: jax.Array | np.ndarray) -> jax.Array:
    """bool[B, H, W]: pixels that differ, in any modality, from the slice's corner.

    The images are skull-stripped, so the corner is air; its stored value depends on the
    normalisation (the slice's minimum, or 0).
    """
    return (images != images[:, :1, :1, :]).any(axis=-1)  # type: ignore[return-value]


def in_plane_spacing_mm(store: Store, patient: str) -> tuple[float, float]:
    """Pixel size along H and W; 1 mm where the source does not say (BraTS is 1 mm)."""
    spacing = store.case(patient).get("spacing_mm")
    return (float(spacing[0]), float(spacing[1])) if spacing else (1.0, 1.0)


def summarise_segmentation(columns: Columns) -> dict[str, Any]:
    """Means over slices per class, under every convention, each with the slices it is over."""
    table = {name: overlap.mean_dice(columns["counts"], name) for name in overlap.CONVENTIONS}
    asd = columns["asd_mm"].astype(np.float64)
    known = ~np.isnan(asd)
    classes: dict[str, Any] = {}
    for k, name in enumerate(CLASSES):
        classes[name] = {
            "dice": {
                convention: {"mean": float(mean.dice[k]), "slices": int(mean.slices[k])}
                for convention, mean in table.items()
            },
            "asd_mm": {
                "mean": float(asd[known[:, k], k].mean()) if known[:, k].any() else float("nan"),
                "slices": int(known[:, k].sum()),
            },
            "slices_with_class": int((columns["counts"][:, k, [0, 2]].sum(axis=-1) > 0).sum()),
        }
    foreground = {name: _nanmean(mean.dice[1:]) for name, mean in table.items()}
    return {"slices": len(columns["index"]), "classes": classes, "mean_foreground_dice": foreground}


def summarise_reconstruction(columns: Columns) -> dict[str, Any]:
    """Means over the slices where the number is defined, and how many those are."""
    summary: dict[str, Any] = {"slices": len(columns["index"])}
    for name, values in columns.items():
        if name != "index":
            finite = values[np.isfinite(values)].astype(np.float64)
            summary[name] = {"mean": _nanmean(finite), "slices": int(finite.size)}
    return summary


def evaluate(
    task: Task, directory: Path, store: Store, indices: np.ndarray, batch_size: int, mesh: Mesh
) -> tuple[Restored, Columns, dict[str, Any]]:
    """Restores a stage's best model, scores it on `indices`, and summarises."""
    devices.check_batch_size(batch_size, mesh, "evaluation.batch_size")
    restored = Restored(task, directory, mesh)
    if isinstance(task, Reconstruction):
        columns = evaluate_reconstruction(restored, store, indices, batch_size)
        summary = summarise_reconstruction(columns)
    else:
        columns = evaluate_segmentation(restored, store, indices, batch_size)
        summary = summarise_segmentation(columns)
    chosen = {name: restored.meta[name] for name in ("step", "epoch", "value")}
    return restored, columns, {"checkpoint": chosen, **summary}


def _batches(
    mesh: Mesh, store: Store, indices: np.ndarray, batch_size: int
) -> Iterator[tuple[dict[str, jax.Array], np.ndarray, np.ndarray]]:
    for batch in full_slices(store, indices, batch_size):
        valid, index = batch.pop("valid"), batch.pop("index")
        yield devices.put_batch(batch, mesh), valid, index


def _concatenate(rows: list[Columns]) -> Columns:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _nanmean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
