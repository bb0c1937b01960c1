"""Cases whose headers show that no model can predict them are refused before JAX is imported."""

import contextlib
import dataclasses
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from processes import command

from brats_jax.data.scans.options import ReadOptions
from brats_jax.errors import BratsError
from brats_jax.inference import early_checks
from brats_jax.inference.early_checks import refuse_left_out, refuse_unfit
from brats_jax.inference.inputs import find_cases
from brats_jax.inference.read_ahead import Reading, document_of_weights


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


@pytest.mark.parametrize(
    ("left_out", "options", "line"),
    [
        (["t1"], {}, "^--leave_out=t1: the model needs T1; or give a model that was trained with"),
        (["T2F"], {}, "^--leave_out=flair: the model needs FLAIR; or give --synthesise, which"),
        (["flair"], {"synthesise": True}, ""),
        (
            ["t2", "flair"],
            {"synthesise": True},
            "^--leave_out=t2: .* predicts FLAIR from T1 and T1Gd",
        ),
        (
            ["t1", "flair"],
            {"synthesise": True},
            "^--leave_out=t1,flair: the model needs T1 and FLAIR",
        ),
        (["t2"], {"task": "reconstruct"}, ""),
        (["t1ce"], {"task": "reconstruct"}, "^--leave_out=t1gd: the model needs T1Gd$"),
        ([], {}, ""),
        (["t1"], {"checkpoint": "nowhere"}, ""),  # the loading of the model says it
        (["ct"], {"checkpoint": "nowhere"}, "unknown modality 'ct'"),
        (["t1", "t2", "t1ce", "flair"], {}, "leaves no modality"),
    ],
)
def test_modalities_that_exported_weights_need_cannot_be_left_out(left_out, options, line):
    given = {"checkpoint": "small", "task": "segment", "synthesise": False} | options
    with pytest.raises(BratsError, match=line) if line else contextlib.nullcontext():
        refuse_left_out(leave_out=left_out, **given)


def test_a_network_for_missing_modalities_may_lack_all_but_one(monkeypatch):
    network = {"inputs": ["t1", "t2"], "outputs": ["WT"], "modality_dropout": 0.5}
    tasks = {"segment": SimpleNamespace(model=network)}
    document = SimpleNamespace(tasks=tasks)
    monkeypatch.setattr(early_checks, "document_of_weights", lambda _: document)
    refuse_left_out("small", "segment", ["t1"], synthesise=False)
    with pytest.raises(BratsError, match="needs T1 and T2; any one of them is enough"):
        refuse_left_out("small", "segment", ["t1", "t2"], synthesise=False)


def test_weights_without_the_first_stage_are_left_to_the_loading_with_synthesise(monkeypatch):
    full = document_of_weights("small")
    alone = dataclasses.replace(full, tasks={"segment": full.tasks["segment"]})
    monkeypatch.setattr(early_checks, "document_of_weights", lambda _: alone)
    refuse_left_out("small", "segment", ["flair"], synthesise=True)  # it names the first stage
    with pytest.raises(BratsError, match="the model needs FLAIR; or give a model that"):
        refuse_left_out("small", "segment", ["flair"], synthesise=False)


def test_the_command_refuses_what_is_left_out_once_and_without_jax(cases, tmp_path, monkeypatch):
    cases()
    (tmp_path / "first" / "jax").mkdir(parents=True)
    (tmp_path / "first" / "jax" / "__init__.py").write_text("raise SystemExit('jax is imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "first"))
    status, out, err = command(
        "predict", "--checkpoint=small", f"--input={tmp_path / 'in'}",
        f"--output={tmp_path / 'o'}", "--leave_out=t1",
    )  # fmt: skip
    assert (status, out) == (1, "") and err.startswith("error: --leave_out=t1: the model needs T1;")
    assert err.count("\n") == 1 and not (tmp_path / "o").exists()
