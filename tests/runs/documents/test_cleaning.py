"""cleaning.json belongs to the networks that it was fitted to, and is sealed."""

import dataclasses
import json

import pytest
from document_examples import cleaning_of, sizes_of

from brats_jax.errors import BratsError
from brats_jax.runs.documents.cleaning import CleanedScores, FittedCleaning
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document

SIZES = sizes_of(500.0, 200.0)


def test_sizes_read_back_and_belong_to_all_or_some_of_their_folds(tmp_path):
    path = RunFolder(tmp_path).cleaning_json
    made = cleaning_of(SIZES, "a", "b")
    made.write(path)
    assert path.name == "cleaning.json" and read_document(path, FittedCleaning) == made
    assert "tta" not in json.loads(path.read_text())["fitted"]
    assert made.belongs_to(["a", "b"]) and made.belongs_to(["b"])
    assert not made.belongs_to(["a", "c"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_et_mm3": -1.0}, "'min_et_mm3' is -1.0, not a size"),
        ({"min_component_mm3": "5"}, "'min_component_mm3' is '5', not a number"),
        ({"after": CleanedScores({"WT": 1.0}, {"WT": 1.0}, 0)}, "have other regions"),
    ],
)
def test_sizes_that_are_none_are_refused(tmp_path, changes, message):
    path = RunFolder(tmp_path).cleaning_json
    cleaning_of(dataclasses.replace(SIZES, **changes), "a").write(path)
    with pytest.raises(BratsError, match=message):
        read_document(path, FittedCleaning)


def test_an_edited_size_is_refused(tmp_path):
    path = RunFolder(tmp_path).cleaning_json
    cleaning_of(SIZES, "a").write(path)
    path.write_text(path.read_text().replace("500.0", "50.0"))
    with pytest.raises(BratsError, match=r"has changed since it was written .*; move it away, and"):
        read_document(path, FittedCleaning)


def test_a_fit_that_lowers_the_mean_dice_of_the_scored_patients_is_known():
    better, worse = SIZES.after, SIZES.before
    assert not SIZES.lowers_dice
    swapped = dataclasses.replace(SIZES, before=better, after=worse)
    assert swapped.lowers_dice
    # Without sizes there is nothing to switch off.
    assert not dataclasses.replace(swapped, min_component_mm3=0.0, min_et_mm3=0.0).lowers_dice
