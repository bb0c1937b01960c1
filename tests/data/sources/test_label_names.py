"""The meaning of labels by their names."""

import pytest

from brats_jax.data.modalities import CLASSES
from brats_jax.data.sources.label_names import named_labels
from brats_jax.errors import BratsError

RECIPE = {"background": [0], "whole tumor": [1, 2, 3], "tumor core": [2, 3]}


def classes(**names):
    """{value: class} of names, in which _ stands for a space."""
    named = {name.replace("_", " "): value for name, value in names.items()}
    return {value: CLASSES[k] for value, (k, _) in meaning(named).scheme.tissues.items()}


def meaning(names):
    return named_labels({n: v if isinstance(v, list) else [v] for n, v in names.items()}, "x.json")


def test_single_names_tell_the_class():
    msd = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
    assert meaning(msd).scheme.name == "msd"
    assert meaning(msd | {"edema": 2, "non-enhancing tumor": 1}).scheme.name == "brats2023"
    later = {"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}
    assert meaning(later).scheme.name == "brats2024"
    assert classes(Necrosis=1, NET=2, Oedema=7, enhancing_tumor=9) == {
        1: "NCR/NET", 2: "NCR/NET", 7: "ED", 9: "ET"
    }  # fmt: skip


@pytest.mark.parametrize("et", [{"enhancing tumor": [3]}, {"ET": 3}])
def test_regions_tell_the_class_by_the_regions_that_hold_a_value(et):
    assert meaning(RECIPE | et).scheme.name == "msd"
    own = {"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}
    assert meaning(own).scheme.name == "brats2021"
    assert classes(TC=[1, 3], ET=[3], edema=2) == {1: "NCR/NET", 2: "ED", 3: "ET"}


def test_the_whole_tumour_alone_is_no_class():
    for names in ({"whole tumour": 1}, {"background": 0, "WT": [1, 2, 5]}):
        assert meaning(names).kind == "whole_tumour"
    assert meaning(RECIPE | {"ET": 3}).kind == "classes"


def test_voxels_that_nobody_has_labelled_have_a_value():
    found = meaning(RECIPE | {"ET": 3, "ignore": 4})
    assert found.ignored == 4 and not found.scheme.fits([4])
    assert meaning(RECIPE | {"ET": 3}).ignored is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"background": 0, "lesion": 1}, r"'lesion' \(1\) is no name of a class"),
        (RECIPE, r"label 2 .* may be several classes"),
        ({"WT": [1, 2], "ET": [2]}, r"label 1 \('WT'\) may be several"),
        ({"whole tumor": 1, "tumor core": 2, "ET": 3}, "label 1 .* may be several"),
        ({"tumor core": 1, "edema": 2}, "label 1 .* may be several"),
        ({"edema": 1, "ET": 1}, "label 1 .* may be several"),
        (RECIPE | {"ET": 3, "edema": 2}, "label 2 is both"),
        ({"background": 1, "ET": 2}, "the background is 0 and nothing else"),
        ({"edema": 0, "ET": 2}, "the background is 0 and nothing else"),
        ({"edema": 999}, "labels are 1 to 255"),
        ({"background": 0}, "names no label but the background"),
        ({"ET": 3, "ignore": [4, 5]}, "it is one value"),
    ],
)
def test_names_that_do_not_decide_are_refused_with_a_remedy(names, message):
    with pytest.raises(BratsError, match=message) as caught:
        meaning(names)
    assert str(caught.value).startswith("x.json")
