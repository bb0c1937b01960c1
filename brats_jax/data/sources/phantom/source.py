"""Phantom patients: heads with a glioma, made from noise and a few shapes, for demo and tests.

`lay_out` builds anatomy and tumour (`anatomy`, `tumour`), then `_scan` simulates the scanner:
contrasts, bias field, thick slices, noise, arbitrary scale. Of eight patients one has no ET, one
several foci, one a nearly solid core.

Comparison with real cases: twelve phantoms of seed 0 (voxels of 2 mm) and six pre-operative gliomas
of BraTS 2021 (two of them without ET), as `benchmarks/numerics/phantom_statistics.py` computes it.
Intensities are z-scores over the brain: mean ± standard deviation within a patient, averaged over
patients, phantom | real:

             T1                    T1Gd                  T2                    FLAIR
    normal   0.0±1.0 | 0.0±1.0      0.0±1.0 | 0.0±1.0     -0.1±0.9 |-0.1±0.8     -0.1±0.9 |-0.1±0.9
    NCR/NET -0.2±0.6 |-0.2±0.7     -0.4±0.6 |-0.4±0.5      2.2±0.6 | 2.1±0.8      1.7±0.8 | 2.0±0.9
    ED       0.4±0.7 | 0.3±0.6      0.2±0.6 | 0.1±0.5      0.8±0.9 | 0.8±0.7      1.8±1.0 | 1.6±0.7
    ET       0.6±0.5 | 0.5±0.5      1.8±0.8 | 1.8±0.8      1.3±0.4 | 1.6±0.8      2.0±0.6 | 2.0±0.8

and, as mean (sd over patients), phantom | real:

    brain                 1471 (145) | 1457 (151) ml
    NCR/NET                  20 (15) | 55 (50) ml, as half of the six have a large core
    ED                       62 (50) | 43 (36) ml
    ET                       27 (22) | 16 (33) ml
    slices with tumour       46 (12) | 46 (6) %
    P(tumour brighter in FLAIR than normal)          0.93 (0.06) | 0.89 (0.14)
    P(ET brighter in T1Gd than normal)               0.92 (0.07) | 0.94 (0.05)
    P(NCR/NET brighter in T2 than ED)                0.89 (0.07) | 0.86 (0.13)
    R^2 of FLAIR regressed on T1, T1Gd: brain        0.24 (0.07) | 0.35 (0.10)
                                        tumour       0.23 (0.15) | 0.29 (0.24)
    variance of an unseen brain's FLAIR explained by nine numbers per voxel:
      slices with tumour / all slices                0.13 / 0.12 | 0.08 / 0.17

FLAIR depends on the surroundings of a voxel more than on its T1 and T1Gd: fluid is dark in the
ventricles and grey between the folds, cortex is brighter than the deep nuclei of the same T1, and
the bias fields of T1 and T1Gd hide the difference between grey and white matter from a voxel.

Not simulated: detailed anatomy, motion, implants, resection, remains of the skull, voxels missing
in one modality only. T1 is less smooth than in real cases. Scores on phantoms test the program;
they predict nothing about patients.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.normalise import NORMALISATIONS
from brats_jax.data.sources.base import Case
from brats_jax.data.sources.phantom.anatomy import build_head, tissue_fractions
from brats_jax.data.sources.phantom.grid import FIELD_OF_VIEW_MM, PhantomGrid, Voxels, random_stream
from brats_jax.data.sources.phantom.tumour import build_lesion, plan_tumour, tumour_fractions
from brats_jax.errors import BratsError

_T1, _T1GD, _T2, _FLAIR = (MODALITIES.index(name) for name in ("t1", "t1gd", "t2", "flair"))
# Mean intensity of each tissue relative to white matter in T1; columns t1, t1gd, t2, flair.
_TISSUE = {
    "csf": (0.30, 0.34, 2.70, 0.85),
    "ventricle": (0.30, 0.34, 2.70, 0.34),
    "grey": (0.82, 0.85, 1.10, 1.16),
    "white": (1.00, 1.00, 0.82, 0.88),
    "nuclei": (0.90, 0.90, 0.96, 0.92),
    "pallidum": (0.96, 0.96, 0.70, 0.86),
    "cap": (0.95, 0.96, 1.00, 1.08),
    "stem": (0.95, 0.95, 0.90, 0.95),
    "vessel": (0.75, 1.70, 0.45, 0.70),
}
# Relative to the tissue oedema spreads in.
_OEDEMA_GAIN = (-0.04, -0.06, 0.62, 0.46)
# t1, t1gd, t2, flair of what replaces the tissue.
_NECROSIS_FLUID = (0.62, 0.62, 2.40, 1.25)
_NECROSIS_SOLID = (0.90, 0.84, 1.80, 1.60)
_ENHANCING = (0.94, 1.24, 1.75, 1.42)
# Range of the standard deviation of each modality's own bias field, in log intensity.
_BIAS = ((0.10, 0.20), (0.10, 0.20), (0.04, 0.11), (0.03, 0.08))
# Variation of each modality within a tissue.
_TEXTURE = (0.025, 0.03, 0.05, 0.06)


class PhantomSource:
    """Patients 'Phantom_001' and so on; each is a pure function of seed and number.

    Args:
      patients: number of patients, at least 1.
      seed: an integer >= 0; other seeds give other patients.
      shape: (slices, H, W). A smaller shape gives the same patients with larger voxels.

    Raises:
      BratsError: an invalid number or shape, or an unknown patient.
    """

    name = "phantom"
    normalisations = NORMALISATIONS

    def __init__(self, patients: int, seed: int = 0, shape: tuple[int, int, int] = (155, 240, 240)):
        if patients < 1:
            raise BratsError(f"phantom: {patients} patients asked for; ask for at least 1")
        if seed < 0:
            raise BratsError(f"phantom: seed {seed} is negative; give one of 0, 1, 2, ...")
        if len(shape) != 3 or min(shape) < 16 or max(shape) > 480:
            raise BratsError(
                f"phantom: shape {tuple(shape)} cannot be made; give three sizes from 16 to 480"
            )
        self._count = int(patients)
        self._seed = int(seed)
        self._shape = (int(shape[0]), int(shape[1]), int(shape[2]))

    @property
    def description(self) -> dict[str, Any]:
        return {
            "kind": self.name,
            "patients": self._count,
            "seed": self._seed,
            "shape": list(self._shape),
        }

    def patients(self) -> list[str]:
        return [f"Phantom_{i + 1:03d}" for i in range(self._count)]

    def read(self, patient: str) -> Case:
        try:
            index = self.patients().index(patient)
        except ValueError:
            raise BratsError(
                f"phantom: no patient '{patient}'; there are Phantom_001 to {self.patients()[-1]}"
            ) from None
        layout = lay_out(self._shape, self._seed, index)
        box = layout.voxels.grid.box
        labels = np.zeros(self._shape, np.uint8)
        labels[box] = layout.voxels.scatter(layout.label)
        images = np.zeros((*self._shape, len(MODALITIES)), np.float32)
        for m, volume in enumerate(_scan(layout, self._seed, index)):
            images[box][..., m] = volume
        dz, dx, dy = (f / n for f, n in zip(FIELD_OF_VIEW_MM, self._shape, strict=True))
        height = self._shape[2]
        return Case(
            patient=patient,
            images=images,
            labels=labels,
            slice_numbers=np.arange(self._shape[0]),
            # As in BraTS volumes: LPS axes, in RAS coordinates.
            affine=[
                [-dx, 0.0, 0.0, 0.0],
                [0.0, -dy, 0.0, dy * (height - 1)],
                [0.0, 0.0, dz, 0.0],
                [0.0, 0.0, 0.0, 1.0],
            ],
            spacing_mm=(dx, dy, dz),
            provenance={"generator": "phantom", "seed": self._seed, "index": index},
            notes=("no ET",) if not (labels == 3).any() else (),
        )


@dataclasses.dataclass(frozen=True)
class Layout:
    """Anatomy and tumour of one patient, before the simulated scan.

    Attributes:
      voxels: the voxels of the brain.
      tissue, tumour: share of each voxel by name, float32[voxels].
      label: uint8[voxels].
    """

    voxels: Voxels
    tissue: dict[str, np.ndarray]
    tumour: dict[str, np.ndarray]
    label: np.ndarray


def lay_out(shape: tuple[int, int, int], seed: int, index: int) -> Layout:
    """Anatomy and tumour of one patient at (slices, H, W)."""
    grid = PhantomGrid(shape)
    plan = plan_tumour(seed, index)
    rng = random_stream(seed, index, "layout")
    centre, radius = plan.foci[0]
    head = build_head(grid, seed, index, (centre, radius, float(rng.uniform(0.05, 0.35))))
    lesion = build_lesion(grid, seed, index, plan)
    grid = PhantomGrid(shape, grid.limits_of(head.depth))
    inside = grid.refine(head.depth) > 0
    pieces, count = ndimage.label(inside)
    if count > 1:
        inside = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    voxels = Voxels(grid, inside)
    tissue = tissue_fractions(head, voxels, rng)
    label, tumour = tumour_fractions(lesion, plan, head, tissue, voxels, rng)
    return Layout(voxels, tissue, tumour, label)


def _scan(layout: Layout, seed: int, index: int) -> Iterator[np.ndarray]:
    """Yields float32[box] for each modality: whole numbers, 0 outside the brain."""
    voxels, tissue, tumour = layout.voxels, layout.tissue, layout.tumour
    rng = random_stream(seed, index, "contrast")

    def jitter(sd: float) -> np.ndarray:
        return (1 + sd * rng.normal(size=4)).astype(np.float32)

    contrast = rng.uniform(0.75, 1.2, 4)  # between the tissues of one scan
    white = np.asarray(_TISSUE["white"])
    means = {
        name: ((white + (np.asarray(mean) - white) * contrast) * jitter(0.03)).astype(np.float32)
        for name, mean in _TISSUE.items()
    }
    gain = np.asarray(_OEDEMA_GAIN, np.float32) * jitter(0.15)
    solid = np.asarray(_NECROSIS_SOLID, np.float32) * jitter(0.10)
    fluid = np.asarray(_NECROSIS_FLUID, np.float32) * jitter(0.12)
    fluid[_FLAIR] *= float(rng.uniform(0.7, 1.4))  # suppression depends on the protein content
    enhancing = np.asarray(_ENHANCING, np.float32) * jitter(0.05)
    enhancing[_T1GD] = max(enhancing[_T1GD], enhancing[_T1] + 0.3)

    swelling, seen = voxels.noise(rng, 9.0), voxels.noise(rng, 9.0)
    cyst = np.clip(float(rng.uniform(0, 1)) + 0.35 * voxels.noise(rng, 5.0), 0, 1)
    uptake = 1 + 0.12 * voxels.noise(rng, 2.5)
    patchy = [1 + 0.07 * voxels.noise(rng, 3.0) for _ in range(2)]
    shared_bias = voxels.noise(rng, 30.0)
    # The blur darkens the edge of the brain more than in real scans.
    edge = ndimage.gaussian_filter(
        voxels.inside.astype(np.float32), 0.6 / np.asarray(voxels.grid.spacing_mm), truncate=2.5
    )
    edge = voxels.gather(edge) ** 0.6
    covered = tumour["necrosis"] + tumour["enhancing"]

    for m, modality in enumerate(MODALITIES):
        rng = random_stream(seed, index, modality)
        # The scale of scanners is arbitrary; one in ten uses most of the 16 bits.
        scale = math.exp(rng.uniform(math.log(200), math.log(1500)))
        scale *= 8 if rng.random() < 0.1 else 1
        level = float(rng.uniform(0.012, 0.03)) * means["white"][m]
        signal = sum(share * means[name][m] for name, share in tissue.items())
        signal *= 1 + _TEXTURE[m] * voxels.noise(rng, 3.0)
        # T1 shows less of the oedema than T2 and FLAIR, and other parts of it.
        strength = 1 + 0.3 * (swelling if m in (_T2, _FLAIR) else 0.5 * swelling + 0.85 * seen)
        signal *= 1 + gain[m] * tumour["oedema"] * np.clip(strength, 0.3, 2)
        inner = (cyst * fluid[m] + (1 - cyst) * solid[m]) * patchy[m % 2]
        rim = enhancing[m] * (uptake if m == _T1GD else patchy[1])
        signal *= 1 - covered
        signal += tumour["necrosis"] * inner + tumour["enhancing"] * rim
        own_bias = float(rng.uniform(*_BIAS[m])) * voxels.noise(rng, 30.0)
        signal *= np.exp(0.05 * shared_bias + own_bias)

        blur = np.full(3, rng.uniform(0.6, 0.9))
        if rng.random() < 0.3:  # thick slices, resampled to 1 mm
            blur[rng.choice(3, p=(0.7, 0.2, 0.1))] = rng.uniform(1.2, 2.2)
        sigma = blur / np.asarray(voxels.grid.spacing_mm)
        blurred = ndimage.gaussian_filter(voxels.scatter(signal), sigma, truncate=2.5)
        signal = voxels.gather(blurred) / edge
        real = signal + level * rng.standard_normal(signal.shape, dtype=np.float32)
        signal = np.hypot(real, level * rng.standard_normal(signal.shape, dtype=np.float32))
        yield voxels.scatter(np.clip(np.round(signal * scale), 1, 32767))
