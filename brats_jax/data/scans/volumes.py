"""One NIfTI file: its voxels, where they lie, and the axes they are brought to (LPS)."""

import dataclasses
import functools
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.errors import BratsError

# The axes of every array: x runs to the patient's Left, y to Posterior, z to Superior.
ORIENTATION = "LPS"


@dataclasses.dataclass(frozen=True)
class Volume:
    """One file as read.

    Attributes:
      path: where from; a name for messages, where it is not from a file.
      voxels: real[x, y, z] in the file's own axes, scaled as its header says.
      affine: float64[4, 4], voxel to scanner mm.
      header: nibabel's, of NIfTI-1 or NIfTI-2.
    """

    path: str
    voxels: np.ndarray
    affine: np.ndarray
    header: Any

    @property
    def codes(self) -> str:
        """Where the axes run, e.g. 'LPS'."""
        import nibabel

        return "".join(code or "?" for code in nibabel.aff2axcodes(self.affine))

    @property
    def size_text(self) -> str:
        """'240 x 240 x 155'."""
        return " x ".join(str(size) for size in self.voxels.shape)


def read_volume(path: str) -> Volume:
    """Reads one file, compressed or not whatever its name says, scaled as its header says."""
    import nibabel  # here, so that reading a store does not load it

    try:
        raw = Path(path).read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = _decompress(raw)
        two = raw[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")  # header of 540 bytes
        image = (nibabel.Nifti2Image if two else nibabel.Nifti1Image).from_bytes(raw)
        voxels, affine = _voxels(image.dataobj, raw), np.asarray(image.affine)
        header = image.header
    except MemoryError:
        raise
    except Exception as error:  # gzip, zlib and nibabel have a dozen kinds for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BratsError(f"{path} cannot be read ({reason}): fetch it again") from None
    return check_volume(path, voxels, affine, header)


def _decompress(raw: bytes) -> bytes:
    """The contents of a gzip file, its length and checksum compared.

    nibabel's own reading stops short of both. Nearly every file is one member with at most a name
    in its header, and its last bytes tell how much room the contents need; gzip.decompress, which
    does not look there, copies them once more.
    """
    start = {0: 10, 8: raw.find(b"\0", 10) + 1}.get(raw[3], 0)
    size, sum_ = int.from_bytes(raw[-4:], "little"), int.from_bytes(raw[-8:-4], "little")
    # Deflate shrinks 1032 times at most: a larger size is no size.
    if start and 0 < size <= 1032 * len(raw):
        try:
            contents = zlib.decompress(memoryview(raw)[start:-8], -zlib.MAX_WBITS, size)
        except zlib.error:  # or another form of gzip
            return gzip.decompress(raw)
        if len(contents) == size and zlib.crc32(contents) == sum_:
            return contents
    return gzip.decompress(raw)


def _voxels(data: Any, raw: bytes) -> np.ndarray:
    """The voxels of nibabel's array proxy; where nothing scales them they stay where they are."""
    if (data.slope, data.inter) != (1.0, 0.0):
        return np.asanyarray(data)
    return np.ndarray(data.shape, data.dtype, raw, data.offset, order="F")


def check_volume(path: str, voxels: np.ndarray, affine: np.ndarray, header: Any) -> Volume:
    """Refuses what is not one volume that float32 holds, or has no place in space (BratsError)."""
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
    """Flips and permutes axes so that they run Left, Posterior, Superior; resamples nothing."""
    from nibabel import orientations

    return orientations.apply_orientation(voxels, _transform_to_lps(affine))


def from_lps(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Undoes `to_lps`: back into the axes of a file with this affine."""
    from nibabel import orientations

    back = orientations.ornt_transform(
        orientations.axcodes2ornt(ORIENTATION), orientations.io_orientation(affine)
    )
    return orientations.apply_orientation(voxels, back)


def affine_to_lps(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Affine of the grid that `to_lps` makes: the same voxel keeps the same place in mm."""
    from nibabel import orientations

    return affine @ orientations.inv_ornt_aff(_transform_to_lps(affine), shape)


def align(
    volume: Volume, reference: Volume, brain_of: Callable[[], np.ndarray], notes: list[str]
) -> np.ndarray:
    """Brings a volume onto the LPS grid of the case's first modality.

    Volumes of one case share a voxel grid, whatever their headers say of its place. Where the
    headers do not even agree on the directions of the axes, either may be the wrong one: the
    reading is kept that puts more of the volume's non-zero voxels into the brain, bool[x, y, z].
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
    # On a tie (no labels at all) the file's own header has the word.
    how = max(inside, key=lambda key: (inside[key], key == "own"))
    kept = "its own axes" if how == "own" else f"the axes of {Path(reference.path).name}"
    notes.append(
        f"{name} is {volume.codes}, {Path(reference.path).name} is {reference.codes}; read with "
        f"{kept} ({inside[how]} voxels in the brain)"
    )
    return own if how == "own" else as_reference


def voxel_sizes_mm(affine: np.ndarray) -> tuple[float, float, float]:
    """Edges of a voxel along its axes."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return x, y, z


def _transform_to_lps(affine: np.ndarray) -> np.ndarray:
    return _transform_of(tuple(np.asarray(affine, np.float64).ravel().tolist()))


@functools.lru_cache(64)  # the files of a case ask again and again
def _transform_of(affine: tuple[float, ...]) -> np.ndarray:
    from nibabel import orientations

    own = orientations.io_orientation(np.reshape(affine, (4, 4)))
    return orientations.ornt_transform(own, orientations.axcodes2ornt(ORIENTATION))
