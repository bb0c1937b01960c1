"""The sections that compare trainings say what they lack."""

from report_examples import write_run

from brats_jax.reporting import comparison_sections, comparisons
from brats_jax.reporting.arms import Results, collect
from brats_jax.reporting.blocks import Words
from brats_jax.reporting.read_runs import discover


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


def method(results: Results) -> str:
    primary = comparisons.primary(results)
    first = next(iter(comparison_sections.ssl_against_baseline(results, primary)))
    assert isinstance(first, Words)
    return first.text


def test_the_method_that_was_used_is_described_and_no_other(results, tmp_path):
    few = method(results)
    assert "fewer than 5 folds" in few and "Satterthwaite" not in few
    assert "no interval is given" in few and "bootstrap" not in few  # of four patients
    for ssl in (True, False):
        write_run(tmp_path / "one" / str(ssl), ssl=ssl, patients=8, stages=("segment",))
    one = method(collect(discover(tmp_path / "one")))
    assert "interval (bootstrap)" in one and "no interval" not in one
    for ssl in (True, False):
        write_run(
            tmp_path / "five" / str(ssl), ssl=ssl, folds=range(5), patients=8, stages=("segment",)
        )
    many = method(collect(discover(tmp_path / "five")))
    assert "Satterthwaite" in many and "bootstrap" not in many
