"""The heat map of missing modalities."""

from subset_examples import write_study

from brats_jax.reporting import subsets
from brats_jax.reporting.arms import collect
from brats_jax.reporting.figures.subset_maps import subset_map
from brats_jax.reporting.read_runs import discover


def test_a_map_is_drawn_for_the_arms_that_have_subsets(tmp_path):
    arms = subsets.arms_of(collect(discover(write_study(tmp_path))))
    figure = subset_map(arms)
    assert figure.file_name == "subsets.svg" and figure.data.startswith(b"<?xml")
    assert "filled with zeros" in figure.caption and "4 patients" in figure.caption
    assert subset_map(arms) == figure  # the same file every time
    assert subset_map([]) is None
