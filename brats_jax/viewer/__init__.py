"""Pictures and pages of segmented cases, and panels of slices.

`case_view` takes a prediction, `write_overview` draws a PNG, `write_page` an interactive page.
"""

from typing import TYPE_CHECKING

from brats_jax.viewer.case import CaseView, case_view

if TYPE_CHECKING:
    from brats_jax.viewer.overview import write_overview
    from brats_jax.viewer.page import write_page

__all__ = ["CaseView", "case_view", "write_overview", "write_page"]


def __getattr__(name: str) -> object:
    # Imported on first use: they bring Matplotlib with them.
    if name == "write_overview":
        from brats_jax.viewer.overview import write_overview

        return write_overview
    if name == "write_page":
        from brats_jax.viewer.page import write_page

        return write_page
    raise AttributeError(f"module 'brats_jax.viewer' has no attribute '{name}'")
