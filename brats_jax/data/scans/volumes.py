"""Reading one NIfTI file, and turning its axes to Left, Posterior, Superior (LPS)."""

import dataclasses
import functools
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.errors import BratsError
from brats_jax.runtime.files import read_regular, unreadable

# The axes of every array: x runs to the patient's Left, y to Posterior, z to Superior.
ORIENTATION = "LPS"


@dataclasses.dataclass(frozen=True)
class Volume:
    """The contents of one file.

    Attributes:
      path: the file, or a name for messages.
      voxels: real[x, y, z] in the file's own axes, with the scale of its header applied.
      affine: float64[4, 4], voxel to scanner mm.
      header: nibabel's header of NIfTI-1 or NIfTI-2.
    """

    path: str
    voxels: np.ndarray
    affine: np.ndarray
    header: Any

    @property
    def codes(self) -> str:
        """The directions of the axes, e.g. 'LPS'."""
        import nibabel

        return "".join(code or "?" for code in nibabel.aff2axcodes(self.affine))

    @property
    def size_text(self) -> str:
        """'240 x 240 x 155'."""
        return " x ".join(str(size) for size in self.voxels.shape)


def read_volume(path: str) -> Volume:
    """Reads one NIfTI file, whether compressed or not, and applies the scale of its header.

    Raises:
      BratsError: the file cannot be read, or fails `check_volume`.
    """
    import nibabel  # here, so that reading a store does not load it

    try:
        raw = read_regular(Path(path))
        if raw[:2] == b"\x1f\x8b":
            raw = _decompress(raw)
        two = nibabel.Nifti2Header.may_contain_header(raw[: nibabel.Nifti2Header.sizeof_hdr])
        image = (nibabel.Nifti2Image if two else nibabel.Nifti1Image).from_bytes(raw)
        voxels, affine = _voxels(image.dataobj, raw), np.asarray(image.affine)
        header = image.header
    except MemoryError:
        raise
    except Exception as error:  # gzip, zlib and nibabel raise a dozen types
        raise unreadable(path, error) from None
    return check_volume(path, voxels, affine, header)


def _decompress(raw: bytes) -> bytes:
    """Decompresses a gzip file and compares its length and checksum, which nibabel does not.

    Nearly every file is one member with at most a name in its header, and its last bytes are the
    length of the contents. Allocating that length at once takes 0.65 of the time of
    gzip.decompress, which serves for all other forms.
    """
    start = {0: 10, 8: raw.find(b"\0", 10) + 1}.get(raw[3], 0)
    size, checksum = int.from_bytes(raw[-4:], "little"), int.from_bytes(raw[-8:-4], "little")
    # Deflate compresses by a factor of 1032 at most: a larger size is wrong.
    if start and 0 < size <= 1032 * len(raw):
        try:
            contents = zlib.decompress(memoryview(raw)[start:-8], -zlib.MAX_WBITS, size)
        except zlib.error:  # another form of gzip, or a damaged file
            return gzip.decompress(raw)
        if len(contents) == size and zlib.crc32(contents) == checksum:
            return contents
    return gzip.decompress(raw)


def _voxels(data: Any, raw: bytes) -> np.ndarray:
    """The voxels of nibabel's array proxy; without a copy if the header has no scale."""
    if (data.slope, data.inter) != (1.0, 0.0):
        return np.asanyarray(data)
    return np.ndarray(data.shape, data.dtype, raw, data.offset, order="F")


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
        raise BratsError(f"{path} holds voxels that are not finite: repair or remove the case")
    if voxels.dtype.kind == "f" and not _fits_float32(voxels):
        raise BratsError(
            f"{path} holds values up to {np.abs(voxels).max():.3g}, beyond 32-bit floats: rescale "
            "its intensities, or repair the scale in its header"
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise BratsError(f"{path} has an affine that cannot be inverted: repair its header")
    return Volume(path, voxels, affine, header)


def _fits_float32(voxels: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(voxels.astype(np.float32, copy=False)).all())


def to_lps(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Flips and permutes the axes to Left, Posterior, Superior, without resampling."""
    from nibabel import orientations

    return orientations.apply_orientation(voxels, _transform_to_lps(affine))


def from_lps(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The inverse of `to_lps`: turns the axes to those of a file with this affine."""
    from nibabel import orientations

    back = orientations.ornt_transform(
        orientations.axcodes2ornt(ORIENTATION), orientations.io_orientation(affine)
    )
    return orientations.apply_orientation(voxels, back)


def affine_to_lps(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The affine of the array that `to_lps` returns: every voxel keeps its place in mm."""
    from nibabel import orientations

    return affine @ orientations.inv_ornt_aff(_transform_to_lps(affine), shape)


def align(
    volume: Volume, reference: Volume, brain_of: Callable[[], np.ndarray], notes: list[str]
) -> np.ndarray:
    """Turns a volume to the LPS axes of the first modality of its case.

    The volumes of a case share a voxel grid, even if their headers place it differently. If the
    headers disagree on the directions of the axes, either may be wrong: the reading with more of
    the volume's non-zero voxels in the brain is taken.

    Args:
      volume: to turn.
      reference: the first modality.
      brain_of: returns bool[x, y, z], the brain on the reference's LPS grid.
      notes: gets a line on a disagreement.

    Returns:
      [x, y, z] on the reference's LPS grid.

    Raises:
      BratsError: the volumes have different shapes.
    """
    name = Path(volume.path).name
    own = to_lps(volume.voxels, volume.affine)
    shape = to_lps(reference.voxels, reference.affine).shape
    if volume.codes == reference.codes:
        if own.shape != shape:
            raise BratsError(
                f"{volume.path} is {volume.size_text}, {reference.path} is {reference.size_text}: "
                "fetch the case again"
            )
        if not np.allclose(volume.affine, reference.affine, atol=1e-3):
            notes.append(f"{name} has another affine than {Path(reference.path).name}; same grid")
        return own
    as_reference = to_lps(volume.voxels, reference.affine)
    brain = brain_of()
    inside = {
        how: int(((grid != 0) & brain).sum())
        for how, grid in (("own", own), ("reference", as_reference))
        if grid.shape == brain.shape
    }
    if not inside:
        raise BratsError(
            f"{volume.path} is {volume.size_text} {volume.codes}, {reference.path} is "
            f"{reference.size_text} {reference.codes}: fetch the case again"
        )
    # On a tie (no labels at all) the file's own header counts.
    how = max(inside, key=lambda key: (inside[key], key == "own"))
    kept = "its own axes" if how == "own" else f"the axes of {Path(reference.path).name}"
    notes.append(
        f"{name} is {volume.codes}, {Path(reference.path).name} is {reference.codes}; read with "
        f"{kept} ({inside[how]} voxels in the brain)"
    )
    return own if how == "own" else as_reference


def voxel_sizes_mm(affine: np.ndarray) -> tuple[float, float, float]:
    """Size of a voxel along its axes."""
    from nibabel import affines

    x, y, z = affines.voxel_sizes(affine).tolist()
    return x, y, z


def _transform_to_lps(affine: np.ndarray) -> np.ndarray:
    return _transform_of(tuple(np.asarray(affine, np.float64).ravel().tolist()))


@functools.lru_cache(64)  # called several times for each file of a case
def _transform_of(affine: tuple[float, ...]) -> np.ndarray:
    from nibabel import orientations

    own = orientations.io_orientation(np.reshape(affine, (4, 4)))
    return orientations.ornt_transform(own, orientations.axcodes2ornt(ORIENTATION))
