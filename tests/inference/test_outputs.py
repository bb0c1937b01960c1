"""The files of a predicted case: volumes, maps, pictures, pages and sidecars."""

import base64
import csv
import gzip
import html
import json
import re

import nibabel as nib
import numpy as np
import prediction_examples as examples
import pytest

import brats_jax
from brats_jax import about, inference
from brats_jax.data.scans.truth import read_truth
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.slices import predict_slices
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.folder import PredictionFolder, StageFolder
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


def test_maps_sidecar_and_table_agree_with_the_model(example_runs, model, tmp_path):
    _, images = examples.run_on(
        model, example_runs["volume"] / "cases", tmp_path, probabilities=True, uncertainty=True
    )
    name = examples.CASES[0]
    found = model.predict(model.scan(example_runs["volume"] / "cases" / name), details=True)
    for region, labels in {"WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}.items():
        map_ = nib.load(tmp_path / f"{name}_prob_{region}.nii.gz")
        expected = np.moveaxis(found.probabilities[..., labels].sum(-1), 0, 2)
        np.testing.assert_allclose(map_.get_fdata(), expected, atol=1e-5)
        np.testing.assert_array_equal(map_.affine, images[name].affine)
    entropy = nib.load(tmp_path / f"{name}_entropy.nii.gz").get_fdata()
    np.testing.assert_allclose(entropy, np.moveaxis(found.entropy, 0, 2), atol=3e-5)
    sidecar = json.loads((tmp_path / f"{name}_seg.json").read_text())
    assert sidecar["use"] == brats_jax.RESEARCH_USE_ONLY
    assert sidecar["model"]["hash"] == model.trained.hash
    assert sidecar["model"]["config"]["loss"] == "dice_ce"
    assert sidecar["version"] == about.__version__
    assert sidecar["labels"] == {"0": "background", "1": "NCR/NET", "2": "ED", "4": "ET"}
    assert len(sidecar["files"]) == 5
    splits = json.loads((example_runs["volume"] / "run" / "splits.json").read_text())
    assert ("training or validation" in str(sidecar["notes"])) == (name not in splits["test"])
    with PredictionFolder(tmp_path).volumes_csv.open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(examples.CASES) and rows[name]["predictions"] == "2"
    counted = (np.asarray(images[name].dataobj) == 4).sum() / 1000
    assert float(rows[name]["ET ml"]) == pytest.approx(counted, abs=1e-3)
    assert float(rows[name]["ET low ml"]) <= float(rows[name]["ET high ml"])
    assert rows[name]["use"] == "research only"


def embedded(path, what):
    """uint8[slices, H, W] of a page, and where in the scan it begins."""
    text = path.read_text()
    (packed,) = re.findall(f'id="volume-{what}">(.*?)<', text)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(packed)))
    start = np.abs(image.affine[:3, 3]).round().astype(int)[[2, 0, 1]]
    return np.moveaxis(np.asarray(image.dataobj), 2, 0), start


def test_missing_pictures_and_pages_are_added_to_a_prediction(
    example_runs, model, brats_files, tmp_path
):
    name = examples.CASES[0]
    volumes = brats_files.make_case(0, examples.SHAPE)
    brats_files.write_nifti_case(tmp_path / "in", name, volumes, codes="RAS")
    out, page = tmp_path / "out", tmp_path / "out" / f"{name}_seg.html"
    examples.run_on(model, tmp_path / "in", out, uncertainty=True)
    outcome, _ = examples.run_on(model, tmp_path / "in", out, page=True)
    assert set(outcome.written) == {name}  # what lacked is made, and the rest is still known
    sidecar = out / f"{name}_seg.json"
    listed = set(json.loads(sidecar.read_text())["files"])
    assert listed == {f"{name}_{e}" for e in ("seg.nii.gz", "entropy.nii.gz", "seg.html")}
    found = model.predict(model.scan(tmp_path / "in" / name), details=True)
    expected = {
        "prediction": found.labels,
        "truth": np.moveaxis(volumes["seg"], 2, 0),  # ET is 4 in the file
        "uncertainty": np.rint(found.entropy / np.log(4) * 255),
    }
    for what, whole in expected.items():
        part, start = embedded(page, what)
        ends = start + part.shape
        cut = tuple(slice(a, b) for a, b in zip(start, ends, strict=True))
        np.testing.assert_allclose(part, whole[cut], atol=1 if what == "uncertainty" else 0)
        assert whole[cut].any() and (what == "uncertainty" or whole[cut].sum() == whole.sum())
    text = page.read_text()
    assert model.trained.hash in text and brats_jax.RESEARCH_USE_ONLY in text
    # All that the sidecar says, but for the files that were not all there yet.
    (told,) = re.findall(r"<pre[^>]*>(.*?)</pre>", text, re.DOTALL)
    document = json.loads(sidecar.read_text())
    del document["files"], document["sha256"], document["document_sha256"]
    assert json.loads(html.unescape(told)) == document
    assert document["model"]["config"]["model"]["width"] == 4 and document["version"]
    # Together; then there is nothing left to do, until a file is lost.
    examples.run_on(model, tmp_path / "in", out, picture=True, page=True)
    picture = out / f"{name}_seg.png"
    assert brats_jax.RESEARCH_USE_ONLY.encode() in picture.read_bytes()[:1000]
    again, _ = examples.run_on(
        model, tmp_path / "in", out, picture=True, page=True, uncertainty=True
    )
    assert again.kept[name] == "kept"
    picture.unlink()
    again, _ = examples.run_on(model, tmp_path / "in", out)
    assert again.written and picture.exists()
    # Another model leaves nothing of this one beside its labels: all files are its own.
    other = inference.load(example_runs["volume"] / "run" / "fold_0")
    kept, _ = examples.run_on(other, tmp_path / "in", out, page=True)
    assert "made by another model" in kept.kept[name]
    there = {path.name: path.read_bytes() for path in out.glob(f"{name}*")}
    examples.run_on(other, tmp_path / "in", out, overwrite=True)
    assert {path.name for path in out.glob(f"{name}*")} == there.keys()
    assert all((out / file).read_bytes() != data for file, data in there.items())
    assert other.trained.hash in page.read_text() and model.trained.hash not in page.read_text()
    edited = page.read_text().replace("<h1", "<p>notes by hand</p><h1", 1)
    page.write_text(edited)
    refused, _ = examples.run_on(other, tmp_path / "in", out, page=True, overwrite=True)
    assert str(page) in refused.failed[name] and page.read_text() == edited


def test_a_page_shows_the_truth_where_it_fits(model, brats_files, tmp_path, capsys):
    name = examples.CASES[0]
    volumes = brats_files.make_case(0, examples.SHAPE)
    paths = brats_files.write_nifti_case(tmp_path, name, volumes)
    assert read_truth(model.scan({k: volumes[k] for k in examples.INPUTS})) is None
    scan = model.scan(tmp_path / name)
    np.testing.assert_array_equal(read_truth(scan), np.moveaxis(volumes["seg"], 2, 0))
    brats_files.write_volume(paths["seg"], np.full(examples.SHAPE, 7, np.uint8))
    with pytest.raises(BratsError, match="label values 7"):
        read_truth(scan)
    examples.run_on(model, tmp_path / name, tmp_path / "out", page=True)
    assert "shown without truth, because" in capsys.readouterr().out
    page = (tmp_path / "out" / f"{name}_seg.html").read_text()
    assert 'id="volume-truth"' not in page
    assert "<li>shown without truth, because" in page and str(tmp_path) not in page
    # What this program has put beside the images is no truth.
    paths["seg"].unlink()
    assert read_truth(scan) is None
    examples.run_on(model, tmp_path / name, tmp_path / name)
    assert paths["seg"].exists() and read_truth(scan) is None


def test_a_truth_with_an_odd_name_is_found(model, brats_files, tmp_path):
    """As of BraTS 2020's case 355; what was predicted beside it is still no truth."""
    name = "BraTS20_Training_355"
    volumes = brats_files.make_case(0, examples.SHAPE)
    paths = brats_files.write_nifti_case(tmp_path, name, volumes, "2020")
    odd = paths["seg"].rename(paths["seg"].with_name("W39_1998.09.19_Segm.nii.gz"))
    expected = np.moveaxis(volumes["seg"], 2, 0)
    scan = model.scan(tmp_path / name)
    np.testing.assert_array_equal(read_truth(scan), expected)
    outcome, _ = examples.run_on(model, tmp_path / name, tmp_path / name, page=True)
    assert not outcome.failed and paths["seg"].exists()
    np.testing.assert_array_equal(read_truth(scan), expected)
    part, _ = embedded(tmp_path / name / f"{name}_seg.html", "truth")
    assert part.sum() == expected.sum()
    odd.unlink()
    assert read_truth(scan) is None


def test_a_synthetic_modality_and_its_error_are_written(example_runs, brats_files, tmp_path):
    folder, name = example_runs["volume"], examples.CASES[0]
    model = inference.load(folder / "run" / "fold_0", task="reconstruct")
    assert model.inputs == ("t1", "t1gd")
    examples.run_on(model, folder / "cases", tmp_path / "a")
    store = Store.open(folder / "store")
    rows = np.array(store.slices_of(name))
    restored = RestoredNetwork(
        model.trained.task, StageFolder(folder / "run" / "fold_0" / "pretrain"), data_mesh()
    )
    synthetic = nib.load(tmp_path / "a" / f"{name}_flair_synthetic.nii.gz")
    np.testing.assert_allclose(
        np.moveaxis(synthetic.get_fdata(), 2, 0), predict_slices(restored, store, rows), atol=1e-4
    )
    assert synthetic.get_data_dtype() == np.float32
    error = nib.load(tmp_path / "a" / f"{name}_flair_error.nii.gz").get_fdata()
    real = np.moveaxis(store.read(rows)[0][..., 3].astype(np.float32), 0, 2)
    np.testing.assert_allclose(error, synthetic.get_fdata() - real, atol=1e-4)
    # From Python the same, with its description.
    path = model.reconstruct(folder / "cases" / name, output=tmp_path / "c.nii.gz")
    np.testing.assert_array_equal(nib.load(path).get_fdata(), synthetic.get_fdata())
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["target"] == "flair" and "z-scores" in document["unit"]
    # Without a real one there is no error, and nothing else is missed.
    volumes = brats_files.make_case(0, examples.SHAPE)
    two = {key: volumes[key] for key in ("t1", "t1gd")}
    brats_files.write_nifti_case(tmp_path / "two", name, two)
    outcome, _ = examples.run_on(model, tmp_path / "two", tmp_path / "b")
    assert not outcome.failed and not list((tmp_path / "b").glob("*error*"))
