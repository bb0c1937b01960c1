"""SSIM of the brain between a real FLAIR and the same FLAIR with other brightness or contrast.

    python benchmarks/numerics/ssim_of_contrast.py --store=STORE

STORE is prepared with --normalisation=volume, so that intensities are z-scores. Brightness and
contrast of FLAIR differ between scanners. Prints the mean over every third patient (--every) of the
SSIM of every eighth slice of the middle half.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import measure  # noqa: E402
from brats_jax.data.brain import brain_mask  # noqa: E402
from brats_jax.data.modalities import MODALITIES  # noqa: E402
from brats_jax.data.store.reader import Store  # noqa: E402
from brats_jax.metrics import image  # noqa: E402

# Factor and offset of each change.
CHANGES = {
    "unchanged": (1.0, 0.0),
    "brighter by 0.1": (1.0, 0.1),
    "brighter by 0.3": (1.0, 0.3),
    "contrast 0.8": (0.8, 0.0),
    "contrast 0.6, brighter by 0.1": (0.6, 0.1),
}


def similarities(images: np.ndarray) -> dict[str, float]:
    """SSIM within the brain of one patient's changed FLAIR, by change.

    Args:
      images: float[S, H, W, 4], slices with brain.
    """
    real = images[..., MODALITIES.index("flair")]
    brain = np.asarray(brain_mask(images))
    ranges = image.data_range(real)
    found = {}
    for name, (factor, offset) in CHANGES.items():
        changed = np.where(brain, factor * real + offset, real)
        found[name] = float(np.nanmean(image.ssim(changed, real, ranges, brain)))
    return found


def main() -> None:
    """Prints the mean of each change over the patients."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--every", type=int, default=3)
    arguments = parser.parse_args()
    store = Store.open(arguments.store)
    rows = []
    for patient in range(0, len(store.patients), arguments.every):
        slices = np.flatnonzero(store.patient_of == patient)
        middle = slices[len(slices) // 4 : 3 * len(slices) // 4 : 8]
        rows.append(similarities(store.read(middle)[0].astype(np.float32)))
    for name in CHANGES:
        print(f"{name:<32}{np.mean([row[name] for row in rows]):.2f}")
    print(f"{len(rows)} patients; {measure.where()}")


if __name__ == "__main__":
    main()
