"""One TIFF file of a slice: its image or its mask.

Mode and size are compared with what a slice has before any pixel is read, because a file of a few
bytes can declare an image of any size.
"""

import warnings
from pathlib import Path

import numpy as np

from brats_jax.errors import BratsError
from brats_jax.runtime.files import check_regular, unreadable

SIDE = 256  # pixels along both sides of every file of the set
_MODES = {"L": "uint8", "RGB": "uint8 of 3 channels", "1": "1 bit"}
_BITS_PER_SAMPLE = 258  # a tag of TIFF


def read_image(path: str) -> np.ndarray:
    """uint8[256, 256, 3]: the image of a slice.

    Raises:
      BratsError: another type or size, or a file that cannot be read.
    """
    return _read(path, "RGB")


def read_mask(path: str) -> np.ndarray:
    """bool[256, 256]: the mask of a slice, stored as 0 and 255 (or 0 and 1).

    Raises:
      BratsError: other values, another type or size, or a file that cannot be read.
    """
    mask = _read(path, "L")
    values = np.unique(mask).tolist()
    if not (set(values) <= {0, 255} or set(values) <= {0, 1}):
        shown = ", ".join(map(str, values[:6])) + (", ..." if len(values) > 6 else "")
        raise BratsError(
            f"{path} has the values {shown}, and is no mask of 0 and 255: fetch it again"
        )
    return mask > 0


def _read(path: str, mode: str) -> np.ndarray:
    from PIL import Image, TiffImagePlugin  # here, so that reading a store does not load it

    try:
        check_regular(Path(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags; the pixels decide
            with Image.open(path, formats=["TIFF"]) as image:
                frames = getattr(image, "n_frames", 1)
                # Pillow reduces 16 bits in three channels to 8 without a word.
                assert isinstance(image, TiffImagePlugin.TiffImageFile)
                bits = max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
                kind = _MODES.get(image.mode, image.mode) if bits <= 8 else f"{bits} bits"
                if (kind, image.size, frames) != (_MODES[mode], (SIDE, SIDE), 1):
                    raise _misshapen(path, kind, image.size, frames, mode)
                return np.asarray(image)
    except (BratsError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise unreadable(path, ValueError("it is no TIFF image")) from None
    except Exception as error:  # Pillow raises a dozen types
        raise unreadable(path, error) from None


def _misshapen(path: str, kind: str, size: tuple[int, int], frames: int, mode: str) -> BratsError:
    pages = f" and {frames} pages" if frames != 1 else ""
    return BratsError(
        f"{path} holds {size[1]} x {size[0]} pixels of {kind}{pages}; the files "
        f"of this set hold {SIDE} x {SIDE} of {_MODES[mode]}: fetch it again, or take the case "
        "away"
    )
