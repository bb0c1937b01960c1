"""Yardsticks of the first stage: predictions of its target that need no network.

    regression   per voxel, linear in 1, every input x, x^2, x^3, every product of two inputs, and
                 max(T1Gd - T1, 0) where both are inputs: nine numbers for T1 and T1Gd
    mean         one number

Both are fitted by least squares to all pixels of the slices that the first stage trains on. A
network that is no better has learned no more than the intensities of single voxels.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from brats_jax.data.modalities import DISPLAY_NAMES, channel_indices
from brats_jax.data.store.reader import Store
from brats_jax.metrics.array_namespace import array_namespace
from brats_jax.runtime import threads

REGRESSION, MEAN = "regression", "mean"
YARDSTICKS = (REGRESSION, MEAN)

_SLICES_AT_A_TIME = 64
# Smallest singular value of the scaled system that counts; inputs that are equal have smaller ones.
_LEAST_SINGULAR_VALUE = 1e-12

_Pixels = Float[np.ndarray, "*pixels c"]


@dataclass(frozen=True)
class Yardstick:
    """A fitted yardstick.

    Attributes:
      name: one of `YARDSTICKS`.
      inputs, targets: modalities.
      coefficients: float64[terms, targets].
    """

    name: str
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    coefficients: np.ndarray

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms in words, such as 'T1 * T1Gd'."""
        return term_names(self.inputs)[: len(self.coefficients)]

    def predict(self, images: Any) -> Any:
        """The targets as predicted from whole images.

        Args:
          images: NumPy or JAX array [..., 4], modalities in canonical order.

        Returns:
          an array [..., targets] of the same kind.
        """
        x = images[..., list(channel_indices(self.inputs))]
        predicted: list[Any] = [0.0 * images[..., 0]] * len(self.targets)
        for weights, term in zip(self.coefficients, terms(x, self.inputs), strict=False):
            predicted = [p + float(w) * term for p, w in zip(predicted, weights, strict=True)]
        return array_namespace(*predicted).stack(predicted, axis=-1)

    def to_json(self) -> dict[str, dict[str, float]]:
        """target -> term -> coefficient, for the record."""
        return {
            target: dict(zip(self.terms, map(float, column), strict=True))
            for target, column in zip(self.targets, self.coefficients.T, strict=True)
        }


def term_names(inputs: Sequence[str]) -> tuple[str, ...]:
    """The terms of the regression in words, in the order of `terms`."""
    shown = [DISPLAY_NAMES[name] for name in inputs]
    names = ["1", *shown, *(f"{x}^2" for x in shown)]
    names += [f"{x} * {y}" for x, y in itertools.combinations(shown, 2)]
    names += [f"{x}^3" for x in shown]
    if {"t1", "t1gd"} <= set(inputs):
        names.append(f"max({DISPLAY_NAMES['t1gd']} - {DISPLAY_NAMES['t1']}, 0)")
    return tuple(names)


def explain(inputs: Sequence[str]) -> tuple[str, str]:
    """A line about each yardstick."""
    names = term_names(inputs)
    return (
        f"{REGRESSION}: {len(names)} numbers per voxel, of {', '.join(names)}; needs no network",
        f"{MEAN}: one number; both fitted to the slices that the pretraining trains on",
    )


def terms(x: Any, inputs: Sequence[str]) -> list[Any]:
    """The terms of the regression, each [...], from the inputs [..., C] of any array library."""
    each = [x[..., k] for k in range(len(inputs))]
    found = [0 * each[0] + 1, *each, *(v * v for v in each)]
    found += [v * w for v, w in itertools.combinations(each, 2)]
    found += [v * v * v for v in each]
    if {"t1", "t1gd"} <= set(inputs):
        rise = x[..., list(inputs).index("t1gd")] - x[..., list(inputs).index("t1")]
        found.append(rise * (rise > 0))
    return found


def fit(
    store: Store, indices: np.ndarray, inputs: Sequence[str], targets: Sequence[str]
) -> tuple[Yardstick, ...]:
    """Fits the yardsticks to all pixels of some slices.

    The sums of the normal equations are taken in float64, slice by slice, in an order that does not
    depend on the number of threads.

    Args:
      store: the data.
      indices: int64[N] global indices; slices of patients that lack an input or a target are left
        out.
      inputs, targets: modalities.

    Returns:
      The yardsticks in the order of `YARDSTICKS`; none where no slice is left, or where a target is
      among the inputs.
    """
    inputs, targets = tuple(inputs), tuple(targets)
    needed = list(channel_indices([*inputs, *targets]))
    usable = np.asarray(store.present[:, needed].all(axis=1))
    chosen = indices[usable[store.patient_of[indices]]]
    if not len(chosen) or set(inputs) & set(targets):
        return ()
    blocks = [
        chosen[first : first + _SLICES_AT_A_TIME]
        for first in range(0, len(chosen), _SLICES_AT_A_TIME)
    ]

    def sums(block: np.ndarray) -> np.ndarray:
        each = [_sums_of_slice(store, int(index), inputs, needed) for index in block]
        return np.sum(each, axis=0)

    gram = np.sum(threads.parallel_map(sums, blocks), axis=0)
    count = len(term_names(inputs))
    return (
        Yardstick(REGRESSION, inputs, targets, _solve(gram, count, count)),
        Yardstick(MEAN, inputs, targets, _solve(gram, count, 1)),
    )


def _sums_of_slice(
    store: Store, index: int, inputs: tuple[str, ...], needed: Sequence[int]
) -> np.ndarray:
    """Sums of products of all terms and targets over a slice, float64[terms + targets] squared.

    Pixels outside the stored box all have the value of the background.
    """
    stored = store.flat(index)[0][:, needed].astype(np.float64)
    outside = store.slice_shape[0] * store.slice_shape[1] - len(stored)
    rows = _row(stored, inputs)
    background = _row(store.background[index : index + 1, needed].astype(np.float64), inputs)
    return rows.T @ rows + outside * (background.T @ background)


def _row(pixels: _Pixels, inputs: tuple[str, ...]) -> np.ndarray:
    """float64[pixels, terms + targets]."""
    count = len(inputs)
    return np.stack([*terms(pixels[:, :count], inputs), *pixels[:, count:].T], axis=1)


def _solve(gram: np.ndarray, terms: int, used: int) -> np.ndarray:
    """float64[used, targets]: least squares of the targets on the first `used` terms."""
    scale = np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))
    scaled = gram / np.outer(scale, scale)
    found = np.linalg.lstsq(
        scaled[:used, :used], scaled[:used, terms:], rcond=_LEAST_SINGULAR_VALUE
    )[0]
    return found * scale[terms:] / scale[:used, None]
