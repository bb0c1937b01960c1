"""The model of a prediction in words."""

from brats_jax.inference.facts import facts_of
from brats_jax.inference.missing import MissingInputs
from brats_jax.inference.postprocess import Cleaning


def test_the_facts_name_the_images_that_were_used_and_what_was_missing(model):
    arguments = (model.trained, Cleaning(min_et_mm3=500), model.averaged)
    whole = facts_of(*arguments, MissingInputs())
    assert whole["images"] == "T1Gd, FLAIR, T2"
    assert whole["no ET below"] == "500 mm³" and whole["predictions averaged"] == "2"
    assert "missing" not in whole and "synthetic" not in whole
    part = facts_of(*arguments, MissingInputs(dropped=("t2",), synthetic=("flair",)))
    assert (part["images"], part["missing"], part["synthetic"]) == ("T1Gd", "T2", "FLAIR")
