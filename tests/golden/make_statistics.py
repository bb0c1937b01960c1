"""Stores what other packages say about a few paired values: statistics.npz.

Run in an environment of its own, which the test suite does not need:

    python -m venv golden
    golden/bin/pip install statsmodels==0.15.0 pingouin==0.7.0 arch==8.0.0 mlxtend==0.25.0
    golden/bin/python tests/golden/make_statistics.py

`p/I` are p values and `holm/I` what statsmodels adjusts them to. `a/I`, `b/I` are paired values
(1 with ties and zeros, 2 skewed); with them pingouin's matched-pairs rank-biserial
correlation, arch's BCa interval of the mean difference from 200,000 resamples, and, of the
first eight pairs, mlxtend's exact paired permutation test of the mean difference.
"""

from pathlib import Path

import numpy as np
import pingouin
from arch.bootstrap import IIDBootstrap
from mlxtend.evaluate import permutation_test
from statsmodels.stats.multitest import multipletests


def main() -> None:
    rng = np.random.default_rng(3)
    arrays = {}
    families = ([0.01, 0.04, 0.03, 0.005], [0.5, 0.02, 0.02, 0.9, 0.001], rng.uniform(size=30) ** 3)
    for i, p in enumerate(families):
        arrays[f"p/{i}"] = np.array(p)
        arrays[f"holm/{i}"] = multipletests(p, method="holm")[1]

    normal = rng.normal(0.7, 0.1, 30)
    rounded = np.round(rng.uniform(0, 1, 25), 1)
    skewed = rng.exponential(2.0, 40)
    pairs = (
        (normal + rng.normal(0.02, 0.05, 30), normal),
        (np.round(rounded + rng.choice([-0.1, 0, 0, 0.1, 0.2], 25), 1), rounded),
        (skewed + rng.exponential(0.5, 40) - 0.2, skewed),
    )
    for i, (a, b) in enumerate(pairs):
        # Rounded, as 0.3 - 0.2 and 0.2 - 0.1 differ in their last bit, and would not tie.
        difference = np.round(a - b, 12)
        arrays |= {f"a/{i}": a, f"b/{i}": b}
        arrays[f"rank_biserial/{i}"] = pingouin.wilcoxon(difference)["RBC"].to_numpy()
        bootstrap = IIDBootstrap(difference, seed=np.random.default_rng(0))
        arrays[f"bca/{i}"] = bootstrap.conf_int(np.mean, 200_000, method="bca").ravel()
        few = difference[:8]
        arrays[f"exact/{i}"] = permutation_test(
            few, np.zeros(8), func="x_mean != y_mean", method="exact", paired=True
        )
    np.savez_compressed(Path(__file__).with_name("statistics.npz"), **arrays)


if __name__ == "__main__":
    main()
