"""From cases to files: one that fails stops no other, and few are in memory at once."""

import os
import shutil
import threading
import time
import types

import jax
import numpy as np
import prediction_examples as examples
import pytest

from brats_jax.data.scans.case_files import CaseFiles
from brats_jax.inference import cases as prediction
from brats_jax.inference.outputs import OutputOptions
from brats_jax.inference.results import Segmented

pytestmark = pytest.mark.usefixtures("shallow")


def test_what_a_kill_left_is_cleared_away_later(model, tmp_path):
    names = (".a_seg.nii.gz.abcd_123", ".a_seg.html.abcd_123", ".a_seg.nii.gz", ".notes.abcd_123")
    for name in (*names, ".b_seg.nii.gz.abcd_123"):
        (tmp_path / name).write_text("")
    for name in names:
        os.utime(tmp_path / name, (0, 0))
    prediction.predict_cases(model, [], tmp_path, OutputOptions())
    left = {path.name for path in tmp_path.iterdir()}
    # One may be another process's, the others are not this program's.
    assert left == {".b_seg.nii.gz.abcd_123", ".a_seg.nii.gz", ".notes.abcd_123"}


def test_tumour_in_air_is_counted_and_said(model, example_runs, tmp_path, capsys):
    images = np.zeros((1, 2, 3, 4), np.float32)
    images[0, 0, :, 2] = 1  # T2 alone: no air
    labels = np.array([[[1, 2, 0], [3, 3, 0]]], np.uint8)
    scan = types.SimpleNamespace(images=images)
    assert Segmented(scan, labels, None, None, {}).share_in_air == 0.5
    assert Segmented(scan, np.zeros_like(labels), None, None, {}).share_in_air == 0
    # A network that has learnt nothing paints the air, too.
    examples.run_on(model, example_runs["volume"] / "cases", tmp_path / "out")
    said = capsys.readouterr()
    assert "of this tumour lies in air" in said.out + said.err


def test_a_case_that_fails_is_named_and_the_others_go_on(
    example_runs, model, brats_files, tmp_path
):
    source = tmp_path / "in"
    shutil.copytree(example_runs["volume"] / "cases", source)
    bad = examples.CASES[1]
    path = source / bad / f"{bad}_t2.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    outcome, images = examples.run_on(model, source, tmp_path / "out")
    assert set(images) == set(examples.CASES) - {bad}
    assert str(path) in outcome.failed[bad] and "fetch it again" in outcome.failed[bad]
    assert not list((tmp_path / "out").glob(f"*{bad}*"))


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
    monkeypatch.setattr(prediction, "available_cpus", lambda: 2)
    cases = [CaseFiles(f"case_{k}", tmp_path) for k in range(30)]
    outcome = prediction.predict_cases(model, cases, tmp_path, OutputOptions())
    assert list(outcome.written) == [case.name for case in cases]
    assert here == 0 and 2 <= most <= 2 + 1 + 3  # read, predicted, written


def test_an_error_of_any_kind_is_of_one_case_alone(model, monkeypatch, tmp_path, capsys):
    class Failing(prediction._Work):
        def read(self, case):
            if case.name == "read":
                raise KeyError("what")
            return case.name, case.name

        def predict(self, case, images):
            if case.name == "predict":
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nwhere")
            return None

        def write(self, scan, images, found, started):
            if scan == "write":
                raise ValueError("no such colour\nin any map")
            return tmp_path, ""

    monkeypatch.setattr(prediction, "_Work", Failing)
    names = ("read", "a", "predict", "b", "write", "c")
    cases = [CaseFiles(name, tmp_path) for name in names]
    outcome = prediction.predict_cases(model, cases, tmp_path, OutputOptions())
    assert list(outcome.written) == ["a", "b", "c"]
    assert outcome.failed == {
        "read": "KeyError: 'what'",
        "predict": "JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory: give a smaller "
        "--batch_size",
        "write": "ValueError: no such colour",
    }
    assert "write: FAILED: ValueError: no such colour" in capsys.readouterr().out
