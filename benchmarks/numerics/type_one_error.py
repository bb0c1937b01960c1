"""Error rate and power of the report's test of SSL against its baseline, by simulation.

    python benchmarks/numerics/type_one_error.py

Draws differences of patients x trainings in which a training shifts all patients by N(0, shift),
and counts how often `crossed_mean`, the test of the report, finds a difference at p <= 0.05. Beside
it stands the t test over patients alone, which takes the trained networks as fixed. Prints three
Markdown tables: the error rate without an effect, the error rate with fewer trainings than the
report tests, and the power. Takes half an hour on one core with 20,000 draws; needs no GPU.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks import measure
from brats_jax.reporting.training_variance import crossed_mean, independent_groups

ALPHA = 0.05
SHIFTS = (0.0, 0.01, 0.02)
PATIENTS = (30, 55, 190)
PATIENT_SD = 0.04  # of the difference in Dice between patients
REST_SD = 0.02  # of the same patient between trainings

Draw = Callable[[np.random.Generator, int], np.ndarray]


def _normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=n)


def _dice(rng: np.random.Generator, n: int) -> np.ndarray:
    """The difference of two Dice with a long tail of failures: heavy tails, no skew."""
    return (rng.beta(6, 1.2, n) - rng.beta(6, 1.2, n)) / 0.1817


def _skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Half normal, half exponential: a few patients gain much. Skewness 0.7."""
    return (rng.normal(size=n) + rng.exponential(size=n) - 1) / np.sqrt(2)


DISTRIBUTIONS: dict[str, Draw] = {"normal": _normal, "Dice": _dice, "skewed": _skewed}


@dataclass(frozen=True)
class Design:
    """Folds x seeds, and whether the seeds of a fold share their shift."""

    folds: int
    seeds: int
    shared: bool = False

    @property
    def name(self) -> str:
        shared = ", one shift for each fold" if self.shared else ""
        return f"{self.folds} folds x {self.seeds}{shared}"

    @property
    def runs(self) -> list[tuple[int, int]]:
        return [(f, s) for f in range(self.folds) for s in range(self.seeds)]


def differences(
    rng: np.random.Generator, design: Design, patients: int, draw: Draw, shift: float
) -> np.ndarray:
    """float64[patients, trainings] of SSL minus baseline, without an effect."""
    shape = (design.folds, 1 if design.shared else design.seeds)
    shifts = np.broadcast_to(
        rng.normal(0, shift, shape) if shift else np.zeros(shape), (design.folds, design.seeds)
    )
    of_patient = PATIENT_SD * draw(rng, patients)
    rest = rng.normal(0, REST_SD, (patients, design.folds * design.seeds))
    return of_patient[:, None] + shifts.reshape(1, -1) + rest


def rates(
    design: Design,
    patients: int,
    distribution: str,
    shift: float,
    draws: int,
    seed: int,
    effect: float = 0.0,
) -> tuple[float, float]:
    """Shares of draws in which a difference is found: (over both, over patients alone)."""
    rng = np.random.default_rng(seed)
    groups, _ = independent_groups(design.runs)
    critical = stats.t.ppf(1 - ALPHA / 2, patients - 1)
    found = alone = 0
    for _ in range(draws):
        values = effect + differences(rng, design, patients, DISTRIBUTIONS[distribution], shift)
        result = crossed_mean(values, groups, least_groups=2)
        assert result is not None
        found += result.p <= ALPHA
        own = values.mean(axis=1)
        alone += abs(own.mean()) >= critical * own.std(ddof=1) / np.sqrt(patients)
    return found / draws, alone / draws


def _rows(designs: list[Design], draws: int, effect: float = 0.0) -> Iterator[str]:
    for design in designs:
        for patients in PATIENTS:
            for name in DISTRIBUTIONS:
                pairs = [
                    rates(design, patients, name, shift, draws, k, effect)
                    for k, shift in enumerate(SHIFTS)
                ]
                cells = [f"{both:.3f} ({alone:.3f})" for both, alone in pairs]
                yield f"| {design.name} | {patients} | {name} | {' | '.join(cells)} |"


def _print_table(title: str, rows: Iterator[str]) -> None:
    heads = ["trainings", "patients", "differences", *(f"shift {shift:g}" for shift in SHIFTS)]
    print(f"\n{title}\n")
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for row in rows:
        print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--draws", type=int, default=20_000, help="of each cell of the tables")
    options = parser.parse_args()
    enough = [Design(5, 1), Design(5, 3), Design(5, 3, shared=True)]
    _print_table("Error rate at a nominal 0.05 (over patients alone)", _rows(enough, options.draws))
    few = [Design(2, 1), Design(3, 1), Design(4, 1)]
    _print_table(
        "With fewer trainings than the report tests", _rows(few, max(1, options.draws // 4))
    )
    for effect in (0.02, 0.04):
        _print_table(
            f"Power, with a difference of {effect:g} Dice",
            _rows(enough[:2], max(1, options.draws // 20), effect),
        )
    print(f"\n{measure.where()}")


if __name__ == "__main__":
    main()
