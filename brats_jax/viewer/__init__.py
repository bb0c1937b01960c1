"""Looking at a segmented case: a picture of its slices, and a page to scroll through it."""

from brats_jax.viewer.case import CaseView
from brats_jax.viewer.from_model import case_view
from brats_jax.viewer.overview import write_overview
from brats_jax.viewer.page import write_page

__all__ = ["CaseView", "case_view", "write_overview", "write_page"]
