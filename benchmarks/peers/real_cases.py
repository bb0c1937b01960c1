"""The cases of real.py: their files, nnU-Net's form of them, and the one scorer of all programs."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from benchmarks.peers import nnunet_real
from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES, MODALITIES, REGIONS
from brats_jax.data.scans.case_files import CaseFiles, group_by_case
from brats_jax.data.scans.labels import ET, ET_UNTIL_2021, choose_scheme, map_labels
from brats_jax.data.scans.naming import SEG
from brats_jax.data.scans.volumes import read_volume
from brats_jax.data.sources.base import folder_files
from brats_jax.errors import BratsError
from brats_jax.metrics import overlap, surface
from brats_jax.runtime.files import write_json

CONVENTION = "brats2020"  # of empty regions: Dice 1 and 0 mm in neither mask, 0 and 373.13 in one
SUFFIX = ".nii.gz"


def find(sources: Iterable[Path], names: Iterable[str]) -> dict[str, CaseFiles]:
    """The files of cases, labels included, in the given order.

    Raises:
      BratsError: a case is in none of the folders, or lacks a modality or its labels.
    """
    sources = list(sources)
    every: dict[str, CaseFiles] = {}
    for source in sources:
        every.update(group_by_case(folder_files(source)))
    found = {}
    for name in names:
        case = every.get(name)
        if case is None:
            raise BratsError(
                f"the case {name} of the store is in none of --source="
                f"{', '.join(map(str, sources))}: give the folders that it was prepared from"
            )
        if case.conflict:
            raise BratsError(case.conflict)
        missing = [part for part in (*MODALITIES, SEG) if part not in case.paths]
        if missing:
            raise BratsError(f"{case.folder} has no {', '.join(missing)} of the case {name}")
        found[name] = case
    return found


def channels(case: CaseFiles) -> list[str]:
    """The files of the modalities, in canonical order."""
    return [str(Path(case.paths[name]).resolve()) for name in MODALITIES]


def read_truth(case: CaseFiles) -> tuple[np.ndarray, Any]:
    """(labels uint8[x, y, z], ET as 3, image) of a case's label file, in its own axes."""
    image = nibabel.load(case.paths[SEG])
    volume = read_volume(case.paths[SEG])
    labels = map_labels(volume, choose_scheme(volume, case.schemes), [])
    return labels.astype(np.uint8).reshape(image.shape), image


def write_nnunet(cases: Mapping[str, CaseFiles], base: Path) -> None:
    """Writes the raw data set that nnU-Net trains on: links to the images, labels with ET as 3.

    Args:
      cases: the training patients alone, by name.
      base: folder of nnU-Net's files.
    """
    folder = base / "raw" / nnunet_real.NAME
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, case in cases.items():
        for number, path in enumerate(channels(case)):
            link = folder / "imagesTr" / f"{name}_{number:04}{SUFFIX}"
            link.unlink(missing_ok=True)
            if path.endswith(SUFFIX):
                os.symlink(path, link)
            else:
                nibabel.save(nibabel.load(path), link)
        labels, image = read_truth(case)
        nibabel.save(
            nibabel.Nifti1Image(labels, image.affine), folder / "labelsTr" / f"{name}{SUFFIX}"
        )
    write_json(
        folder / "dataset.json",
        {
            "channel_names": {str(k): DISPLAY_NAMES[name] for k, name in enumerate(MODALITIES)},
            "labels": {name: value for value, name in enumerate(CLASSES)},
            "numTraining": len(cases),
            "file_ending": SUFFIX,
        },
    )


def score(prediction: Path, case: CaseFiles) -> dict[str, float]:
    """Dice and HD95 of WT, TC and ET in 3D; empty regions count as in BraTS 2020.

    Args:
      prediction: labels on the grid of the truth, with ET as 3 or 4.
      case: with its true labels.

    Returns:
      'dice_WT', ..., 'hd95_mm_ET', and 'dice', the mean of the three.

    Raises:
      BratsError: the prediction lies on another grid.
    """
    truth, image = read_truth(case)
    predicted = nibabel.load(prediction)
    if predicted.shape != image.shape or not np.allclose(predicted.affine, image.affine, atol=1e-3):
        raise BratsError(f"{prediction} lies on another grid than {case.paths[SEG]}")
    labels = np.asarray(predicted.dataobj).astype(np.uint8)
    labels[labels == ET_UNTIL_2021] = ET
    spacing = [float(size) for size in image.header.get_zooms()[:3]]
    return score_labels(labels, truth, spacing)


def score_labels(
    labels: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float]
) -> dict[str, float]:
    """The scores of `score` for labels uint8[x, y, z] with ET as 3."""
    regions = tuple(REGIONS.values())
    pair = labels[None], truth[None]
    dice = overlap.dice_under(np.asarray(overlap.region_counts(*pair, regions)), CONVENTION)[0]
    edges = surface.region_surface_statistics(*pair, regions, spacing_mm)
    hd95 = np.asarray(surface.fill_empty(surface.hd95(edges), edges, CONVENTION))[0]
    scores = {f"dice_{name}": float(d) for name, d in zip(REGIONS, dice, strict=True)}
    scores |= {f"hd95_mm_{name}": float(d) for name, d in zip(REGIONS, hd95, strict=True)}
    return scores | {"dice": float(np.mean(dice))}
