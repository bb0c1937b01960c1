"""Phantom patients: heads with a glioma, made from noise and a few shapes, for demo and tests."""

from typing import Any

import numpy as np
from scipy import ndimage

from brats_jax.data.phantom_anatomy import (
    FIELD_OF_VIEW_MM,
    Grid,
    Head,
    build_head,
    ramp,
    random_stream,
)
from brats_jax.data.phantom_tumour import Lesion, Plan, build_lesion, plan_tumour
from brats_jax.data.source import Case
from brats_jax.errors import BratsError

# Mean intensity of each tissue relative to white matter in T1; columns t1, t1gd, t2, flair.
_TISSUE = {
    "csf": (0.36, 0.40, 2.30, 0.38),
    "grey": (0.80, 0.83, 1.18, 1.06),
    "white": (1.00, 1.00, 0.82, 0.92),
    "nuclei": (0.88, 0.88, 0.98, 1.02),
    "pallidum": (0.96, 0.96, 0.68, 0.86),
    "stem": (0.95, 0.95, 0.90, 0.95),
    "vessel": (0.80, 1.75, 0.70, 0.85),
}
# Relative to the tissue oedema spreads in.
_OEDEMA_GAIN = (-0.10, -0.11, 0.55, 0.62)
# t1, t1gd, t2, flair of what replaces the tissue.
_NECROSIS_FLUID = (0.52, 0.52, 2.15, 0.90)
_NECROSIS_SOLID = (0.82, 0.86, 1.55, 1.50)
_ENHANCING = (0.88, 1.52, 1.42, 1.45)


class PhantomSource:
    """Patients 'Phantom_001' ...; each a pure function of (seed, position), none of the others.

    Args:
      patients: how many, at least 1.
      seed: any integer >= 0; another seed, other patients.
      shape: (slices, H, W). The head always fills the field of view of a BraTS volume, so a
        smaller shape is the same patient with larger voxels.

    Raises:
      BratsError: a number or shape that cannot be made, or an unknown patient.
    """

    name = "phantom"
    normalisations = ("slice", "volume")

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
        return {"patients": self._count, "seed": self._seed, "shape": list(self._shape)}

    def patients(self) -> list[str]:
        return [f"Phantom_{i + 1:03d}" for i in range(self._count)]

    def read(self, patient: str) -> Case:
        try:
            index = self.patients().index(patient)
        except ValueError:
            raise BratsError(
                f"phantom: no patient '{patient}'; there are Phantom_001 to {self.patients()[-1]}"
            ) from None
        plan = plan_tumour(self._seed, index)
        images, labels = _scan(self._shape, self._seed, index, plan)
        dz, dx, dy = (f / n for f, n in zip(FIELD_OF_VIEW_MM, self._shape, strict=True))
        height = self._shape[2]
        return Case(
            patient=patient,
            images=images,
            labels=labels,
            slice_numbers=np.arange(self._shape[0]),
            # As BraTS volumes have it: LPS axes, written in RAS millimetres.
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


def _scan(
    shape: tuple[int, int, int], seed: int, index: int, plan: Plan
) -> tuple[np.ndarray, np.ndarray]:
    """float32[slices, H, W, 4] images and uint8[slices, H, W] labels."""
    grid = Grid(shape)
    centre, radius = plan.foci[0]
    strength = float(random_stream(seed, index, "push").uniform(0.05, 0.35))
    head = build_head(grid, seed, index, (np.asarray(centre), radius, strength))
    lesion = build_lesion(grid, seed, index, plan)
    rng = random_stream(seed, index, "scan")

    inside = grid.refine(head.depth) > 0
    pieces, sizes = ndimage.label(inside)
    if sizes > 1:
        inside = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])

    tissue = _tissues(grid, head, inside, rng)
    label, fraction = _tumour_fractions(grid, head, lesion, plan, inside, tissue, rng)
    volumes = _intensities(grid, inside, tissue, fraction, plan, rng)

    labels = np.zeros(shape, np.uint8)
    box = np.zeros(grid.shape, np.uint8)
    box[inside] = label
    labels[grid.box] = box
    images = np.zeros((*shape, 4), np.float32)
    images[grid.box] = volumes
    return images, labels


def _tissues(
    grid: Grid, head: Head, inside: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Fractions of the tissues in each voxel of the brain, float32[voxels], summing to 1."""

    def take(field: np.ndarray) -> np.ndarray:
        return grid.refine(field)[inside]

    soft = 0.35 + 0.35 * max(grid.spacing_mm)
    atrophy = float(rng.uniform(0.2, 0.9))
    gap = atrophy + 0.35 * grid.noise(rng, 9.0, fine=True)[inside]
    depth = take(head.depth)
    sheet = np.abs(take(head.fold)) + take(head.fold_penalty)
    np.minimum(sheet, 0.8 * np.abs(take(head.lobe)) + take(head.lobe_penalty), out=sheet)
    np.minimum(sheet, 1.3 * np.abs(take(head.midline)) + take(head.midline_penalty), out=sheet)
    rind = 0.6 * atrophy + 0.9 * grid.noise(rng, 6.0, fine=True)[inside]
    distance = np.minimum(sheet - gap, depth - rind)

    csf = ramp(-distance, soft)
    grey = ramp(float(rng.uniform(2.6, 3.3)) - distance, soft + 0.2)
    cerebellum, stem = take(head.cerebellum), ramp(take(head.brainstem), 2.0)
    grey *= 1 - stem
    leaf = np.abs(np.mod(take(head.folia), 4.6) - 2.3)
    in_cerebellum = ramp(cerebellum, 1.0)
    folia = ramp(12 - cerebellum, 3.0) * in_cerebellum
    grey = np.maximum(grey * (1 - in_cerebellum), folia * (0.45 + 0.55 * ramp(1.5 - leaf, soft)))
    csf = np.maximum(csf, 0.35 * folia * ramp(0.5 - leaf, soft))
    nuclei = ramp(take(head.nuclei), 1.0)
    pallidum = ramp(take(head.pallidum), 1.0)
    ventricle = ramp(take(head.ventricle), soft)

    csf = np.maximum(csf, ventricle)
    # Vessels: tubes where two families of sheets cross, in the sulci and along the midline.
    second = take(head.vessel)
    vessel = ramp(1.2 - np.hypot(sheet, second), 0.7) * ramp(22 - depth, 4)
    sinus = ramp(2.2 - np.hypot(take(head.midline), depth - 2.0), 0.8) * ramp(4 - depth, 1)
    vessel = np.maximum(vessel, 0.8 * sinus)
    vessel = np.maximum(vessel, 0.7 * ventricle * ramp(take(head.choroid), 1.0))
    vessel = np.minimum(vessel, csf + 0.2)

    left = 1 - np.minimum(csf, 1)
    nuclei = nuclei * left
    pallidum = pallidum * nuclei
    nuclei = nuclei - pallidum
    left = left - nuclei - pallidum
    grey = grey * left
    stem = stem * (left - grey)
    fractions = {
        "csf": csf,
        "grey": grey,
        "nuclei": nuclei,
        "pallidum": pallidum,
        "stem": stem,
        "white": left - grey - stem,
    }
    for name in fractions:
        fractions[name] = fractions[name] * (1 - vessel)
    return fractions | {"vessel": vessel}


def _tumour_fractions(
    grid: Grid,
    head: Head,
    lesion: Lesion,
    plan: Plan,
    inside: np.ndarray,
    tissue: dict[str, np.ndarray],
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """uint8[voxels] labels, and the fractions 'necrosis', 'enhancing', 'oedema' of each voxel."""

    def take(field: np.ndarray) -> np.ndarray:
        return grid.refine(field)[inside]

    core, rim, halo = take(lesion.core), take(lesion.rim), take(lesion.halo)
    midline = plan.side * take(head.midline)
    ventricle = take(head.ventricle)
    # Oedema follows white matter, is held up by grey, and hardly crosses the midline.
    halo -= 5.0 * (tissue["grey"] + 0.6 * (tissue["nuclei"] + tissue["pallidum"]))
    halo -= 7.0 * np.minimum(tissue["csf"] + tissue["vessel"], 1)
    halo -= 1.2 * np.maximum(-midline - 1, 0)
    core = np.minimum(core, np.maximum(-ventricle, core - 6.0) + 1.0)
    core = np.minimum(core, 0.5 * midline + 3.0)

    soft = 0.5 + 0.4 * max(grid.spacing_mm)
    in_core = ramp(core, soft)
    enhancing = in_core * ramp(rim - core, soft) * ramp(rim - 0.4, 0.8)
    necrosis = in_core - enhancing
    oedema = (1 - in_core) * ramp(halo, float(rng.uniform(1.0, 3.0))) * ramp(-ventricle, soft)

    label = np.zeros(core.shape, np.uint8)
    label[(halo > 0) & (ventricle < 0)] = 2
    label[in_core > 0.5] = 1
    label[(in_core > 0.5) & (enhancing > necrosis)] = 3
    return label, {"necrosis": necrosis, "enhancing": enhancing, "oedema": oedema}


def _intensities(
    grid: Grid,
    inside: np.ndarray,
    tissue: dict[str, np.ndarray],
    fraction: dict[str, np.ndarray],
    plan: Plan,
    rng: np.random.Generator,
) -> np.ndarray:
    """float32[box, 4]: what the scanner stores, whole numbers, 0 outside the brain."""

    def texture(scale_mm: float) -> np.ndarray:
        return grid.noise(rng, scale_mm, fine=True)[inside]

    def jitter(sd: float) -> np.ndarray:
        return (1 + sd * rng.normal(size=4)).astype(np.float32)

    contrast = rng.uniform(0.75, 1.2, 4)  # how far apart the tissues of one scan are
    white = np.asarray(_TISSUE["white"])
    means = {
        name: ((white + (np.asarray(mean) - white) * contrast) * jitter(0.03)).astype(np.float32)
        for name, mean in _TISSUE.items()
    }
    gain = np.asarray(_OEDEMA_GAIN, np.float32) * jitter(0.25)
    solid = np.asarray(_NECROSIS_SOLID, np.float32) * jitter(0.10)
    fluid = np.asarray(_NECROSIS_FLUID, np.float32) * jitter(0.12)
    fluid[3] *= float(rng.uniform(0.6, 1.5))
    enhancing = np.asarray(_ENHANCING, np.float32) * jitter(0.10)

    swelling, seen = texture(9.0), texture(9.0)
    cyst = np.clip(float(rng.uniform(0, 1)) + 0.35 * texture(5.0), 0, 1)
    uptake = 1 + 0.22 * texture(2.5)
    patchy = [1 + 0.06 * texture(3.0) for _ in range(2)]
    shared_bias = texture(30.0)
    white_tone = texture(6.0)

    volumes = np.zeros((*inside.shape, 4), np.float32)
    for m in range(4):
        signal = sum(tissue[name] * means[name][m] for name in tissue)
        signal *= 1 + (0.02, 0.02, 0.04, 0.04)[m] * white_tone
        # T1 shows less of the oedema, and not the same parts of it, than T2 and FLAIR do.
        strength = 1 + 0.35 * (swelling if m >= 2 else 0.5 * swelling + 0.85 * seen)
        signal *= 1 + gain[m] * fraction["oedema"] * np.clip(strength, 0.1, 2)
        inner = (cyst * fluid[m] + (1 - cyst) * solid[m]) * patchy[m % 2]
        rim = enhancing[m] * (uptake if m == 1 else patchy[1])
        covered = fraction["necrosis"] + fraction["enhancing"]
        signal = signal * (1 - covered) + fraction["necrosis"] * inner + fraction["enhancing"] * rim
        signal *= np.exp(0.05 * shared_bias + float(rng.uniform(0.02, 0.07)) * texture(30.0))
        volumes[..., m][inside] = signal

        blur = np.full(3, rng.uniform(0.35, 0.6))
        if rng.random() < 0.3:  # thick slices, resampled to 1 mm
            blur[rng.choice(3, p=(0.7, 0.2, 0.1))] = rng.uniform(1.2, 2.2)
        sigma = blur / np.asarray(grid.spacing_mm)
        # Divided by the blurred mask, so that the edge of the brain keeps its intensity.
        weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma, truncate=2.5)
        image = ndimage.gaussian_filter(np.ascontiguousarray(volumes[..., m]), sigma, truncate=2.5)
        signal = image[inside] / weight[inside]
        level = float(rng.uniform(0.02, 0.045)) * means["white"][m]
        real = signal + level * rng.standard_normal(signal.shape, dtype=np.float32)
        signal = np.hypot(real, level * rng.standard_normal(signal.shape, dtype=np.float32))
        scale = float(np.exp(rng.uniform(np.log(200), np.log(1500)))) * (
            8 if rng.random() < 0.1 else 1
        )
        volumes[..., m][inside] = np.clip(np.round(signal * scale), 1, 32767)
    return volumes
