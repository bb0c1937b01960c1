"""calibration.json of a fold."""

from brats_jax.runs.documents import Calibration, CalibrationScores, CalibrationSet
from brats_jax.runtime.document import read_document


def test_a_calibration_reads_back_with_an_undefined_error_as_none(tmp_path):
    before = CalibrationScores(nll=0.2, ece=0.1, ece_tumour=None)
    after = CalibrationScores(nll=0.1, ece=0.0, ece_tumour=None)
    one = CalibrationSet(2, 8, 100, 0, before, after)
    made = Calibration("hash", 1.5, "the brain", 0, "patient", {"validation": one})
    made.write(tmp_path / "calibration.json")
    assert read_document(tmp_path / "calibration.json", Calibration) == made
