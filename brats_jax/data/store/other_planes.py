"""A case in slices of another plane, to be stored; see `data.planes`."""

import dataclasses

import numpy as np

from brats_jax.data.planes import AXIAL, is_isotropic, slices_along, spacing_along
from brats_jax.data.sources.base import Case
from brats_jax.errors import BratsError


def check_normalisation(plane: str, normalisation: str) -> None:
    """Refuses a normalisation of single slices for another plane (BratsError)."""
    if plane != AXIAL and normalisation == "slice":
        raise BratsError(
            f"--plane={plane} needs --normalisation=volume or robust: slices that are normalised "
            "one by one do not fit together in another plane"
        )


def in_plane(case: Case, plane: str) -> Case:
    """The case with images and labels in slices of a plane.

    Affine and spacing stay those along x, y and z.

    Args:
      case: in axial slices.
      plane: one of `planes.PLANES`.

    Raises:
      BratsError: the volume lacks slices.
    """
    if plane == AXIAL:
        return case
    if not len(case.slice_numbers) or (np.diff(case.slice_numbers) != 1).any():
        raise BratsError(
            f"case {case.patient}: slices of its volume are missing, and --plane={plane} needs "
            "whole volumes: fetch them"
        )
    images = np.ascontiguousarray(slices_along(case.images, plane))
    labels = None
    if case.labels is not None:
        labels = np.ascontiguousarray(slices_along(case.labels, plane))
    notes = list(case.notes)
    if case.spacing_mm is not None and not is_isotropic(case.spacing_mm):
        height, width, apart = spacing_along(case.spacing_mm, plane)
        notes.append(
            f"{plane} slices, {apart:g} mm apart, have pixels of {height:g} x {width:g} mm: the "
            "voxels are no cubes"
        )
    return dataclasses.replace(
        case, images=images, labels=labels, slice_numbers=np.arange(len(images)), notes=notes
    )
