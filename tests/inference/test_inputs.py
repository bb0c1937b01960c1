"""Images in any form that a caller has, and the labels in the same form."""

import json

import nibabel as nib
import numpy as np
import prediction_examples as examples
import pytest

import brats_jax
from brats_jax.errors import BratsError
from brats_jax.inference.inputs import find_cases, named_files

pytestmark = pytest.mark.usefixtures("shallow")

NAME = examples.CASES[0]


@pytest.fixture(scope="module")
def volumes(brats_files):
    """By modality, int16[x, y, z] of the first case in LPS axes."""
    made = brats_files.make_case(0, examples.SHAPE)
    return {modality: made[modality] for modality in examples.INPUTS}


@pytest.fixture(scope="module")
def labels(model, volumes):
    """The labels of the first case, given as arrays."""
    return model.segment(volumes)


@pytest.fixture(scope="module")
def files(example_runs):
    """By modality, the files of the first case."""
    folder = example_runs["volume"] / "cases" / NAME
    names = zip(examples.INPUTS, ("t1", "t1ce", "t2", "flair"), strict=True)
    return {modality: folder / f"{NAME}_{name}.nii.gz" for modality, name in names}


def test_arrays_give_an_array(labels):
    assert labels.dtype == np.int16 and labels.shape == examples.SHAPE
    assert set(np.unique(labels)) <= {0, 1, 2, 4} and len(np.unique(labels)) > 2


def test_arrays_of_floats_with_other_names_and_axes_give_the_same_labels(
    model, volumes, labels, brats_files
):
    moved = {k: brats_files.in_axes(v, "RAS") for k, v in volumes.items()}
    names = ("T1n", "t1c", "t2w", "t2f")
    images = {n: v.astype(np.float64) for n, (v, _) in zip(names, moved.values(), strict=True)}
    turned = model.segment(images, affine=moved["t1"][1], et_label=3)
    assert turned.dtype == np.uint8
    np.testing.assert_array_equal(turned[::-1, ::-1], np.where(labels == 4, 3, labels))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float64])
def test_images_give_an_image_of_their_type(model, volumes, labels, brats_files, dtype):
    moved = {k: brats_files.in_axes(v, "RAS") for k, v in volumes.items()}
    image = model.segment(
        {k: nib.Nifti1Image(np.abs(v).astype(dtype), a) for k, (v, a) in moved.items()}
    )
    assert isinstance(image, nib.Nifti1Image) and image.get_data_dtype() == dtype
    np.testing.assert_array_equal(examples.lps(image), labels)


@pytest.mark.parametrize("form", ["folder", "files"])
def test_paths_give_a_file_and_its_sidecar(model, files, labels, tmp_path, form):
    images = files["t1"].parent if form == "folder" else files
    path = model.segment(images, output=tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels)
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["use"] == brats_jax.RESEARCH_USE_ONLY and document["version"]
    assert document["model"]["hash"] == model.trained.hash
    assert document["model"]["config"]["loss"] == "dice_ce"
    assert document["inputs"] == {k: v.name for k, v in files.items()}
    assert document["labels"]["4"] == "ET" and list(document["files"]) == ["a.nii.gz"]


@pytest.mark.parametrize("form", ["files", "images"])
def test_a_name_that_contradicts_its_modality_is_warned_of(model, files, tmp_path, form):
    mixed = {**files, "t2": files["t1"], "t1": files["t2"]}
    output = tmp_path / "a.nii.gz" if form == "files" else None
    images = {k: nib.load(v) for k, v in mixed.items()} if form == "images" else mixed
    with pytest.warns(UserWarning, match="_t2.nii.gz was given as T1 and is T2 by its name"):
        model.segment(images, output=output)
    if output:
        (note,) = (
            n for n in json.loads((tmp_path / "a.json").read_text())["notes"] if "given" in n
        )
        assert note.startswith("WARNING: ") and str(files["t1"].parent) not in note


def test_a_sidecar_of_this_program_is_replaced_and_another_file_is_not(model, files, tmp_path):
    model.segment(files, output=tmp_path / "b.nii")
    model.segment(files, output=tmp_path / "b.nii.gz", et_label=3)
    document = json.loads((tmp_path / "b.json").read_text())
    assert list(document["files"]) == ["b.nii.gz"] and document["labels"]["3"] == "ET"
    (tmp_path / "c.json").write_text('{"EchoTime": 0.1}')
    with pytest.raises(BratsError, match=r"c\.json is there and was not written by this program"):
        model.segment(files, output=tmp_path / "c.nii.gz")
    assert not (tmp_path / "c.nii.gz").exists()


def test_a_case_above_the_limit_is_refused_in_every_form(example_runs, files):
    """40 x 32 x 6 voxels of three modalities in float32 take 0.09 MB."""
    run = example_runs["volume"] / "run" / "fold_0"
    small = brats_jax.load(run, max_case_gb=5e-5)
    for images in (files, files["t1"].parent, {k: nib.load(path) for k, path in files.items()}):
        with pytest.raises(BratsError, match=r"its case takes .* more than 5e-05 GB"):
            small.scan(images)
    for limit in (0, -1, float("nan"), float("inf")):
        with pytest.raises(BratsError, match=r"max_case_gb=.*: give a size in GB above 0"):
            brats_jax.load(run, max_case_gb=limit)


def test_images_that_do_not_fit_are_refused_in_one_line(model, volumes, files):
    folder, image = files["t1"].parent, nib.Nifti1Image(volumes["t1"], np.eye(4))
    for arguments, message in (
        (dict(images=folder), "output="),
        (dict(images=volumes, output="x.nii"), "for paths"),
        (dict(images={**volumes, "t1": image}), "all of one kind"),
        (dict(images={**volumes, "t2": None}), "^'t2' is None: leave out what the case lacks$"),
        (dict(images={k: v for k, v in volumes.items() if k != "t2"}), "^'t2' is missing: the"),
        (
            dict(images={k: files[k] for k in ("t1", "t2")}, output="x.nii"),
            "'t1gd' and 'flair' are missing: the model needs t1gd, flair, t2",
        ),
        (dict(images=list(volumes.values())), "images of type list: give a dictionary of mod"),
        (dict(images=volumes, et_label=5), "et_label=5"),
        (dict(images=folder.parent, output="x.nii"), "holds 3 cases"),
    ):
        with pytest.raises(BratsError, match=message):
            model.segment(**arguments)


def test_the_line_on_unknown_names_quotes_one_of_them(tmp_path):
    with pytest.raises(BratsError, match="no BraTS images, nor any other file: such images are"):
        find_cases(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BratsError, match=r"its 1 file, such as 'notes.txt' \(it is no \.nii"):
        find_cases(tmp_path)
    (tmp_path / "p7").mkdir()
    (tmp_path / "p7" / "p7_seg.nii.gz").touch()
    (tmp_path / "p7" / "p7_T1_mprage.nii.gz").touch()
    with pytest.raises(BratsError) as error:
        find_cases(tmp_path)
    line = (
        "such as 'p7/p7_T1_mprage.nii.gz' ('mprage' at its end names no modality): such images are"
    )
    assert f"among its 3 files, {line}" in str(error.value)


def test_one_file_for_two_modalities_is_refused_however_its_path_is_spelt(tmp_path):
    file, link = tmp_path / "A_t1.nii.gz", tmp_path / "A_flair.nii.gz"
    file.write_bytes(b"")
    link.symlink_to(file)
    for other in (file, tmp_path / "." / ".." / tmp_path.name / file.name, link):
        with pytest.raises(BratsError, match="one file is named for two modalities"):
            named_files({"t1": file, "flair": other})
