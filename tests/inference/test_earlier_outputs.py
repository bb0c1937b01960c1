"""Earlier predictions in the output folder are kept, completed or replaced, as the options say."""

import nibabel as nib
import numpy as np
import prediction_examples as examples
import pytest

from brats_jax import inference
from brats_jax.data.scans.truth import read_truth

pytestmark = pytest.mark.usefixtures("shallow")


def test_a_complete_prediction_is_kept_unless_overwritten(example_runs, model, tmp_path):
    cases, name = example_runs["volume"] / "cases", examples.CASES[0]
    first, _ = examples.run_on(model, cases, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in first.written.values()}
    again, _ = examples.run_on(model, cases, tmp_path)
    assert set(again.kept.values()) == {"kept"} and not again.written
    assert {path: path.stat().st_mtime_ns for path in times} == times
    fold = inference.load(example_runs["volume"] / "run" / "fold_0")
    other, _ = examples.run_on(fold, cases, tmp_path, probabilities=True)
    assert "made by another model" in other.kept[name]
    assert "without probabilities" in other.kept[name]
    # A file cut short is not whole, and made again.
    path = first.written[name]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    mended, _ = examples.run_on(model, cases, tmp_path)
    assert set(mended.written) == {name} and path.read_bytes() == whole
    over, _ = examples.run_on(model, cases, tmp_path, overwrite=True, et_label=3)
    assert set(over.written) == set(examples.CASES)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_labels_of_a_reader_are_never_replaced(model, brats_files, tmp_path):
    name = examples.CASES[0]
    volumes = brats_files.make_case(0, examples.SHAPE)
    truth = brats_files.write_nifti_case(tmp_path, name, volumes)["seg"]
    before = truth.read_bytes()
    outcome, _ = examples.run_on(model, tmp_path / name, tmp_path / name, overwrite=True)
    assert "no prediction of this program" in outcome.failed[name]
    assert truth.read_bytes() == before


def test_the_labels_of_a_phantom_are_truth_not_prediction(model, brats_files, tmp_path):
    """Its file is of this program, and no prediction: shown, and never replaced."""
    name = examples.CASES[0]
    volumes = brats_files.make_case(0, examples.SHAPE)
    truth = brats_files.write_nifti_case(tmp_path, name, volumes)["seg"]
    image = nib.load(truth)
    image.header["descrip"] = b"brats_jax phantom, no patient"  # as of phantom_files
    nib.save(image, truth)
    before, folder = truth.read_bytes(), tmp_path / name
    np.testing.assert_array_equal(read_truth(model.scan(folder)), np.moveaxis(volumes["seg"], 2, 0))
    for overwrite in (False, True):
        refused, _ = examples.run_on(model, folder, folder, overwrite=overwrite)
        assert f"{truth} is there and no prediction" in refused.failed[name]
    assert truth.read_bytes() == before and len(list(folder.iterdir())) == 5
