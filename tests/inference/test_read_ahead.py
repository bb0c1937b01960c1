"""What is read before the model is loaded is what the model would have read."""

import subprocess
import sys

import numpy as np
import prediction_examples as examples
import pytest
from processes import ROOT

from brats_jax import inference
from brats_jax.data.scans.case_files import CaseFiles
from brats_jax.data.scans.options import ReadOptions
from brats_jax.inference import read_ahead
from brats_jax.inference.cases import reading_of
from brats_jax.inference.inputs import find_cases
from brats_jax.inference.read_ahead import ReadAhead, Reading, reading_of_weights

OPTIONS = ReadOptions()


def test_importing_it_does_not_import_jax():
    code = "import sys, brats_jax.inference.read_ahead; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("task", ["segment", "reconstruct"])
def test_the_document_of_weights_tells_how_the_model_reads(task, example_runs):
    case = find_cases(example_runs["volume"] / "cases")[0]
    model = inference.load("small", task=task)
    assert reading_of(model, case, False, OPTIONS)[0] == reading_of_weights("small", task, OPTIONS)


def test_a_run_is_not_read_ahead(example_runs, tmp_path, monkeypatch):
    run = example_runs["volume"] / "run"
    assert reading_of_weights(str(run), "segment", OPTIONS) is None
    (tmp_path / "small").symlink_to(run)
    monkeypatch.chdir(tmp_path)  # where it comes before the ready model
    assert reading_of_weights("small", "segment", OPTIONS) is None


class TestTheFirstCase:
    READING = Reading(("t1",), "volume", None, OPTIONS)

    @pytest.fixture
    def start(self, example_runs, tmp_path, monkeypatch):
        monkeypatch.setattr(read_ahead, "reading_of_weights", lambda *_: self.READING)
        first = find_cases(example_runs["volume"] / "cases")[0]

        def start(case: CaseFiles = first) -> ReadAhead:
            return ReadAhead("any", "segment", case, tmp_path / "out", OPTIONS)

        start.case = first
        return start

    def test_is_used_once_if_it_is_read_as_the_model_needs_it(self, start):
        ahead, again = start(), self.READING.scan_and_images(start.case)
        scan, images = ahead.take(start.case, self.READING)
        np.testing.assert_array_equal(images, again[1])
        assert images.dtype == np.float16 and scan.name == start.case.name
        assert ahead.take(start.case, self.READING) is None

    def test_is_not_used_in_another_way_or_for_another_case(self, start):
        other = Reading(("t1",), "slice", None, OPTIONS)
        assert start().take(start.case, other) is None
        assert start().take("another case", self.READING) is None

    def test_is_left_to_the_regular_reading_where_it_fails(self, start, tmp_path):
        gone = CaseFiles("gone", tmp_path, {"t1": str(tmp_path / "t1.nii")})
        assert start(gone).take(gone, self.READING) is None

    def test_is_not_read_if_it_has_been_predicted(self, start, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / f"{examples.CASES[0]}_seg.json").touch()
        assert start().take(start.case, self.READING) is None
