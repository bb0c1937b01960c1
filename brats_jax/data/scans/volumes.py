"""One volume: the voxels of a file, image or array, and what its header says of their place."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from brats_jax.data.modalities import DISPLAY_NAMES
from brats_jax.data.scans.grids import Grid, codes_of, is_invertible, lps_grid, voxel_sizes_mm
from brats_jax.data.scans.nifti_file import read_header, read_nifti
from brats_jax.data.scans.options import ReadOptions
from brats_jax.errors import BratsError
from brats_jax.runtime.text import plural

# The units of `xyzt_units` in mm: metres and microns; everything else counts as mm.
_MM_OF_UNIT = {1: 1000.0, 3: 0.001}
# Relative difference of voxel sizes that counts as equal.
SIZE_TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True)
class Volume:
    """The contents of one file.

    Attributes:
      path: the file, or a name for messages.
      voxels: real[x, y, z] in the file's own axes, with the scale of its header applied.
      affine: float64[4, 4], voxel to scanner mm; with `unknown_axes`, of the size of its voxels
        and in the axes that NIfTI takes by default.
      header: nibabel's header of NIfTI-1 or NIfTI-2.
      unknown_axes: why the header does not define the axes; '' if it does.
      readings: the axes that the header may mean, with `unknown_axes`.
      file_affine: the affine as the file has it, in the unit of its header; None for `affine`.
    """

    path: str
    voxels: np.ndarray
    affine: np.ndarray
    header: Any
    unknown_axes: str = ""
    readings: tuple[str, ...] = ()
    file_affine: np.ndarray | None = None

    @property
    def codes(self) -> str:
        """The directions of the axes, e.g. 'LPS'."""
        return codes_of(self.affine)

    @property
    def size_text(self) -> str:
        """'240 x 240 x 155'."""
        return " x ".join(str(size) for size in self.voxels.shape)

    @property
    def voxel_text(self) -> str:
        """'1 x 1 x 3 mm'."""
        return " x ".join(f"{size:.3g}" for size in voxel_sizes_mm(self.affine)) + " mm"

    @property
    def grid(self) -> Grid:
        """The grid of the voxels, its axes turned to LPS."""
        return lps_grid(self.affine, self.voxels.shape)


def read_volume(path: str, options: ReadOptions = ReadOptions()) -> Volume:  # noqa: B008, immutable
    """Reads one NIfTI file, whether compressed or not, and applies the scale of its header.

    Raises:
      BratsError: the file cannot be read, is too large, or fails `check_volume`.
    """
    header, voxels = read_nifti(path, options.max_case_gb)
    return volume_from(path, voxels, None, header)


def volume_of_header(path: str, options: ReadOptions) -> Volume | None:
    """As `read_volume`, with zeros in place of the voxels, which are not read.

    Returns:
      None where the header declares other than one volume.
    """
    header = read_header(path, options.max_case_gb)
    zeros = np.broadcast_to(np.uint8(0), header.get_data_shape())
    if zeros.ndim < 3 or any(length > 1 for length in zeros.shape[3:]):
        return None
    return volume_from(path, zeros, None, header)


def read_channels(
    path: str,
    modalities: Sequence[str | None],
    options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
) -> dict[str, Volume]:
    """Reads a NIfTI file of four axes, of which the last one is the channel.

    Args:
      path: the file.
      modalities: of each channel; None for those that are left out.
      options: how files are read.

    Raises:
      BratsError: the file cannot be read, is too large, has another number of channels, or one of
        them fails `check_volume`.
    """
    header, voxels = read_nifti(path, options.max_case_gb)
    if voxels.ndim == 3:
        voxels = voxels[..., None]
    if voxels.ndim != 4 or voxels.shape[3] != len(modalities):
        shape = " x ".join(map(str, voxels.shape))
        raise BratsError(
            f"{path} holds {shape} voxels, and dataset.json names "
            f"{plural(len(modalities), 'channel')}: fetch both again"
        )
    return {
        name: volume_from(f"{path} ({DISPLAY_NAMES[name]})", voxels[..., k], None, header)
        for k, name in enumerate(modalities)
        if name is not None
    }


def volume_from(path: str, voxels: np.ndarray, affine: np.ndarray | None, header: Any) -> Volume:
    """The volume of voxels with a header, which alone decides whether the axes are known.

    Args:
      path: the file, or a name for messages.
      voxels: real[x, y, z].
      affine: as nibabel gives it, which may be more exact than the header; None for the header's.
      header: nibabel's header.

    Raises:
      BratsError: as in `check_volume`; or the header states two voxel sizes.
    """
    from nibabel.spatialimages import HeaderDataError

    scale = _MM_OF_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    found, broken = {}, False
    for method in ("sform", "qform"):
        try:
            matrix, code = getattr(header, f"get_{method}")(coded=True)
        except (ValueError, ArithmeticError, HeaderDataError):  # a quaternion that is none
            matrix, code = np.zeros((4, 4)), 1
        if code > 0 and is_invertible(matrix):
            found[method] = np.asarray(matrix, np.float64)
        broken |= bool(code > 0 and not is_invertible(matrix))
    sizes = np.abs(np.asarray(header["pixdim"][1:4], np.float64))
    sizes = np.where(np.isfinite(sizes) & (sizes > 0), sizes, 0)
    unknown_axes, readings = "", tuple(codes_of(matrix) for matrix in found.values())
    if not found:
        unknown_axes = (
            "has no affine in its header that can be inverted"
            if broken
            else "has neither a qform nor an sform code in its header"
        )
        own = np.diag([*np.where(sizes > 0, sizes, 1 / scale), 1.0]) * [-1, 1, 1, 1]
    else:
        own = next(iter(found.values()))
        if len(set(readings)) > 1:
            unknown_axes = (
                f"contradicts itself in its header (sform {readings[0]}, qform {readings[1]})"
            )
        elif affine is not None and np.allclose(affine, own, rtol=1e-5, atol=1e-3 / scale):
            own = np.asarray(affine, np.float64)
        _check_sizes(path, voxel_sizes_mm(own), sizes, scale)
    file_affine = own if affine is None else np.asarray(affine, np.float64)
    if scale != 1:
        own = np.diag([scale, scale, scale, 1]) @ own
    volume = check_volume(path, voxels, own, header)
    return dataclasses.replace(
        volume, unknown_axes=unknown_axes, readings=readings, file_affine=file_affine
    )


def _check_sizes(
    path: str, by_affine: tuple[float, ...], by_pixdim: np.ndarray, scale: float
) -> None:
    """Refuses a header whose affine and `pixdim` state different voxel sizes."""
    by_affine_ = np.array(by_affine)
    known = by_pixdim > 0
    if (np.abs(by_affine_ - by_pixdim) > SIZE_TOLERANCE * by_affine_)[known].any():
        affine, pixdim = (
            " x ".join(f"{size * scale:.3g}" for size in sizes) for sizes in (by_affine, by_pixdim)
        )
        raise BratsError(
            f"{path} has voxels of {affine} mm by its affine and of {pixdim} mm by its pixdim: "
            "repair its header"
        )


def check_volume(path: str, voxels: np.ndarray, affine: np.ndarray, header: Any) -> Volume:
    """Checks that an array is one volume with finite float32 values and an invertible affine.

    Axes of length 1 after the third are removed.

    Raises:
      BratsError: it is not.
    """
    affine = np.asarray(affine, dtype=np.float64)
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3 or 0 in voxels.shape or voxels.dtype.kind not in "iuf":
        raise BratsError(
            f"{path} holds {voxels.dtype}{list(voxels.shape)}, not one volume of numbers: "
            "fetch it again, or keep the one volume that is meant"
        )
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise BratsError(
            f"{path} holds voxels that are not finite ({int((~np.isfinite(voxels)).sum()):,} of "
            "them): repair or remove the case"
        )
    if voxels.dtype.kind == "f" and not _fits_float32(voxels):
        raise BratsError(
            f"{path} holds values up to {np.abs(voxels).max():.3g}, beyond 32-bit floats: rescale "
            "its intensities, or repair the scale in its header"
        )
    if not is_invertible(affine):
        raise BratsError(f"{path} has an affine that cannot be inverted: repair its header")
    return Volume(path, voxels, affine, header)


def _fits_float32(voxels: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(voxels.astype(np.float32, copy=False)).all())
