"""A run that predicts regions: calibrated, in an ensemble with flips, in files, and exported."""

import json

import jax
import numpy as np
import prediction_examples as examples
import pytest
from scipy import special

from brats_jax import inference
from brats_jax.data.modalities import REGIONS
from brats_jax.data.store.reader import Store
from brats_jax.evaluation.calibration import calibrate
from brats_jax.evaluation.slices import predict_slices
from brats_jax.inference import export_files, stablehlo
from brats_jax.inference.trained_run import open_run
from brats_jax.runs.documents import Calibration
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh
from brats_jax.runtime.document import read_document

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def run(example_runs, shallow, tmp_path_factory):
    store = Store.open(example_runs["volume"] / "store")
    run = tmp_path_factory.mktemp("regions") / "run"
    return examples.write_run(run, store, segment__outputs="regions")


@pytest.fixture(scope="module")
def images(example_runs, run):
    """Normalised slices of a case, and the mean sigmoids [S, H, W, 3] of both folds."""
    model = inference.load(run)
    images = model.normalise(model.scan(example_runs["volume"] / "cases" / examples.CASES[1]))
    seen = images[..., [examples.INPUTS.index(name) for name in model.inputs]].astype(np.float32)
    networks = [member.network for member in model.trained.members]
    forward = jax.jit(networks[0].output)
    return images, np.stack([np.asarray(forward(n.params, n.stats, seen)) for n in networks])


def decided(p):
    """Labels by the rule in words, and where rounding cannot change them."""
    inside = p > 0.5
    labels = np.where(inside[..., 0], 2, 0)
    labels = np.where(inside[..., 0] & inside[..., 1], 1, labels)
    return np.where(inside.all(-1), 3, labels), (np.abs(p - 0.5) > 1e-4).all(-1)


def test_probabilities_are_averaged_before_labels_are_decided(run, images, example_runs):
    images, logits = images
    mean = special.expit(logits).mean(0)
    found = inference.load(run).ensemble.segment(images, details=True)
    expected, sure = decided(mean)
    assert sure.mean() > 0.99 and len(np.unique(expected)) > 2
    np.testing.assert_array_equal(found.labels[sure], expected[sure])
    assert found.probabilities.shape == (*mean.shape[:3], 4) and len(found.views) == 2
    np.testing.assert_allclose(found.probabilities.sum(-1), 1, rtol=1e-5)
    nested = np.minimum.accumulate(mean, axis=-1)
    for k, values in enumerate(REGIONS.values()):
        of_region = found.probabilities[..., list(values)].sum(-1)
        np.testing.assert_allclose(of_region, nested[..., k], atol=1e-5)
    entropy = special.entr(found.probabilities.astype(np.float64)).sum(-1)
    np.testing.assert_allclose(found.entropy, entropy, atol=1e-5)
    assert found.entropy.max() <= np.log(4) + 1e-6
    # One fold is decided by its logits; flips are undone before the average.
    one = inference.load(run / "fold_0").ensemble.segment(images)
    alone, sure = decided(special.expit(logits[0]))
    np.testing.assert_array_equal(one.labels[sure], alone[sure])
    flips = inference.load(run, tta=True).ensemble
    p, turned = (
        flips.segment(np.ascontiguousarray(x), details=True).probabilities
        for x in (images, images[:, ::-1])
    )
    np.testing.assert_allclose(p, turned[:, ::-1], atol=1e-5)
    # Evaluation and panels decide as prediction does.
    store = Store.open(example_runs["volume"] / "store")
    rows = np.array(store.slices_of(examples.CASES[1]))
    network = inference.load(run / "fold_0").trained.members[0].network
    np.testing.assert_array_equal(predict_slices(network, store, rows), one.labels)


def test_files_and_temperature_are_those_of_regions(run, images, example_runs, tmp_path):
    (line, _) = calibrate(open_run(run, "segment", data_mesh()), None, 4)
    assert "ECE" in line
    document = read_document(RunFolder(run).fold(0).calibration_json, Calibration)
    assert "inside or outside of each of WT, TC, ET" in document.over
    validation = document.sets["validation"]
    assert validation.after.nll < validation.before.nll and validation.pixels > 1000
    model = inference.load(run / "fold_0", calibrated=True)
    found = model.ensemble.segment(images[0], details=True)
    expected = special.expit(images[1][0] / document.temperature)[..., 0]
    np.testing.assert_allclose(found.probabilities[..., 1:].sum(-1), expected, atol=1e-4)
    cases = example_runs["volume"] / "cases"
    name = examples.CASES[1]
    _, written = examples.run_on(
        model, cases / name, tmp_path, probabilities=True, uncertainty=True, picture=True
    )
    labels = np.asarray(written[name].dataobj)
    np.testing.assert_array_equal(
        np.moveaxis(labels, 2, 0), np.where(found.labels == 3, 4, found.labels)
    )
    sidecar = json.loads((tmp_path / f"{name}_seg.json").read_text())
    assert sidecar["model"]["config"]["segment"]["outputs"] == "regions"
    assert sidecar["volumes_ml"]["TC"]["ml"] == pytest.approx(np.isin(labels, (1, 4)).sum() / 1000)
    assert len([file for file in sidecar["files"] if "_prob_" in file]) == 3
    assert model.facts(model.scan(cases / name))["predicts"] == "regions WT, TC, ET"


def test_an_export_decides_as_prediction_does(run, example_runs, images, tmp_path):
    trained = open_run(run, "segment", data_mesh(), dtype="float32")
    shape = examples.SHAPE[:2]
    program = export_files.Program(b"", ("cpu",), "float32")
    document = export_files.describe(trained, shape, program, {})
    assert document.model.outputs == ["WT", "TC", "ET"]
    assert document.model.decision.startswith("sigmoid above 0.5: ED in WT")
    assert document.labels == {"0": "background", "1": "NCR/NET", "2": "ED", "3": "ET"}
    program = jax.export.deserialize(bytearray(stablehlo.stablehlo(trained, shape)))
    scan = inference.load(run).scan(example_runs["volume"] / "cases" / examples.CASES[1])
    labels = np.asarray(program.call(scan.images.astype(np.float32)))
    expected, sure = decided(special.expit(images[1]).mean(0))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels[sure], expected[sure])
