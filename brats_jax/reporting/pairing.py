"""Values of many runs made into one pair for each patient.

Folds and seeds are repeated measurements of one patient: they are averaged inside the
patient, and never counted as n.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from brats_jax.errors import BratsError

Runs = Mapping[Hashable, float] | Sequence[float]


class Paired(NamedTuple):
    """One value of each of two models for every patient that has both.

    Attributes:
      patients: their names, in order of first appearance.
      a, b: float64[N], means over the runs of a patient.
      left_out: patients named by either model without a run defined in both.
      runs_left_out: values of the patients kept that had no counterpart.
    """

    patients: tuple[str, ...]
    a: Float[np.ndarray, " n"]
    b: Float[np.ndarray, " n"]
    left_out: tuple[str, ...]
    runs_left_out: int


def paired_by_patient(a: Mapping[str, Runs], b: Mapping[str, Runs]) -> Paired:
    """Pairs two models by patient, each patient the mean over its runs (folds and seeds).

    A run that is undefined (NaN, or missing) under one model is left out of both: else a
    patient's two means would be over different runs.

    Args:
      a, b: patient -> its values: a mapping from run to value, e.g. {(fold, seed): 0.8},
        or a sequence, whose places are the runs and must be the same in a and b.

    Returns:
      Paired; patients with no run defined in both are named in `left_out`.

    Raises:
      BratsError: sequences of different lengths for one patient.
    """
    kept, mean_a, mean_b, left_out = [], [], [], []
    runs_left_out = 0
    for patient in dict.fromkeys([*a, *b]):
        runs_a, runs_b = (_by_run(side.get(patient, {})) for side in (a, b))
        sequences = not any(isinstance(side.get(patient, {}), Mapping) for side in (a, b))
        if sequences and len(runs_a) != len(runs_b):
            raise BratsError(
                f"patient {patient} has {len(runs_a)} values against {len(runs_b)}; "
                "give mappings from run to value, so that equal runs can be paired"
            )
        both = [r for r in runs_a if r in runs_b and not math.isnan(runs_a[r] + runs_b[r])]
        if not both:
            left_out.append(patient)
            continue
        defined = [*runs_a.values(), *runs_b.values()]
        runs_left_out += sum(not math.isnan(v) for v in defined) - 2 * len(both)
        kept.append(patient)
        mean_a.append(math.fsum(runs_a[r] for r in both) / len(both))
        mean_b.append(math.fsum(runs_b[r] for r in both) / len(both))
    return Paired(tuple(kept), np.array(mean_a), np.array(mean_b), tuple(left_out), runs_left_out)


def _by_run(runs: Runs) -> dict[Hashable, float]:
    pairs = runs.items() if isinstance(runs, Mapping) else enumerate(runs)
    return {run: float(value) for run, value in pairs}
