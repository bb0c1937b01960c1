"""Pictures and pages of segmented cases, and panels of slices.

`case_view` takes a prediction, `write_overview` draws a PNG, `write_page` an interactive page.
"""

from brats_jax.viewer.case import CaseView, case_view
from brats_jax.viewer.overview import write_overview
from brats_jax.viewer.page import write_page

__all__ = ["CaseView", "case_view", "write_overview", "write_page"]
