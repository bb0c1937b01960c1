"""The names of a case's files follow from the options."""

from types import SimpleNamespace

from brats_jax.inference.output_names import (
    OPTIONAL_FILES,
    PREDICTED_NAMES,
    OutputOptions,
    names_by_option,
    sidecar_path,
)


def model(**trained):
    return SimpleNamespace(trained=SimpleNamespace(**trained))


def test_a_segmentation_has_a_file_for_each_option(tmp_path):
    segments = model(segments=True)
    assert names_by_option("A", segments, OutputOptions()) == {"labels": "A_seg.nii.gz"}
    names = names_by_option("A", segments, OutputOptions(**dict.fromkeys(OPTIONAL_FILES, True)))
    assert names == {
        "labels": "A_seg.nii.gz",
        "probabilities": "A_prob_ET.nii.gz",
        "uncertainty": "A_entropy.nii.gz",
        "picture": "A_seg.png",
        "page": "A_seg.html",
    }
    assert all(PREDICTED_NAMES.fullmatch(name) for name in names.values())
    assert sidecar_path(tmp_path, "A", segments) == tmp_path / "A_seg.json"


def test_a_reconstruction_has_its_first_target(tmp_path):
    predicts = model(segments=False, targets=("flair", "t2"))
    names = names_by_option("A", predicts, OutputOptions(picture=True))
    assert names == {"labels": "A_flair_synthetic.nii.gz"}
    assert sidecar_path(tmp_path, "A", predicts) == tmp_path / "A_flair_synthetic.json"


def test_other_files_are_no_predictions():
    assert not any(map(PREDICTED_NAMES.fullmatch, ("A_t1.nii.gz", "A_seg.nii", "notes.csv")))
