"""A run as one object: labels of a case in whatever form it is given, and how they come about."""

import json
import shutil

import jax
import nibabel as nib
import numpy as np
import prediction_examples as examples
import pytest
from jax.sharding import AxisType

import brats_jax
from brats_jax.data.scans.scan import read_scan
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.slices import predict_slices
from brats_jax.inference import cases
from brats_jax.inference import model as inference
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.inference.trained_run import open_run
from brats_jax.runs import checkpoints
from brats_jax.runs.documents import PretrainingSource, StageResult
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.mark.parametrize("how", ["slice", "volume"])
def test_a_prepared_case_predicted_both_ways(example_runs, how, tmp_path):
    """From the store, and from the files: equal labels, voxel by voxel."""
    folder = example_runs[how]
    model = inference.load(folder / "run" / "fold_1")
    store = Store.open(folder / "store")
    restored = RestoredNetwork(
        model.trained.task, folder / "run" / "fold_1" / "segment", data_mesh()
    )
    _, images = examples.run_on(model, folder / "cases", tmp_path, et_label=3)
    for name in examples.CASES:
        expected = predict_slices(restored, store, np.array(store.slices_of(name)))
        assert len(np.unique(expected)) > 2
        found = np.moveaxis(np.asarray(images[name].dataobj), 2, 0)
        np.testing.assert_array_equal(found, expected)
        # And the network sees the same bits.
        scan = read_scan(cases.find_cases(folder / "cases" / name)[0], model.inputs)
        np.testing.assert_array_equal(
            model.normalise(scan), store.read(np.array(store.slices_of(name)))[0]
        )


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL", "PIR"])
def test_any_orientation_gives_the_same_labels_in_place(
    example_runs, model, brats_files, codes, tmp_path
):
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
    case = cases.find_cases(example_runs["volume"] / "cases" / name)[0]
    upright = model.predict(read_scan(case, model.inputs)).labels
    expected = np.where(upright == 3, 4, upright)
    np.testing.assert_array_equal(np.moveaxis(examples.lps(labels), 2, 0), expected)


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
    _, images = examples.run_on(model, tmp_path / "in", tmp_path / "out")
    header = images[name].header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (2, 1)
    assert images[name].get_data_dtype() == np.float32
    assert set(np.unique(images[name].dataobj)) <= {0, 1, 2, 4}
    descrip = header["descrip"].item().decode()
    assert descrip.startswith("RESEARCH USE ONLY") and "JOHN" not in descrip
    assert model.trained.hash[:12] in descrip


def test_the_ensemble_is_the_mean_of_its_members(example_runs, model):
    scan = model.scan(example_runs["volume"] / "cases" / examples.CASES[1])
    alone = [
        inference.load(example_runs["volume"] / "run" / f"fold_{k}").predict(scan, details=True)
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


def test_flips_are_undone_and_averaged(example_runs):
    """The answer to a flipped scan is the flipped answer, which one look does not give."""
    run = example_runs["volume"] / "run" / "fold_0"
    case = cases.find_cases(example_runs["volume"] / "cases" / examples.CASES[0])[0]
    images = inference.load(run).normalise(read_scan(case, examples.INPUTS))
    for tta, symmetric in ((True, True), (False, False)):
        ensemble = inference.load(run, tta=tta).ensemble
        p, turned = (
            ensemble.segment(np.ascontiguousarray(x), details=True).probabilities
            for x in (images, images[:, ::-1])
        )
        assert np.allclose(p, turned[:, ::-1], atol=1e-5) == symmetric
        assert ensemble.size == (4 if tta else 1)


def test_blank_slices_and_the_last_batch_change_nothing(example_runs, model):
    """Two slices at a time, in which one blank stands for all, or all by themselves."""
    images = model.normalise(model.scan(example_runs["volume"] / "cases" / examples.CASES[0]))
    assert [bool(s.any()) for s in images] == [False, True, True, True, True, False]
    restored = model.trained.members[0].network
    forward = jax.jit(restored.output)
    seen = images[..., [examples.INPUTS.index(name) for name in model.inputs]].astype(np.float32)
    logits = forward(restored.params, restored.stats, seen)
    one = inference.load(example_runs["volume"] / "run" / "fold_0", batch_size=4).ensemble
    np.testing.assert_array_equal(one.segment(images).labels, np.argmax(logits, -1))
    blanks = np.zeros_like(images)  # a case of nothing but air
    np.testing.assert_array_equal(
        one.segment(blanks).labels, np.broadcast_to(np.argmax(logits[0], -1), blanks.shape[:3])
    )


def test_python_takes_and_returns_arrays_images_and_paths(
    example_runs, model, brats_files, tmp_path
):
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
        np.testing.assert_array_equal(examples.lps(image), labels)
    folder = example_runs["volume"] / "cases" / name
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
    with pytest.raises(BratsError, match=r"c\.json is there and was not written by this program"):
        model.segment(files, output=tmp_path / "c.nii.gz")
    assert not (tmp_path / "c.nii.gz").exists()
    for wrong, match in (
        (dict(images=folder), "output="),
        (dict(images=volumes, output="x.nii"), "for paths"),
        (dict(images={**volumes, "t1": image}), "all of one kind"),
        (dict(images={k: v for k, v in volumes.items() if k != "t2"}), "^'t2' is missing: the"),
        (
            dict(images={k: files[k] for k in ("t1", "t2")}, output="x.nii"),
            "'t1gd' and 'flair' are missing: the model needs t1gd, flair, t2",
        ),
        (dict(images=list(volumes.values())), "images of type list: give a dictionary of mod"),
        (dict(images=volumes, et_label=5), "et_label=5"),
        (dict(images=folder.parent, output="x.nii"), "holds 3 cases"),
    ):
        with pytest.raises(BratsError, match=match):
            model.segment(**wrong)


@pytest.fixture
def compiled():
    """A list that grows by one for every program that JAX compiles or loads."""
    events = []

    def note(event, duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield events
    jax.monitoring.unregister_event_duration_listener(note)


def test_a_second_case_compiles_nothing(example_runs, brats_files, compiled):
    first, second = (
        {k: brats_files.make_case(seed, examples.SHAPE)[k] for k in examples.INPUTS}
        for seed in (0, 5)
    )
    run = example_runs["volume"] / "run"
    one = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    for mesh in (data_mesh(), one):
        counts = []
        for path in (run / "fold_0", run):  # one fold, then two
            model = inference.Model(open_run(path, "segment", mesh))
            compiled.clear()
            model.segment(first)
            counts.append(len(compiled))
            compiled.clear()
            model.segment(second)
            assert not compiled
        # A second fold needs no second network: at most the stack of two folds' labels is new.
        assert counts[0] > 0 and counts[1] <= counts[0] + 1


def test_incomplete_folds_are_left_out_or_named(example_runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(example_runs["volume"] / "run", run)
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


def test_a_changed_weight_changes_the_hash(example_runs):
    hashes = {
        inference.load(example_runs["volume"] / "run" / f"fold_{k}").trained.hash for k in (0, 1, 0)
    }
    assert len(hashes) == 2


def test_a_pretraining_of_another_run_is_found(example_runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(example_runs["volume"] / "run", run)
    shutil.rmtree(run / "fold_0" / "pretrain")
    result = StageResult(metric="mse", best=0.5, best_step=7, steps=7, seconds=1.0)
    source = PretrainingSource(str(example_runs["volume"] / "run"), result)
    source.write(run / "fold_0" / "pretraining.json")
    found, own = (
        inference.load(r / "fold_0", task="reconstruct").trained.hash
        for r in (run, example_runs["volume"] / "run")
    )
    assert found == own


def test_what_a_checkpoint_does_not_say_is_not_guessed(example_runs, tmp_path, monkeypatch):
    with pytest.raises(BratsError, match="labels: leave them out"):
        inference.load(example_runs["volume"] / "run", task="reconstruct", min_et_mm3=3)
    with pytest.raises(BratsError, match="loaded to segment: give load"):
        inference.load(example_runs["volume"] / "run" / "fold_0").reconstruct({})
    read = checkpoints.read

    def without_record(*given):
        state, meta = read(*given)
        return state, {**meta, "record": {}}

    monkeypatch.setattr(checkpoints, "read", without_record)
    with pytest.raises(BratsError, match="do not say how their data were normalised"):
        inference.load(example_runs["volume"] / "run")
