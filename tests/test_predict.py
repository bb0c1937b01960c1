import base64
import csv
import gzip
import json
import os
import re
import shutil
import threading
import time

import jax
import nibabel as nib
import numpy as np
import prediction_examples as examples
import pytest

import brats_jax
from brats_jax import checkpoints, inference, outputs, prediction
from brats_jax.data.case_files import CaseFiles
from brats_jax.data.scans import read_scan
from brats_jax.data.store import Store
from brats_jax.data.truth import read_truth
from brats_jax.devices import data_mesh
from brats_jax.errors import BratsError
from brats_jax.evaluate import Restored, predict_slices
from brats_jax.outputs import Wanted


@pytest.fixture(scope="module", autouse=True)
def shallow():
    with examples.shallow():
        yield


@pytest.fixture(scope="module")
def folders(example_runs):
    return example_runs


@pytest.fixture(scope="module")
def model(folders):
    """Both folds, volume normalisation."""
    return inference.load(folders["volume"] / "run")


def run_on(model, source, target, **options):
    """(outcome, {case: labels image}) of all cases in a folder."""
    target.mkdir(exist_ok=True)
    resampled = options.pop("resampled", False)
    outcome = prediction.predict_cases(
        model, prediction.find_cases(source), target, Wanted(**options), resampled=resampled
    )
    return outcome, {name: nib.load(path) for name, path in outcome.written.items()}


def lps(image):
    """Voxels of a nibabel image in LPS axes, by nibabel's own means."""
    ras = nib.as_closest_canonical(image)
    return np.asarray(ras.dataobj)[::-1, ::-1]


@pytest.mark.parametrize("how", ["slice", "volume"])
def test_a_prepared_case_predicted_both_ways(folders, how, tmp_path):
    """From the store, and from the files: equal labels, voxel by voxel."""
    folder = folders[how]
    model = inference.load(folder / "run" / "fold_1")
    store = Store.open(folder / "store")
    restored = Restored(model.trained.stage, folder / "run" / "fold_1" / "segment", data_mesh())
    _, images = run_on(model, folder / "cases", tmp_path, et_label=3)
    for name in examples.CASES:
        expected = predict_slices(restored, store, np.array(store.slices_of(name)))
        assert len(np.unique(expected)) > 2
        found = np.moveaxis(np.asarray(images[name].dataobj), 2, 0)
        np.testing.assert_array_equal(found, expected)
        # And the network sees the same bits.
        scan = read_scan(prediction.find_cases(folder / "cases" / name)[0], model.inputs)
        np.testing.assert_array_equal(
            model.normalise(scan), store.read(np.array(store.slices_of(name)))[0]
        )


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL", "PIR"])
def test_any_orientation_gives_the_same_labels_in_place(
    folders, model, brats_files, codes, tmp_path
):
    name = examples.CASES[0]
    volumes = brats_files.make_case(0, examples.SHAPE)
    paths = brats_files.write_nifti_case(tmp_path / "in", name, volumes, codes=codes)
    _, images = run_on(model, tmp_path / "in", tmp_path / "out")
    given, labels = nib.load(paths["t1"]), images[name]
    assert labels.shape == given.shape and labels.get_data_dtype() == given.get_data_dtype()
    np.testing.assert_array_equal(labels.affine, given.affine)
    for form in ("get_sform", "get_qform"):
        (a, code), (b, expected) = (getattr(i.header, form)(coded=True) for i in (labels, given))
        assert code == expected
        if code:
            np.testing.assert_array_equal(a, b)
    case = prediction.find_cases(folders["volume"] / "cases" / name)[0]
    upright = model.predict(read_scan(case, model.inputs)).labels
    expected = np.where(upright == 3, 4, upright)
    np.testing.assert_array_equal(np.moveaxis(lps(labels), 2, 0), expected)


def test_headers_keep_the_place_and_nothing_else(model, brats_files, tmp_path):
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
    _, images = run_on(model, tmp_path / "in", tmp_path / "out")
    header = images[name].header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (2, 1)
    assert images[name].get_data_dtype() == np.float32
    assert set(np.unique(images[name].dataobj)) <= {0, 1, 2, 4}
    descrip = header["descrip"].item().decode()
    assert descrip.startswith("RESEARCH USE ONLY") and "JOHN" not in descrip
    assert model.trained.hash[:12] in descrip


def test_the_ensemble_is_the_mean_of_its_members(folders, model):
    scan = model.scan(folders["volume"] / "cases" / examples.CASES[1])
    alone = [
        inference.load(folders["volume"] / "run" / f"fold_{k}").predict(scan, details=True)
        for k in (0, 1)
    ]
    both = model.predict(scan, details=True)
    mean = (alone[0].probabilities + alone[1].probabilities) / 2
    np.testing.assert_allclose(both.probabilities, mean, atol=1e-6)
    np.testing.assert_allclose(mean.sum(-1), 1, atol=1e-5)
    assert (both.labels == mean.argmax(-1)).mean() > 0.999
    entropy = -(mean * np.log(np.maximum(mean, 1e-30))).sum(-1)
    np.testing.assert_allclose(both.entropy, entropy, atol=1e-5)
    # The range is that of the members' volumes and its own.
    for region, labels in {"WT": (1, 2, 3), "ED": (2,)}.items():
        each = [np.isin(a.labels, labels).sum() / 1000 for a in (*alone, both)]
        found = both.volumes[region]
        assert [found.low_ml, found.high_ml] == pytest.approx([min(each), max(each)])
        assert found.ml == pytest.approx(np.isin(both.labels, labels).sum() / 1000)
    assert alone[0].volumes["WT"].low_ml is None


def test_flips_are_undone_and_averaged(folders):
    """The answer to a flipped scan is the flipped answer, which one look does not give."""
    run = folders["volume"] / "run" / "fold_0"
    case = prediction.find_cases(folders["volume"] / "cases" / examples.CASES[0])[0]
    images = inference.load(run).normalise(read_scan(case, examples.INPUTS))
    for tta, symmetric in ((True, True), (False, False)):
        ensemble = inference.load(run, tta=tta).ensemble
        p, turned = (
            ensemble.segment(np.ascontiguousarray(x), details=True).probabilities
            for x in (images, images[:, ::-1])
        )
        assert np.allclose(p, turned[:, ::-1], atol=1e-5) == symmetric
        assert ensemble.size == (4 if tta else 1)


def test_blank_slices_and_the_last_batch_change_nothing(folders, model):
    """Two slices at a time, in which one blank stands for all, or all by themselves."""
    images = model.normalise(model.scan(folders["volume"] / "cases" / examples.CASES[0]))
    assert [bool(s.any()) for s in images] == [False, True, True, True, True, False]
    restored = model.trained.members[0].restored
    forward = jax.jit(restored.output)
    seen = images[..., [examples.INPUTS.index(name) for name in model.inputs]].astype(np.float32)
    logits = forward(restored.params, restored.stats, seen)
    one = inference.load(folders["volume"] / "run" / "fold_0", batch_size=4).ensemble
    np.testing.assert_array_equal(one.segment(images).labels, np.argmax(logits, -1))
    blanks = np.zeros_like(images)  # a case of nothing but air
    np.testing.assert_array_equal(
        one.segment(blanks).labels, np.broadcast_to(np.argmax(logits[0], -1), blanks.shape[:3])
    )


def test_maps_table_and_sidecar(folders, model, tmp_path):
    _, images = run_on(
        model, folders["volume"] / "cases", tmp_path, probabilities=True, uncertainty=True
    )
    name = examples.CASES[0]
    found = model.predict(model.scan(folders["volume"] / "cases" / name), details=True)
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
    assert sidecar["model"]["config"]["loss"] == "dice_ce" and sidecar["version"] == "0.1.0"
    assert sidecar["labels"] == {"0": "background", "1": "NCR/NET", "2": "ED", "4": "ET"}
    assert len(sidecar["files"]) == 5
    splits = json.loads((folders["volume"] / "run" / "splits.json").read_text())
    assert ("trained or validated" in str(sidecar["notes"])) == (name not in splits["test"])
    with (tmp_path / outputs.TABLE).open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(examples.CASES) and rows[name]["predictions"] == "2"
    counted = (np.asarray(images[name].dataobj) == 4).sum() / 1000
    assert float(rows[name]["ET ml"]) == pytest.approx(counted, abs=1e-3)
    assert float(rows[name]["ET low ml"]) <= float(rows[name]["ET high ml"])
    assert rows[name]["use"] == "research only"


def test_what_is_there_is_kept_until_told_otherwise(folders, model, tmp_path):
    cases, name = folders["volume"] / "cases", examples.CASES[0]
    first, _ = run_on(model, cases, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in first.written.values()}
    again, _ = run_on(model, cases, tmp_path)
    assert set(again.kept.values()) == {"kept"} and not again.written
    assert {path: path.stat().st_mtime_ns for path in times} == times
    other, _ = run_on(inference.load(folders["volume"] / "run" / "fold_0"), cases, tmp_path,
                      probabilities=True)  # fmt: skip
    assert "made by another model" in other.kept[name]
    assert "without probabilities" in other.kept[name]
    # A file cut short is not whole, and made again.
    path = first.written[name]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    mended, _ = run_on(model, cases, tmp_path)
    assert set(mended.written) == {name} and path.read_bytes() == whole
    over, _ = run_on(model, cases, tmp_path, overwrite=True, et_label=3)
    assert set(over.written) == set(examples.CASES)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_labels_by_hand_are_never_replaced(model, brats_files, tmp_path):
    name = examples.CASES[0]
    volumes = brats_files.make_case(0, examples.SHAPE)
    truth = brats_files.write_nifti_case(tmp_path, name, volumes)["seg"]
    before = truth.read_bytes()
    outcome, _ = run_on(model, tmp_path / name, tmp_path / name, overwrite=True)
    assert "not of this program" in outcome.failed[name] and truth.read_bytes() == before


def embedded(path, what):
    """uint8[slices, H, W] of a page, and where in the scan it begins."""
    text = path.read_text()
    (packed,) = re.findall(f'id="volume-{what}">(.*?)<', text)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(packed)))
    start = np.abs(image.affine[:3, 3]).round().astype(int)[[2, 0, 1]]
    return np.moveaxis(np.asarray(image.dataobj), 2, 0), start


def test_pictures_and_pages_complete_what_is_there(folders, model, brats_files, tmp_path):
    name = examples.CASES[0]
    volumes = brats_files.make_case(0, examples.SHAPE)
    brats_files.write_nifti_case(tmp_path / "in", name, volumes, codes="RAS")
    out, page = tmp_path / "out", tmp_path / "out" / f"{name}_seg.html"
    run_on(model, tmp_path / "in", out, uncertainty=True)
    outcome, _ = run_on(model, tmp_path / "in", out, page=True)
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
    # Together; then there is nothing left to do, until a file is lost.
    run_on(model, tmp_path / "in", out, picture=True, page=True)
    picture = out / f"{name}_seg.png"
    assert brats_jax.RESEARCH_USE_ONLY.encode() in picture.read_bytes()[:1000]
    again, _ = run_on(model, tmp_path / "in", out, picture=True, page=True, uncertainty=True)
    assert again.kept[name] == "kept"
    picture.unlink()
    again, _ = run_on(model, tmp_path / "in", out)
    assert again.written and picture.exists()
    # Another model leaves nothing of this one beside its labels.
    other = inference.load(folders["volume"] / "run" / "fold_0")
    kept, _ = run_on(other, tmp_path / "in", out, page=True)
    assert "made by another model" in kept.kept[name]
    run_on(other, tmp_path / "in", out, overwrite=True)
    assert {p.name for p in out.glob(f"{name}*")} == {f"{name}_seg.nii.gz", sidecar.name}
    page.write_text("notes by hand")
    refused, _ = run_on(other, tmp_path / "in", out, page=True, overwrite=True)
    assert str(page) in refused.failed[name] and page.read_text() == "notes by hand"


def test_a_truth_is_shown_where_there_is_one_that_fits(model, brats_files, tmp_path, capsys):
    name = examples.CASES[0]
    volumes = brats_files.make_case(0, examples.SHAPE)
    paths = brats_files.write_nifti_case(tmp_path, name, volumes)
    assert read_truth(model.scan({k: volumes[k] for k in examples.INPUTS})) is None
    scan = model.scan(tmp_path / name)
    np.testing.assert_array_equal(read_truth(scan), np.moveaxis(volumes["seg"], 2, 0))
    brats_files.write_volume(paths["seg"], np.full(examples.SHAPE, 7, np.uint8))
    with pytest.raises(BratsError, match="label values 7"):
        read_truth(scan)
    run_on(model, tmp_path / name, tmp_path / "out", page=True)
    assert "shown without truth, because" in capsys.readouterr().out
    assert 'id="volume-truth"' not in (tmp_path / "out" / f"{name}_seg.html").read_text()
    # What this program has put beside the images is no truth.
    paths["seg"].unlink()
    assert read_truth(scan) is None
    run_on(model, tmp_path / name, tmp_path / name)
    assert paths["seg"].exists() and read_truth(scan) is None


def test_a_truth_of_an_odd_name_is_found_as_for_training(model, brats_files, tmp_path):
    """As of BraTS 2020's case 355; what was predicted beside it is still no truth."""
    name = "BraTS20_Training_355"
    volumes = brats_files.make_case(0, examples.SHAPE)
    paths = brats_files.write_nifti_case(tmp_path, name, volumes, "2020")
    odd = paths["seg"].rename(paths["seg"].with_name("W39_1998.09.19_Segm.nii.gz"))
    expected = np.moveaxis(volumes["seg"], 2, 0)
    scan = model.scan(tmp_path / name)
    np.testing.assert_array_equal(read_truth(scan), expected)
    outcome, _ = run_on(model, tmp_path / name, tmp_path / name, page=True)
    assert not outcome.failed and paths["seg"].exists()
    np.testing.assert_array_equal(read_truth(scan), expected)
    part, _ = embedded(tmp_path / name / f"{name}_seg.html", "truth")
    assert part.sum() == expected.sum()
    odd.unlink()
    assert read_truth(scan) is None


def test_what_a_kill_left_is_cleared_away_later(model, tmp_path):
    names = (".a_seg.nii.gz.abcd_123", ".a_seg.html.abcd_123", ".a_seg.nii.gz", ".notes.abcd_123")
    for name in (*names, ".b_seg.nii.gz.abcd_123"):
        (tmp_path / name).write_text("")
    for name in names:
        os.utime(tmp_path / name, (0, 0))
    prediction.predict_cases(model, [], tmp_path, Wanted())
    left = {path.name for path in tmp_path.iterdir()}
    # One may be another process's, the others are not this program's.
    assert left == {".b_seg.nii.gz.abcd_123", ".a_seg.nii.gz", ".notes.abcd_123"}


def test_a_case_that_fails_is_named_and_the_others_go_on(folders, model, brats_files, tmp_path):
    source = tmp_path / "in"
    shutil.copytree(folders["volume"] / "cases", source)
    bad = examples.CASES[1]
    path = source / bad / f"{bad}_t2.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    outcome, images = run_on(model, source, tmp_path / "out")
    assert set(images) == set(examples.CASES) - {bad}
    assert str(path) in outcome.failed[bad] and "fetch it again" in outcome.failed[bad]
    assert not list((tmp_path / "out").glob(f"*{bad}*"))


def test_reconstruction_and_its_error(folders, brats_files, tmp_path):
    folder, name = folders["volume"], examples.CASES[0]
    model = inference.load(folder / "run" / "fold_0", task="reconstruct")
    assert model.inputs == ("t1", "t1gd")
    run_on(model, folder / "cases", tmp_path / "a")
    store = Store.open(folder / "store")
    rows = np.array(store.slices_of(name))
    restored = Restored(model.trained.stage, folder / "run" / "fold_0" / "pretrain", data_mesh())
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
    outcome, _ = run_on(model, tmp_path / "two", tmp_path / "b")
    assert not outcome.failed and not list((tmp_path / "b").glob("*error*"))


def test_python_takes_and_returns_arrays_images_and_paths(folders, model, brats_files, tmp_path):
    name = examples.CASES[0]
    volumes = {k: brats_files.make_case(0, examples.SHAPE)[k] for k in examples.INPUTS}
    labels = model.segment(volumes)
    assert labels.dtype == np.int16 and labels.shape == examples.SHAPE
    assert set(np.unique(labels)) <= {0, 1, 2, 4} and len(np.unique(labels)) > 2
    # Floats of other names, in other axes.
    moved = {k: brats_files.in_axes(v, "RAS") for k, v in volumes.items()}
    other = dict(zip(("T1n", "t1c", "t2w", "t2f"), (v for v, _ in moved.values()), strict=True))
    turned = model.segment(
        {k: v.astype(np.float64) for k, v in other.items()}, affine=moved["t1"][1], et_label=3
    )
    assert turned.dtype == np.uint8
    np.testing.assert_array_equal(turned[::-1, ::-1], np.where(labels == 4, 3, labels))
    for dtype in (np.int16, np.uint16, np.float64):
        image = model.segment(
            {k: nib.Nifti1Image(np.abs(v).astype(dtype), a) for k, (v, a) in moved.items()}
        )
        assert isinstance(image, nib.Nifti1Image) and image.get_data_dtype() == dtype
        np.testing.assert_array_equal(lps(image), labels)
    folder = folders["volume"] / "cases" / name
    path = model.segment(folder, output=tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels)
    files = {k: folder / f"{name}_{n}.nii.gz" for k, n in zip(
        examples.INPUTS, ("t1", "t1ce", "t2", "flair"), strict=True)}  # fmt: skip
    path = model.segment(files, output=tmp_path / "b.nii")
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), labels)
    for sidecar in (tmp_path / "a.json", tmp_path / "b.json"):
        document = json.loads(sidecar.read_text())
        assert document["use"] == brats_jax.RESEARCH_USE_ONLY and document["version"]
        assert document["model"]["hash"] == model.trained.hash
        assert document["model"]["config"]["loss"] == "dice_ce"
        assert document["inputs"] == {k: str(v) for k, v in files.items()}
        assert document["labels"]["4"] == "ET" and len(document["files"]) == 1
    # One of this program is replaced, a description of something else is not.
    model.segment(files, output=tmp_path / "b.nii.gz", et_label=3)
    document = json.loads((tmp_path / "b.json").read_text())
    assert list(document["files"]) == ["b.nii.gz"] and document["labels"]["3"] == "ET"
    (tmp_path / "c.json").write_text('{"EchoTime": 0.1}')
    with pytest.raises(BratsError, match=r"c\.json is there and not of this program"):
        model.segment(files, output=tmp_path / "c.nii.gz")
    assert not (tmp_path / "c.nii.gz").exists()
    for wrong, match in (
        (dict(images=folder), "output="),
        (dict(images=volumes, output="x.nii"), "for paths"),
        (dict(images={**volumes, "t1": image}), "all of one kind"),
        (dict(images={k: v for k, v in volumes.items() if k != "t2"}), "no T2 volume"),
        (dict(images=volumes, et_label=5), "et_label=5"),
        (dict(images=folder.parent, output="x.nii"), "holds 3 cases"),
    ):
        with pytest.raises(BratsError, match=match):
            model.segment(**wrong)


def test_a_second_case_compiles_nothing(model, brats_files):
    volumes = [{k: brats_files.make_case(s, examples.SHAPE)[k] for k in examples.INPUTS}
               for s in (0, 5)]  # fmt: skip
    model.segment(volumes[0])
    compiled = model.ensemble._add._cache_size()
    model.segment(volumes[1])
    assert model.ensemble._add._cache_size() == compiled == 1


def test_incomplete_folds_are_left_out_or_named(folders, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folders["volume"] / "run", run)
    (run / "fold_1" / "segment" / "complete.json").unlink()
    model = inference.load(run)
    assert [m.fold for m in model.trained.members] == [0]
    assert "fold 1 is not trained to the end" in model.trained.notes[0]
    assert "its best so far" in inference.load(run / "fold_1").trained.notes[0]
    (run / "fold_0" / "segment" / "complete.json").unlink()
    with pytest.raises(BratsError, match="no fold whose segment stage"):
        inference.load(run)
    with pytest.raises(BratsError, match="no run there"):
        inference.load(tmp_path)
    with pytest.raises(BratsError, match="no checkpoint there"):
        inference.load(run / "fold_7")


def test_a_changed_weight_changes_the_hash(folders):
    hashes = {
        inference.load(folders["volume"] / "run" / f"fold_{k}").trained.hash for k in (0, 1, 0)
    }
    assert len(hashes) == 2


def test_few_cases_are_in_memory_however_many_there_are(model, monkeypatch, tmp_path):
    """Reading waits for the network, and the network for writing."""
    here, most = 0, 0
    lock = threading.Lock()

    def count(change):
        nonlocal here, most
        with lock:
            here += change
            most = max(most, here)

    class Slow(prediction._Work):
        def read(self, case):
            count(1)
            return None, None

        def predict(self, *given):
            return None

        def write(self, *given):
            time.sleep(0.01)  # the bottleneck
            count(-1)
            return tmp_path, ""

    monkeypatch.setattr(prediction, "_Work", Slow)
    monkeypatch.setattr(prediction, "processors", lambda: 2)
    cases = [CaseFiles(f"case_{k}", tmp_path) for k in range(30)]
    outcome = prediction.predict_cases(model, cases, tmp_path, Wanted())
    assert list(outcome.written) == [case.name for case in cases]
    assert here == 0 and 2 <= most <= 2 + 1 + 3  # read, predicted, written


def test_an_error_of_any_kind_is_of_one_case_alone(model, monkeypatch, tmp_path, capsys):
    class Failing(prediction._Work):
        def read(self, case):
            if case.name == "read":
                raise KeyError("what")
            return None, case.name

        def predict(self, case, images):
            if case.name == "predict":
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nwhere")
            return None

        def write(self, scan, images, found, started):
            if images == "write":
                raise ValueError("no such colour\nin any map")
            return tmp_path, ""

    monkeypatch.setattr(prediction, "_Work", Failing)
    names = ("read", "a", "predict", "b", "write", "c")
    cases = [CaseFiles(name, tmp_path) for name in names]
    outcome = prediction.predict_cases(model, cases, tmp_path, Wanted())
    assert list(outcome.written) == ["a", "b", "c"]
    assert outcome.failed == {
        "read": "KeyError: 'what'",
        "predict": "JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory: give a smaller "
        "--batch_size",
        "write": "ValueError: no such colour",
    }
    assert "write: FAILED: ValueError: no such colour" in capsys.readouterr().out


def test_a_pretraining_of_another_run_is_found(folders, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folders["volume"] / "run", run)
    shutil.rmtree(run / "fold_0" / "pretrain")
    elsewhere = {"run": str(folders["volume"] / "run")}
    (run / "fold_0" / "pretraining.json").write_text(json.dumps(elsewhere))
    found, own = (
        inference.load(r / "fold_0", task="reconstruct").trained.hash
        for r in (run, folders["volume"] / "run")
    )
    assert found == own


def test_what_a_checkpoint_does_not_say_is_not_guessed(folders, tmp_path, monkeypatch):
    with pytest.raises(BratsError, match="labels: leave them out"):
        inference.load(folders["volume"] / "run", task="reconstruct", min_et_mm3=3)
    with pytest.raises(BratsError, match="loaded to segment: give load"):
        inference.load(folders["volume"] / "run" / "fold_0").reconstruct({})
    read = checkpoints.read

    def without_record(*given):
        state, meta = read(*given)
        return state, {**meta, "record": {}}

    monkeypatch.setattr(checkpoints, "read", without_record)
    with pytest.raises(BratsError, match="do not say how their data were normalised"):
        inference.load(folders["volume"] / "run")
