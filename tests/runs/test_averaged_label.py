import pytest

from brats_jax.runs.averaged_label import SOME_FOLDS, average_flags, averaged_label


@pytest.mark.parametrize(
    ("tta", "planes", "label"),
    [
        (False, "", ""),
        (True, "", "; predictions averaged over flips"),
        (False, "axial,coronal", "; predictions averaged over planes"),
        (False, "coronal", "; in coronal slices"),
        (True, SOME_FOLDS, "; predictions averaged over flips; averaged over planes in some folds"),
        (True, "axial,coronal", "; predictions averaged over flips and planes"),
    ],
)
def test_what_was_averaged_is_named(tta, planes, label):
    assert averaged_label(tta, planes) == label
    assert averaged_label(tta, planes, ", ") == label.replace("; ", ", ")


def test_the_flags_of_an_average():
    known = ("axial", "coronal", "sagittal")
    assert average_flags(False, "", known) == "" and average_flags(True, "", known) == "--tta"
    assert average_flags(True, "axial,coronal", known) == "--tta --planes=axial,coronal"
    assert average_flags(False, "sagittal,axial,coronal", known) == "--planes=all"
