"""The model of a prediction in words."""

from brats_jax.inference.missing import MissingInputs
from brats_jax.inference.postprocess import Cleaning
from brats_jax.inference.viewer_facts import facts_of


def test_the_facts_name_the_images_that_were_used_and_what_was_missing(model):
    arguments = (model.trained, Cleaning(min_et_mm3=500), model.averaged)
    whole = facts_of(*arguments, MissingInputs())
    assert whole["images"] == "T1Gd, FLAIR, T2"
    assert whole["cleaning"] == "ET becomes NCR/NET if the case has less than 500 mm³ of it"
    assert whole["predictions averaged"] == "2"
    assert "missing" not in whole and "synthetic" not in whole
    part = facts_of(*arguments, MissingInputs(dropped=("t2",), synthetic=("flair",)))
    assert (part["images"], part["missing"], part["synthetic"]) == ("T1Gd", "T2", "FLAIR")


def test_the_facts_say_what_the_cleaning_does_and_what_was_fitted(model):
    def words(cleaning: Cleaning) -> str:
        return facts_of(model.trained, cleaning, model.averaged, MissingInputs())["cleaning"]

    assert words(Cleaning()) == "none"
    names = ("min_component_mm3", "min_et_mm3", "clear_air")
    assert words(Cleaning(5000, 500, clear_air=True, fitted=names)) == (
        "tumour in air is removed; connected parts of the tumour below 5000 mm³ are removed; "
        "ET becomes NCR/NET if the case has less than 500 mm³ of it "
        "(both sizes fitted on held-out patients)"
    )
    assert words(Cleaning(30, 0, clear_air=True, fitted=names[:1])) == (
        "tumour in air is removed; connected parts of the tumour below 30 mm³ are removed "
        "(fitted on held-out patients)"
    )
    # Said once, and not of a size of the user.
    assert words(Cleaning(30, 0, fitted=names)).count("fitted") == 1
    assert "fitted" not in words(Cleaning(30, 8, clear_air=True))
