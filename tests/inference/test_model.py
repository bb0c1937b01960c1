"""A loaded run segments a case in any form, in the axes of its images."""

import nibabel as nib
import numpy as np
import prediction_examples as examples
import pytest

from brats_jax import inference
from brats_jax.data.scans.scan import read_scan
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.slices import predict_slices
from brats_jax.inference.inputs import find_cases
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.folder import StageFolder
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.mark.parametrize("how", ["slice", "volume"])
def test_a_case_gets_the_same_labels_from_its_files_as_from_the_store(example_runs, how, tmp_path):
    """From the store, and from the files: equal labels, voxel by voxel."""
    folder = example_runs[how]
    model = inference.load(folder / "run" / "fold_1")
    store = Store.open(folder / "store")
    restored = RestoredNetwork(
        model.trained.task, StageFolder(folder / "run" / "fold_1" / "segment"), data_mesh()
    )
    _, images = examples.run_on(model, folder / "cases", tmp_path, et_label=3)
    for name in examples.CASES:
        expected = predict_slices(restored, store, np.array(store.slices_of(name)))
        assert len(np.unique(expected)) > 2
        found = np.moveaxis(np.asarray(images[name].dataobj), 2, 0)
        np.testing.assert_array_equal(found, expected)
        # And the network sees the same bits.
        scan = read_scan(find_cases(folder / "cases" / name)[0], model.inputs)
        np.testing.assert_array_equal(
            model.normalise(scan), store.read(np.array(store.slices_of(name)))[0]
        )


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL", "PIR"])
def test_labels_lie_in_the_axes_of_the_images(example_runs, model, brats_files, codes, tmp_path):
    name = examples.CASES[0]
    volumes = brats_files.make_case(0, examples.SHAPE)
    paths = brats_files.write_nifti_case(tmp_path / "in", name, volumes, codes=codes)
    _, images = examples.run_on(model, tmp_path / "in", tmp_path / "out")
    given, labels = nib.load(paths["t1"]), images[name]
    assert labels.shape == given.shape and labels.get_data_dtype() == given.get_data_dtype()
    np.testing.assert_array_equal(labels.affine, given.affine)
    for form in ("get_sform", "get_qform"):
        (a, code), (b, expected) = (getattr(i.header, form)(coded=True) for i in (labels, given))
        assert code == expected
        if code:
            np.testing.assert_array_equal(a, b)
    case = find_cases(example_runs["volume"] / "cases" / name)[0]
    upright = model.predict(read_scan(case, model.inputs)).labels
    expected = np.where(upright == 3, 4, upright)
    np.testing.assert_array_equal(np.moveaxis(examples.lps(labels), 2, 0), expected)


def test_headers_keep_the_geometry_and_no_patient_data(model, brats_files, tmp_path):
    """qform 2, sform 1 and big-endian floats, as scanners write; a patient's name goes."""
    name = examples.CASES[0]
    volumes = brats_files.make_case(0, examples.SHAPE)
    paths = brats_files.write_nifti_case(tmp_path / "in", name, volumes, suffix=".nii")
    for modality in examples.INPUTS:
        path = paths[modality]
        old = nib.load(path)
        header = nib.Nifti1Header(endianness=">")
        header.set_data_dtype(">f4")
        image = nib.Nifti1Image(np.asarray(old.dataobj, np.float32), old.affine, header)
        image.set_qform(old.affine, 2)
        image.set_sform(old.affine, 1)
        image.header["descrip"] = b"JOHN DOE"
        image.to_filename(path)
    _, images = examples.run_on(model, tmp_path / "in", tmp_path / "out")
    header = images[name].header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (2, 1)
    assert images[name].get_data_dtype() == np.float32
    assert set(np.unique(images[name].dataobj)) <= {0, 1, 2, 4}
    descrip = header["descrip"].item().decode()
    assert descrip.startswith("RESEARCH USE ONLY") and "JOHN" not in descrip
    assert model.trained.hash[:12] in descrip


def test_a_model_refuses_what_it_was_not_loaded_for(example_runs):
    run = example_runs["volume"] / "run"
    with pytest.raises(BratsError, match="loaded with task='segment': give load"):
        inference.load(run / "fold_0").reconstruct({})


def test_a_model_shows_its_name_task_inputs_planes_and_networks(example_runs, plane_runs):
    run = example_runs["volume"] / "run"
    assert repr(inference.load(run)) == (
        "<Model run: segment from t1gd, flair, t2; axial slices; 2 networks>"
    )
    assert repr(inference.load(run / "fold_0", task="reconstruct")) == (
        "<Model run: reconstruct flair from t1, t1gd; axial slices; 1 network>"
    )
    several = inference.load(f"{plane_runs['axial']},{plane_runs['coronal']}")
    assert repr(several).startswith("<Model axial, coronal: segment from ")
    assert repr(several).endswith("; axial and coronal slices; 2 networks>")
