"""The head in images with a skull: where they hold signal, apart from the noise of the air."""

import numpy as np

from brats_jax.runtime import threads

_GAP = 7  # pixels: the outline is closed over gaps of up to twice this width, such as bone and ears
_MARGIN = _GAP + 1
_LEAST_SHARE = 0.1  # parts of a slice below this share of its largest part are noise


def head_mask(image: np.ndarray) -> np.ndarray:
    """bool[slices, H, W]: the head, with what it encloses; slice by slice.

    Pixels above the threshold of minimum cross-entropy of the whole volume (Li and Tam 1998), freed
    from single pixels, closed over gaps and filled; small parts beside the largest are left out.

    Args:
      image: real[slices, H, W], one modality with dark air.

    Reference: https://doi.org/10.1016/S0167-8655(98)00057-9
    """
    from scipy import ndimage  # here, because few sources need them
    from skimage.filters import threshold_li

    if image.min() == image.max():
        return np.zeros(image.shape, bool)
    bright = image > threshold_li(image)
    found = np.zeros(image.shape, bool)

    def fill(k: int) -> None:
        # The edges are continued, so that a head that touches them is not eroded there.
        part = ndimage.binary_opening(np.pad(bright[k], _MARGIN, mode="edge"), np.ones((3, 3)))
        if not part.any():
            return
        part = ndimage.binary_closing(part, iterations=_GAP)
        part = part[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        parts, _ = ndimage.label(ndimage.binary_fill_holes(part))
        area = np.bincount(parts.ravel())
        area[0] = 0
        found[k] = (area >= _LEAST_SHARE * area.max())[parts] & (parts > 0)

    threads.parallel_map(fill, range(len(image)))
    return found
