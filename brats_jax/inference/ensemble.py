"""Averages the probabilities over folds and flips.

    p = mean over folds f and flips g of g(softmax(network_f(g(x)) / T_f))

Of a network that predicts regions it is the sigmoid; the labels are decided by the averages (see
`tasks.segmentation_outputs`).

The sum is accumulated on the device. One compiled program per slice size serves all folds, flips
and cases.
"""

import collections
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.neighbours import blank_slices, in_scan, stacked
from brats_jax.data.planes import AXIAL, slices_along, to_axial
from brats_jax.inference.flips import FLIPS, flipped
from brats_jax.inference.trained_run import EnsembleMember
from brats_jax.models import Weights
from brats_jax.runtime import devices
from brats_jax.runtime.item_progress import Progress
from brats_jax.tasks import Batch
from brats_jax.tasks.segmentation_outputs import SegmentationOutputs

# Batches that the device computes, or has queued, while the host copies finished results.
_BATCHES_AHEAD = 2


class SliceLabels(NamedTuple):
    """An ensemble's prediction for S slices.

    Attributes:
      labels: uint8[S, H, W], of the mean probabilities.
      views: uint8[V, S, H, W], the labels of each fold and flip; V = 0 if there is only one.
      probabilities: float32[S, H, W, 4] of the classes, which add up to 1, also of a network that
        predicts regions; or None unless asked for.
      entropy: float32[S, H, W], the entropy of `probabilities` in nats, 0 to ln 4; or None.
    """

    labels: np.ndarray
    views: np.ndarray
    probabilities: np.ndarray | None
    entropy: np.ndarray | None


def decision(
    channels: SegmentationOutputs, total: jax.Array, count: int, *, details: bool
) -> dict[str, jax.Array]:
    """The labels, and with `details` the class probabilities p and their entropy -sum p ln p.

    Args:
      channels: what the networks' outputs are.
      total: float32[..., K], the sum of `count` predictions of the outputs' probabilities.
      count: the number of predictions in the sum.
      details: also return probabilities float32[..., 4] and entropy float32[...] in nats.
    """
    found = {"labels": channels.labels(total, count).astype(jnp.uint8)}
    if details:
        p = channels.class_probabilities(total / count)
        found["probabilities"] = p
        found["entropy"] = jnp.sum(jax.scipy.special.entr(p), axis=-1)
    return found


class Ensemble:
    """The networks of one or several folds, each under one or four flips.

    Args:
      members: of one run and stage.
      flips: whether to average over flips too (test-time augmentation).
      batch_size: slices at a time; 0 for the default of the device. Rounded up to a multiple of
        the number of devices.
      plane: of the slices to predict, one that the networks were trained on; '' for the first one.
    """

    def __init__(
        self,
        members: Sequence[EnsembleMember],
        *,
        flips: bool,
        batch_size: int = 0,
        plane: str = "",
    ) -> None:
        self.members = tuple(members)
        self.flips = FLIPS if flips else FLIPS[:1]
        self.mesh = members[0].network.mesh
        self.plane = plane or members[0].network.meta.record.plane
        if not batch_size:
            # On a CPU the maps of few slices stay in its cache: 4 take 0.8 of the time of 8.
            batch_size = 4 if jax.default_backend() == "cpu" else 32
        self.batch_size = devices.round_up(batch_size, self.mesh)
        # The sum is both input and output. On one device JAX would return it with the equivalent
        # sharding 'replicated', and compile the program a second time.
        self._add = jax.jit(self._added, out_shardings=devices.batch_sharding(self.mesh))
        self._finish = jax.jit(self._finished, static_argnames="details")

    @property
    def size(self) -> int:
        """The number of predictions in the average."""
        return len(self.members) * len(self.flips)

    def segment(
        self,
        images: np.ndarray,
        *,
        present: Collection[str] | None = None,
        details: bool = False,
        progress: Progress | None = None,
    ) -> SliceLabels:
        """Labels of every slice.

        One compiled program serves every set of modalities, because the set is one of its inputs.

        Args:
          images: float16[S, H, W, 4], normalised as the training data, in axial slices. For
            networks with a context or of another plane the slices of one scan from bottom to top,
            without gaps.
          present: the modalities that count; None: all. The result does not depend on the images
            of others. A network that takes missing modalities is told; to any other they are 0.
          details: return probabilities and entropy too.
          progress: called with the share of the slices that is computed, 0 to 1.
        """
        images, is_present = self._prepared(images, present)

        def of_batch(batch: Batch) -> dict[str, jax.Array]:
            total, views = self._sum(batch)
            # A single view's labels are decided by its logits: two of its probabilities may round
            # to the same number.
            labels = {"labels": views[0]} if len(views) == 1 else {"views": jnp.stack(views)}
            return {**self._finish(total, details=details), **labels}

        found = self._over_slices(
            images, of_batch, axis_of={"views": 1}, is_present=is_present, progress=progress
        )
        return SliceLabels(
            labels=found["labels"],
            views=found.get("views", np.empty((0, *found["labels"].shape), np.uint8)),
            probabilities=found.get("probabilities"),
            entropy=found.get("entropy"),
        )

    def mean_outputs(
        self,
        images: np.ndarray,
        present: Collection[str] | None = None,
        progress: Progress | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The averages before any decision; arguments as for `segment`.

        Returns:
          (float32[S, H, W, K], uint8[V, S, H, W]): mean probabilities of the network's outputs,
          and the labels of every fold and flip.
        """
        images, is_present = self._prepared(images, present)

        def of_batch(batch: Batch) -> dict[str, jax.Array]:
            total, views = self._sum(batch)
            return {"mean": total / self.size, "views": jnp.stack(views)}

        found = self._over_slices(
            images, of_batch, axis_of={"views": 1}, is_present=is_present, progress=progress
        )
        return found["mean"], found["views"]

    def _prepared(
        self, images: np.ndarray, present: Collection[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The images in slices of the networks' plane, and bool[4]: the modalities that count."""
        is_present = np.isin(MODALITIES, MODALITIES if present is None else list(present))
        if not is_present.all():
            images = np.where(is_present, images, images.dtype.type(0))
        return np.ascontiguousarray(slices_along(images, self.plane)), is_present

    def compile_for(self, slice_shape: tuple[int, int], *, details: bool = False) -> None:
        """Compiles the programs for axial slices of a shape, by the prediction of a blank one.

        The slices of other planes have the size of the whole scan: they are compiled with it.
        """
        if self.plane != AXIAL:
            return
        blank = np.zeros((1, *slice_shape, len(MODALITIES)), np.float16)
        if self.members[0].network.segments:
            self.segment(blank, details=details)
        else:
            self.reconstruct(blank)

    def reconstruct(self, images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The predicted modalities, normalised, of images as for `segment`.

        Returns:
          float32[S, H, W] of the only one, or [S, H, W, K].
        """
        network = self.members[0].network

        def of_batch(batch: Batch) -> dict[str, jax.Array]:
            return {"image": network.prediction(self._sum(batch)[0]) / self.size}

        prepared, _ = self._prepared(images)
        return self._over_slices(prepared, of_batch, progress=progress)["image"]

    def _sum(self, batch: Batch) -> tuple[jax.Array, list[jax.Array]]:
        """Sum over folds and flips [B, H, W, K], and the labels of each."""
        image, channels = batch["image"], len(self.members[0].network.task.outputs)
        total = jnp.zeros((*image.shape[:3], channels), jnp.float32, device=image.sharding)
        views = []
        for member in self.members:
            weights = (member.network.params, member.network.stats)
            for flip in self.flips:
                # Without an average over flips the program has none: each would copy the input.
                chosen = np.array(flip) if len(self.flips) > 1 else None
                total, labels = self._add(
                    *weights, batch, chosen, np.float32(member.temperature), total
                )
                views.append(labels)
        return total, views

    def _added(
        self,
        params: Weights,
        stats: Weights,
        batch: Batch,
        flip: jax.Array | None,
        temperature: jax.Array,
        total: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        network = self.members[0].network
        x = network.task.test_input(batch)
        if flip is None:
            output = network.output(params, stats, x)
        else:
            output = flipped(network.output(params, stats, flipped(x, flip)), flip)
        if not network.segments:
            return total + output, jnp.zeros(output.shape[:3], jnp.uint8)
        labels = network.channels.labels_of_logits(output).astype(jnp.uint8)
        return total + network.channels.probabilities(output / temperature), labels

    def _finished(self, total: jax.Array, *, details: bool) -> dict[str, jax.Array]:
        return decision(self.members[0].network.channels, total, self.size, details=details)

    def _over_slices(
        self,
        images: np.ndarray,
        of_batch: Callable[[Batch], dict[str, jax.Array]],
        axis_of: dict[str, int] | None = None,
        is_present: np.ndarray | None = None,
        progress: Progress | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs `of_batch` over all slices; of the slices of zeros only the first is computed.

        Slices without brain are zeros under every normalisation, and equal inputs give equal
        results.

        Args:
          images: float16[S, H, W, 4], in the networks' plane; results are in axial slices again.
          of_batch: from a batch of `Task.test_input` to results by name.
          axis_of: the axis of the slices by the name of a result; 0 for those not named.
          is_present: bool[4], the modalities that count, for a network that takes missing ones.
          progress: called with the share of the slices that is computed, 0 to 1.
        """
        task = self.members[0].network.task
        context = task.context
        blank = blank_slices(images, context)
        todo = np.setdiff1d(np.arange(len(images)), blank[1:])
        found: dict[str, np.ndarray] = {}

        def along(name: str, slices: np.ndarray) -> tuple[slice | np.ndarray, ...]:
            return (slice(None),) * (axis_of or {}).get(name, 0) + (slices,)

        kept = 0

        def keep(slices: np.ndarray, results: dict[str, jax.Array]) -> None:
            nonlocal kept
            filling = np.arange(len(slices))
            for name, part in jax.device_get(results).items():
                if name not in found:
                    shape = list(part.shape)
                    shape[len(along(name, slices)) - 1] = len(images)
                    found[name] = np.empty(shape, part.dtype)
                found[name][along(name, slices)] = part[along(name, filling)]
            kept += len(slices)
            if progress is not None:
                progress(kept / len(todo))

        waiting: collections.deque[tuple[np.ndarray, dict[str, jax.Array]]] = collections.deque()
        for start in range(0, len(todo), self.batch_size):
            slices = todo[start : start + self.batch_size]
            filled = np.resize(slices, self.batch_size)
            batch = {"image": images[filled]}
            if context:
                batch["neighbours"] = stacked(images, in_scan(filled, len(images), context))
            if task.takes_missing:
                assert is_present is not None
                batch["present"] = np.tile(is_present, (self.batch_size, 1))
            placed = devices.put_batch(batch, self.mesh)
            waiting.append((slices, of_batch(placed)))  # runs while the next one is cut
            if len(waiting) > _BATCHES_AHEAD:
                keep(*waiting.popleft())
        for part in waiting:
            keep(*part)
        for name, whole in found.items():
            if len(blank) > 1:
                whole[along(name, blank[1:])] = whole[along(name, blank[:1])]
        return {
            name: np.ascontiguousarray(to_axial(whole, self.plane, (axis_of or {}).get(name, 0)))
            for name, whole in found.items()
        }
