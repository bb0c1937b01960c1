"""Calibration of a run: fitted by fold, reported in one line, used in prediction."""

import dataclasses
import json
import shutil

import numpy as np
import prediction_examples as examples
import pytest
from scipy import special

from brats_jax import inference
from brats_jax.data.store.prepare import prepare
from brats_jax.errors import BratsError
from brats_jax.evaluation.calibration import calibrate, describe
from brats_jax.inference.trained_run import open_run
from brats_jax.runs.documents import Calibration, CalibrationScores, CalibrationSet
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh
from brats_jax.runtime.document import read_document


def test_a_rise_of_the_calibration_error_is_reported():
    def scores(patients, *ece):
        before, after = (CalibrationScores(1.0, e, t) for e, t in (ece[:2], ece[2:]))
        return CalibrationSet(patients, 10, 100, 20, before, after)

    sets = {"validation": scores(1, 0.02, 0.1, 0.01, 0.05), "test": scores(3, 0.02, 0.1, 0.03, 0)}
    head, tail, why = describe(sets).split("; ")
    assert head == "validation (1 patient) ECE 0.0200 -> 0.0100, in tumour 0.1000 -> 0.0500"
    assert tail == "test (3 patients) ECE 0.0200 -> 0.0300 (rose), in tumour 0.1000 -> 0.0000"
    assert why.startswith("where ECE rose: the temperature minimises the NLL of the validation set")
    assert "rose" not in describe({"validation": sets["validation"]})


def test_predictions_use_the_temperatures_that_were_fitted(brats_files, tmp_path):
    with examples.shallow():
        folder = examples.make_run(brats_files, tmp_path, "volume")
        run = folder / "run"
        with pytest.raises(BratsError, match=r"not calibrated: run python -m brats_jax.calibrate"):
            inference.load(run, calibrated=True)
        found = open_run(run, "segment", data_mesh())
        first, second = (RunFolder(run).fold(k).calibration_json for k in (0, 1))
        next(calibrate(found, None, 4))  # stopped after the first fold
        before = first.read_bytes()
        assert not second.exists()
        lines = list(calibrate(found, None, 4))
        assert first.read_bytes() == before and second.exists()
        assert len(lines) == 2 and "ECE" in lines[0]
        model = inference.load(run, calibrated=True)
        for member in model.trained.members:
            path = RunFolder(run).fold(member.fold).calibration_json
            document = json.loads(path.read_text())
            assert document["temperature"] == member.temperature != 1.0
            validation = document["sets"]["validation"]
            assert validation["after"]["nll"] < validation["before"]["nll"]
            assert document["sets"]["test"]["patients"] == 1
            assert validation["pixels"] > 1000
        # The temperature flattens or sharpens, and leaves the labels of one model alone.
        case = folder / "cases" / examples.CASES[0]
        one, plain = (inference.load(run / "fold_0", calibrated=c).ensemble for c in (True, False))
        images = model.normalise(model.scan(case))
        hot, cold = (e.segment(images, details=True) for e in (one, plain))
        np.testing.assert_array_equal(hot.labels, cold.labels)
        z = np.log(cold.probabilities)
        np.testing.assert_allclose(
            hot.probabilities, special.softmax(z / one.members[0].temperature, -1), atol=1e-4
        )
        # Other weights, another store.
        path = RunFolder(run).fold(0).calibration_json
        fitted = read_document(path, Calibration)
        text = path.read_text()
        for foreign in (text.replace('"temperature": ', '"temperature": 1'), "{}", "mine"):
            path.write_text(foreign)
            with pytest.raises(BratsError, match=r"is not as this program writes it .*: kept; "):
                list(calibrate(found, None, 4))
            assert path.read_text() == foreign
        dataclasses.replace(fitted, model="0" * 64).write(path)
        with pytest.raises(BratsError, match="fitted to other weights"):
            inference.load(run, calibrated=True)
        prepare("phantom", tmp_path / "other", patients=1, seed=0, shape=(16, 40, 32), workers=1)
        with pytest.raises(BratsError, match="trained on another store"):
            list(calibrate(found, str(tmp_path / "other"), 4))
        shutil.rmtree(folder / "store")
        with pytest.raises(BratsError, match="no store"):
            list(calibrate(found, None, 4))
