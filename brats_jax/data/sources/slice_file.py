"""One file of the Kaggle slice data set: an HDF5 file with the image and the mask of a slice.

Types, shapes and sizes are compared with what a slice can have before anything is read, because
HDF5 can declare arrays of any size in a file of a few bytes.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.options import MAX_CASE_GB, check_case_bytes
from brats_jax.errors import BratsError
from brats_jax.runtime.files import check_regular, unreadable

SLICE_FILE = re.compile(r"volume_(-?[0-9]+)_slice_(-?[0-9]+)\.h5", re.IGNORECASE)
MASKS = 3  # NCR/NET, ED and ET
_LARGEST_SIDE = 4096
# No filter makes a slice larger by more than this; deflate makes one smaller by 1032 at most.
_MOST_OVERHEAD, _MOST_COMPRESSION = 2**16, 1100
_UNCHECKED_BYTES = 2**24


def read_slice(
    path: str, slices: int = 1, max_case_gb: float = MAX_CASE_GB
) -> tuple[np.ndarray, np.ndarray, str]:
    """Reads and checks one file.

    Args:
      path: the file.
      slices: of its volume.
      max_case_gb: the largest volume in memory, in float64.

    Returns:
      image float[H, W, 4], mask uint8[H, W, 3], and the name of the HDF5 filter.

    Raises:
      BratsError: it is no file of a slice, or one of a volume that is too large.
    """
    import h5py  # imported here, so that reading a store does not load it

    try:
        check_regular(Path(path))
        with h5py.File(path, "r") as file:
            images = _data_set(path, file, "image", len(MODALITIES), "fiu")
            masks = _data_set(path, file, "mask", MASKS, "fiub")
            if images.shape[:2] != masks.shape[:2]:
                raise _misshapen(path, f"image {list(images.shape)} and mask {list(masks.shape)}")
            check_case_bytes(path, slices * 8 * images.size, max_case_gb)
            compression = images.compression or "none"
            image, mask = np.asarray(images), np.asarray(masks)
    except MemoryError:
        raise
    except BratsError:
        raise
    except Exception as error:  # h5py raises a dozen types
        raise unreadable(path, error) from None
    if not np.isfinite(image).all():
        raise BratsError(f"{path} holds intensities that are not finite: fetch it again")
    if not ((mask == 0) | (mask == 1)).all():
        values = np.unique(mask).tolist()[:8]
        raise BratsError(f"{path} has mask values {values}, not 0 and 1: fetch it again")
    mask = mask.astype(np.uint8)
    overlap = int((mask[..., 0] + mask[..., 1] + mask[..., 2] > 1).sum())
    if overlap:
        raise BratsError(
            f"{path} has {overlap} pixels in more than one mask channel, where NCR/NET, ED and ET "
            "exclude each other: fetch it again"
        )
    return image, mask, compression


def _data_set(path: str, file: Any, name: str, channels: int, kinds: str) -> Any:
    """The data set `name` [H, W, channels] of an open file, not yet read."""
    import h5py

    link = file.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise BratsError(f"{path}: '{name}' is a link to another file: fetch it again")
    found = None if link is None else file.get(name)
    if found is None:
        raise BratsError(
            f"{path} has no data set '{name}': it is not a slice of the Kaggle data, fetch it "
            "again or take it out of the folder"
        )
    if not isinstance(found, h5py.Dataset):
        kind = "group" if isinstance(found, h5py.Group) else "type"
        raise BratsError(f"{path}: '{name}' is a {kind}, not a data set: fetch it again")
    shape = found.shape
    if (
        shape is None
        or len(shape) != 3
        or shape[2] != channels
        or not min(shape[:2]) > 0
        or max(shape[:2]) > _LARGEST_SIDE
        or found.dtype.kind not in kinds
    ):
        size = "nothing" if shape is None else list(shape)
        raise _misshapen(path, f"{name} {_short(found.dtype)} {size}")
    _check_stored(path, name, found)
    return found


def _short(dtype: np.dtype) -> str:
    return str(dtype)[:40]


def _misshapen(path: str, what: str) -> BratsError:
    return BratsError(
        f"{path} holds {what}, not [H, W, {len(MODALITIES)}] and [H, W, {MASKS}] of numbers, at "
        f"most {_LARGEST_SIDE} x {_LARGEST_SIDE} pixels: fetch it again"
    )


def _check_stored(path: str, name: str, found: Any) -> None:
    """Refuses a data set whose stored bytes cannot be those of its shape."""
    problem = ""
    stored, declared = found.id.get_storage_size(), found.size * found.dtype.itemsize
    plan = found.id.get_create_plist()
    filters = [plan.get_filter(k)[0] for k in range(plan.get_nfilters())]
    if found.is_virtual or found.external:
        problem = "lies in other files"
    elif len(set(filters)) < len(filters):
        problem = "is compressed more than once"
    elif stored > declared + declared // 8 + _MOST_OVERHEAD:
        problem = f"has {stored:,} bytes, more than its shape"
    elif found.chunks is not None:
        chunk = math.prod(found.chunks) * found.dtype.itemsize
        pairs = zip(found.shape, found.chunks, strict=True)
        expected = math.prod(-(-length // size) for length, size in pairs)
        if chunk > 8 * declared + _MOST_OVERHEAD:
            problem = f"is stored in pieces of {chunk:,} bytes, more than its shape"
        elif found.id.get_num_chunks() < expected:
            problem = "was not written completely"
        elif declared > max(_UNCHECKED_BYTES, _MOST_COMPRESSION * stored):
            problem = f"has {stored:,} bytes, too few for its shape"
    elif stored < declared:
        problem = "was not written completely"
    if problem:
        raise BratsError(f"{path}: '{name}' {list(found.shape)} {problem}: fetch it again")
