"""Writes NIfTI files on the grid of a scan's own files."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.scans.scan import Scan
from brats_jax.runtime.files import atomic_open

# The header fields of the geometry. Other fields are not copied: they may name the patient.
_GEOMETRY = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_FRACTION_STEPS = 65_535


def label_image(scan: Scan, labels: np.ndarray, note: str) -> Any:
    """A nibabel image of labels [x, y, z], with the scan's class, shape, affine and data type.

    The data type may be a float, as in some BraTS releases: it holds the labels exactly.
    """
    dtype = scan.header.get_data_dtype().newbyteorder("=")
    return _image(scan, labels.astype(dtype), note)


def number_image(scan: Scan, numbers: np.ndarray, note: str) -> Any:
    """A nibabel image of float32 numbers [x, y, z]."""
    return _image(scan, numbers.astype(np.float32), note)


def fraction_image(scan: Scan, numbers: np.ndarray, largest: float, note: str) -> Any:
    """A nibabel image of numbers in 0..largest, in steps of largest / 65,535.

    The file has 16 bits and a scale in its header, which every reader applies. It compresses much
    better than float32, because values near 0 become 0.
    """
    steps = np.rint(np.clip(numbers / largest, 0, 1) * _FRACTION_STEPS).astype(np.uint16)
    image = _image(scan, steps, note)
    image.header.set_slope_inter(largest / _FRACTION_STEPS, 0)
    return image


def write_image(path: Path, image: Any) -> None:
    """Writes a nibabel image to .nii.gz or .nii, atomically."""
    with atomic_open(path, "wb") as file:
        file.write(encoded(image, path))


def encoded(image: Any, path: Path) -> bytes:
    """The bytes of a nibabel image for a file of this name, .nii.gz or .nii."""
    return compressed(image) if path.suffix == ".gz" else bytes(image.to_bytes())


def compressed(image: Any) -> bytes:
    """The bytes of a nibabel image as .nii.gz; equal images give equal bytes."""
    # Level 1: the data are mostly zeros. No time stamp.
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def _image(scan: Scan, voxels: np.ndarray, note: str) -> Any:
    import nibabel

    header = type(scan.header)()
    header.set_data_dtype(voxels.dtype)
    # With the axes of the input, which may have a fourth one of length 1.
    shape = scan.header.get_data_shape()
    if int(np.prod(shape)) == voxels.size:
        voxels = voxels.reshape(shape)
    header.set_data_shape(voxels.shape)
    for name in _GEOMETRY:
        header[name] = scan.header[name]
    header["descrip"] = note.encode("ascii", "replace")[:79]
    two = isinstance(header, nibabel.Nifti2Header)
    # The affine agrees with the header, so that nibabel keeps both qform and sform, or neither.
    affine = scan.input_affine if scan.file_affine is None else scan.file_affine
    return (nibabel.Nifti2Image if two else nibabel.Nifti1Image)(voxels, affine, header)
