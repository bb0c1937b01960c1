"""Examples for the tests of the viewer: a case with every layer, and a slice."""

import numpy as np

from brats_jax.viewer import CaseView

RNG = np.random.default_rng(0)
SHAPE = (14, 40, 32)
HASH = "0123456789abcdef" * 4
RECORD = {"model": {"hash": HASH, "config": {"loss": "dice_ce"}}, "notes": ["<b>resampled</b>"]}


def make_case() -> CaseView:
    """A head with a tumour of 250, 1000 and 250 voxels (NCR/NET, ED, ET) of 2 mm3."""
    rng = np.random.default_rng(0)
    images = np.zeros((*SHAPE, 4), np.float32)
    images[2:12, 6:34, 5:28] = rng.gamma(9.0, 40.0, (10, 28, 23, 4))
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:8, 10:30, 8:23] = 2
    labels[3:8, 10:20, 8:18] = 1
    labels[3:8, 10:20, 8:13] = 3
    truth = np.roll(labels, 2, 1)
    uncertainty = np.where(labels != truth, 0.75, 0.0)
    uncertainty[0, 0] = 0.1  # in air: left out
    spacing_mm = (1.0, 0.5, 4.0)
    facts = {"model": HASH, "config": "<ssl> & co"}
    return CaseView("Case_1", images, labels, truth, uncertainty, spacing_mm, facts, RECORD)


def has_colour(picture: np.ndarray, code: str, opacity: float) -> np.ndarray:
    """bool[H, W]: where a colour lies over some grey of float[H, W, 3]."""
    colour = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    if opacity == 1:
        return (np.abs(picture - colour) < 0.01).all(-1)
    grey = (picture - opacity * colour) / (1 - opacity)
    return (np.ptp(grey, -1) < 0.03) & (grey.min(-1) > -0.02) & (grey.max(-1) < 1.02)


def head_slice(
    value: float = 1.0, background: float = -0.5, shape: tuple[int, int] = (24, 30)
) -> np.ndarray:
    """A slice with a head at rows 5 to 18 and columns 4 to 25."""
    image = np.full(shape, background, np.float32)
    image[5:19, 4:26] = value + 0.1 * RNG.standard_normal((14, 22))
    return image
