"""Looking at a segmented case: a picture of its slices, and a page to scroll through it."""

from brats_jax.viewer.case import Segmented
from brats_jax.viewer.overview import write_overview
from brats_jax.viewer.page import write_page

__all__ = ["Segmented", "write_overview", "write_page"]
