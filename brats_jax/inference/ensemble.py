"""Folds and flips as one function of slices: every one looks, their mean is the answer.

    p = mean over folds f and flips g of g(softmax(network_f(g(x)) / T_f))

Accumulated on the device; one compiled program for each slice size serves all folds and flips, and
every further case.
"""

import collections
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brats_jax.data.modalities import NUM_CLASSES
from brats_jax.inference.trained_run import EnsembleMember
from brats_jax.models import Weights
from brats_jax.runtime import devices
from brats_jax.tasks import Segmentation

# As many are computed or wait to be while the host takes in what is done.
_BATCHES_AHEAD = 2
# Along H, along W. Slices are axial: the first is left for right.
_FLIPS = ((False, False), (True, False), (False, True), (True, True))


class SliceLabels(NamedTuple):
    """What an ensemble makes of S slices.

    Attributes:
      labels: uint8[S, H, W], the class of largest mean probability.
      views: uint8[V, S, H, W], what each fold and flip would have said; V = 0 if there is one.
      probabilities: float32[S, H, W, 4], or None unless asked for.
      entropy: float32[S, H, W] of them in nats, 0 to ln 4; or None.
    """

    labels: np.ndarray
    views: np.ndarray
    probabilities: np.ndarray | None
    entropy: np.ndarray | None


class Ensemble:
    """The models of one or several folds, each looking once or under four flips.

    Args:
      members: of one run and stage.
      flips: whether to look under flips as well (test-time augmentation).
      batch_size: slices at a time; 0 lets the device decide. Rounded up to a multiple of the
        devices.
    """

    def __init__(
        self, members: Sequence[EnsembleMember], *, flips: bool, batch_size: int = 0
    ) -> None:
        self.members = tuple(members)
        self.flips = _FLIPS if flips else _FLIPS[:1]
        self.mesh = members[0].network.mesh
        if not batch_size:
            batch_size = 8 if jax.default_backend() == "cpu" else 32
        self.batch_size = devices.round_up(batch_size, self.mesh)
        # A sum comes back as it went in; of one device's results JAX would otherwise say
        # `replicated`, which is the same but compiles once more.
        self._add = jax.jit(self._added, out_shardings=devices.batch_sharding(self.mesh))
        self._finish = jax.jit(self._finished, static_argnames="details")

    @property
    def size(self) -> int:
        """How many predictions are averaged."""
        return len(self.members) * len(self.flips)

    def segment(self, images: np.ndarray, *, details: bool = False) -> SliceLabels:
        """Labels of every slice.

        Args:
          images: float16[S, H, W, 4], normalised as the model was trained.
          details: return probabilities and entropy too.
        """

        def of_batch(image: jax.Array) -> dict[str, jax.Array]:
            total, views = self._sum(image, NUM_CLASSES)
            # One view is the answer itself: from its logits, because probabilities may round two
            # of them to one number.
            said = {"labels": views[0]} if len(views) == 1 else {"views": jnp.stack(views)}
            return {**self._finish(total, details=details), **said}

        found = self._over_slices(images, of_batch, axis_of={"views": 1})
        return SliceLabels(
            labels=found["labels"],
            views=found.get("views", np.empty((0, *images.shape[:3]), np.uint8)),
            probabilities=found.get("probabilities"),
            entropy=found.get("entropy"),
        )

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """The target modality, float32[S, H, W] in normalised units, of float16[S, H, W, 4]."""

        def of_batch(image: jax.Array) -> dict[str, jax.Array]:
            return {"image": self._sum(image, 1)[0][..., 0] / self.size}

        return self._over_slices(images, of_batch)["image"]

    def _sum(self, image: jax.Array, channels: int) -> tuple[jax.Array, list[jax.Array]]:
        """Sum over folds and flips, [B, H, W, channels], and the labels of each."""
        total = jnp.zeros((*image.shape[:3], channels), jnp.float32, device=image.sharding)
        views = []
        for member in self.members:
            weights = (member.network.params, member.network.stats)
            for flip in self.flips:
                total, labels = self._add(
                    *weights, image, np.array(flip), np.float32(member.temperature), total
                )
                views.append(labels)
        return total, views

    def _added(
        self,
        params: Weights,
        stats: Weights,
        image: jax.Array,
        flip: jax.Array,
        temperature: jax.Array,
        total: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        restored = self.members[0].network
        unknown = jnp.zeros(image.shape[:3], jnp.uint8)
        x, _ = restored.task.prepare({"image": image, "label": unknown}, training=False)
        output = _flipped(restored.output(params, stats, _flipped(x, flip)), flip)
        labels = jnp.argmax(output, axis=-1).astype(jnp.uint8)
        if isinstance(restored.task, Segmentation):
            output = jax.nn.softmax(output / temperature, axis=-1)
        return total + output, labels

    def _finished(self, total: jax.Array, *, details: bool) -> dict[str, jax.Array]:
        found = {"labels": jnp.argmax(total, axis=-1).astype(jnp.uint8)}
        if details:
            p = total / self.size
            found["probabilities"] = p
            found["entropy"] = jnp.sum(jax.scipy.special.entr(p), axis=-1)
        return found

    def _over_slices(
        self,
        images: np.ndarray,
        of_batch: Callable[[jax.Array], dict[str, jax.Array]],
        axis_of: dict[str, int] | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs `of_batch` over all slices; of those that are all zero one stands for all.

        Slices without brain are zeros under either normalisation, and one network gives equal
        inputs equal outputs: nothing is assumed of what it says about air.
        """
        blank = np.flatnonzero(~images.any(axis=(1, 2, 3)))
        todo = np.setdiff1d(np.arange(len(images)), blank[1:])
        found: dict[str, np.ndarray] = {}

        def along(name: str, slices: np.ndarray) -> tuple[slice | np.ndarray, ...]:
            return (slice(None),) * (axis_of or {}).get(name, 0) + (slices,)

        def keep(slices: np.ndarray, results: dict[str, jax.Array]) -> None:
            filling = np.arange(len(slices))
            for name, part in jax.device_get(results).items():
                if name not in found:
                    shape = list(part.shape)
                    shape[len(along(name, slices)) - 1] = len(images)
                    found[name] = np.empty(shape, part.dtype)
                found[name][along(name, slices)] = part[along(name, filling)]

        waiting: collections.deque[tuple[np.ndarray, dict[str, jax.Array]]] = collections.deque()
        for start in range(0, len(todo), self.batch_size):
            slices = todo[start : start + self.batch_size]
            filled = np.resize(slices, self.batch_size)
            batch = devices.put_batch({"image": images[filled]}, self.mesh)
            waiting.append((slices, of_batch(batch["image"])))  # goes on while the next one is cut
            if len(waiting) > _BATCHES_AHEAD:
                keep(*waiting.popleft())
        for part in waiting:
            keep(*part)
        for name, whole in found.items():
            if len(blank) > 1:
                whole[along(name, blank[1:])] = whole[along(name, blank[:1])]
        return found


def _flipped(x: jax.Array, flip: jax.Array) -> jax.Array:
    """x[B, H, W, C] turned over along H and W where `flip`, bool[2], says so."""
    x = jnp.where(flip[0], x[:, ::-1], x)
    return jnp.where(flip[1], x[:, :, ::-1], x)
