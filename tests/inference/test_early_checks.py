"""Cases whose headers show that no model can predict them are refused before JAX is imported."""

import nibabel as nib
import numpy as np
import pytest
from processes import command

from brats_jax.data.scans.options import ReadOptions
from brats_jax.errors import BratsError
from brats_jax.inference import early_checks
from brats_jax.inference.early_checks import refuse_unfit
from brats_jax.inference.inputs import find_cases
from brats_jax.inference.read_ahead import Reading


@pytest.fixture
def cases(brats_files, tmp_path):
    """A folder with the cases a, b and c; those in `thick` have slices 5 mm apart."""

    def write(thick=()):
        for name in "abc":
            paths = brats_files.write_nifti_case(tmp_path / "in", name, brats_files.make_case())
            for path in paths.values():
                if name in thick:
                    voxels = np.asarray(nib.load(path).dataobj)
                    nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, -1, 5, 1])), path)
        return find_cases(tmp_path / "in")

    return write


@pytest.fixture
def refused(tmp_path):
    def refused(cases, **options):
        outcome = refuse_unfit(
            cases, "nowhere", "segment", tmp_path / "out", ReadOptions(), **options
        )
        assert not outcome.written and not outcome.kept
        return outcome.failed

    return refused


def test_the_first_cases_are_refused_up_to_one_that_may_be_predicted(cases, refused, capsys):
    failed = refused(cases(thick="ac"))
    assert list(failed) == ["a"]  # c comes after b: the regular reading refuses it
    assert "voxels of 1 x 1 x 5 mm, not of 1 mm: " in failed["a"] and "--resample" in failed["a"]
    assert capsys.readouterr().err == f"error: case a: {failed['a']}\n"


def test_nothing_is_refused_that_is_resampled_or_was_predicted_before(cases, refused, tmp_path):
    thick = cases(thick="abc")
    assert list(refused(thick)) == ["a", "b", "c"]
    assert refused(thick, resampled=True) == {}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b_seg.json").touch()
    assert list(refused(thick)) == ["a"]


def test_the_slice_size_of_exported_weights_counts(cases, refused, monkeypatch):
    reading = Reading(("t1",), "slice", (32, 30), ReadOptions())
    monkeypatch.setattr(early_checks, "reading_of_weights", lambda *_: reading)
    assert "the model was trained on 32 x 30" in refused(cases())["a"]


def test_a_damaged_document_of_weights_is_left_to_the_loading(cases, refused, monkeypatch):
    def damaged(*_):
        raise BratsError("damaged")

    monkeypatch.setattr(early_checks, "reading_of_weights", damaged)
    assert refused(cases()) == {}


def test_the_command_refuses_them_without_jax(cases, tmp_path, monkeypatch):
    cases(thick="abc")
    (tmp_path / "first" / "jax").mkdir(parents=True)
    (tmp_path / "first" / "jax" / "__init__.py").write_text("raise SystemExit('jax is imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "first"))
    status, out, err = command(
        "predict", "--checkpoint=small", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'o'}"
    )
    assert (status, out) == (1, "0 written, 0 kept, 3 failed: a, b, c\n")
    lines = err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["case a", "case b", "case c"]
    assert not (tmp_path / "o").exists()
