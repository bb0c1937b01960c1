"""The sections that compare trainings say what they lack."""

from brats_jax.reporting import comparison_sections
from brats_jax.reporting.arms import Results
from brats_jax.reporting.blocks import Words


def text(blocks) -> str:
    blocks = list(blocks)
    assert all(isinstance(block, Words) and block.missing for block in blocks)
    return " ".join(block.text for block in blocks)


def test_without_an_evaluation_each_section_says_what_it_needs():
    nothing = Results()
    assert text(comparison_sections.ssl_against_baseline(nothing, [])) == (
        "No segmentation has been evaluated."
    )
    assert text(comparison_sections.few_labels(nothing)).startswith("No curve of Dice against")
    assert text(comparison_sections.controls(nothing)).startswith("No pretext can be compared")
