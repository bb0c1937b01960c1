"""Cases that lack modalities: who takes them, what is filled in, and that it stands everywhere."""

import csv
import dataclasses
import json
import shutil
import warnings
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import prediction_examples as examples
import pytest

import brats_jax
from brats_jax.data.modalities import Synthesis
from brats_jax.data.store.reader import Store
from brats_jax.data.subsets import subsets_of
from brats_jax.errors import BratsError
from brats_jax.inference import missing
from brats_jax.inference.inputs import find_cases
from brats_jax.inference.missing import MissingInputs, missing_inputs
from brats_jax.inference.trained_run import first_stage_of
from brats_jax.tasks import Pretraining

pytestmark = [
    pytest.mark.usefixtures("shallow"),
    pytest.mark.filterwarnings("ignore:.*missing. segmented without:UserWarning"),
]

FOUR = ("t1", "t1gd", "t2", "flair")
CASE = examples.CASES[0]
FIRST_STAGE = "predicts FLAIR from T1 and T1Gd"


@pytest.fixture(scope="module")
def dropout_run(example_runs, tmp_path_factory, shallow):
    """A run of one fold whose network takes missing modalities."""
    folder = tmp_path_factory.mktemp("dropout") / "run"
    store = Store.open(example_runs["volume"] / "store")
    return examples.write_run(folder, store, segment__modality_dropout=0.5) / "fold_0"


@pytest.mark.parametrize(
    ("present", "takes_missing", "synthesises", "expected"),
    [
        (FOUR, False, False, MissingInputs()),
        (("t1", "t1gd"), False, False, MissingInputs(refused=("t2", "flair"))),
        (("t1", "t1gd"), True, False, MissingInputs(dropped=("t2", "flair"))),
        (("t1", "t1gd", "t2"), False, True, MissingInputs(synthetic=("flair",))),
        (("t1", "t1gd"), True, True, MissingInputs(dropped=("t2",), synthetic=("flair",))),
        (("t1", "t1gd"), False, True, MissingInputs(synthetic=("flair",), refused=("t2",))),
        (("t1", "t2"), False, True, MissingInputs(refused=("t1gd", "flair"))),
        (("t1", "t2"), True, True, MissingInputs(dropped=("t1gd", "flair"))),
        ((), True, False, MissingInputs(refused=FOUR)),
    ],
)
def test_a_missing_input_is_dropped_synthetic_or_refused(
    present, takes_missing, synthesises, expected
):
    by = Synthesis(("t1", "t1gd"), ("flair",)) if synthesises else None
    assert missing_inputs(FOUR, present, takes_missing=takes_missing, synthesis=by) == expected


def test_of_several_networks_each_needs_an_image():
    networks_inputs = (("t1", "t2"), ("t1gd", "flair"))
    given = missing_inputs(
        FOUR, ("t1", "t1gd"), takes_missing=True, networks_inputs=networks_inputs
    )
    assert given == MissingInputs(dropped=("t2", "flair"))
    given = missing_inputs(FOUR, ("t1", "t2"), takes_missing=True, networks_inputs=networks_inputs)
    assert given == MissingInputs(refused=("t1gd", "flair"))


def test_a_caller_in_python_is_warned_of_what_is_missing_but_not_of_what_he_left_out():
    given = MissingInputs(dropped=("t1", "t2"), synthetic=("flair",))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        missing.warn_caller(given, examples.synthesiser(), ("t1",))
        missing.warn_caller(MissingInputs(dropped=("t1",)), None, ("t1",))
    lines = [str(one.message) for one in found]
    assert lines[0] == "T2 missing: segmented without" and len(lines) == 2
    assert lines[1].startswith("FLAIR missing: SYNTHETIC, predicted from T1 and T1Gd")


def test_the_note_of_a_header_names_what_is_missing_and_fits():
    note = missing.header_note(
        "RESEARCH USE ONLY",
        "brats_jax 0.1.0",
        "0123456789abcdef",
        MissingInputs(("t1", "t2"), ("flair",)),
    )
    assert note.endswith("model 01234567; synthetic FLAIR; no T1, T2") and len(note) <= 79
    every = ("t1gd", "t2", "flair")
    whole = missing.header_note(
        "RESEARCH USE ONLY", "brats_jax 0.1.0", "0" * 64, MissingInputs(every)
    )
    assert whole.endswith("no T1Gd, T2, FLAIR") and len(whole) <= 79


def test_modalities_to_leave_out_have_any_spelling_and_are_not_all():
    assert missing.parse_left_out(["T2", "t1ce"]) == ("t1gd", "t2")
    assert missing.parse_left_out("T2,t1ce") == ("t1gd", "t2") and missing.parse_left_out("") == ()
    with pytest.raises(BratsError, match="leaves no modality"):
        missing.parse_left_out(FOUR)
    with pytest.raises(BratsError, match="unknown modality 'ct'"):
        missing.parse_left_out(["ct"])


def test_a_model_of_whole_cases_names_what_is_missing_and_both_remedies(model, example_runs):
    scans = example_scans(example_runs)
    del scans["flair"]
    with pytest.raises(BratsError) as error:
        model.segment(scans)
    line = str(error.value)
    assert line.startswith("'flair' is missing: the model needs t1gd, flair, t2")
    assert "modality_dropout" not in line  # the nearer remedy alone
    assert line.endswith("; or give synthesise=True of brats_jax.load, which " + FIRST_STAGE)
    without = dataclasses_of(model, leave_out=("t2",))
    with pytest.raises(BratsError, match=r"leave_out=t2: .* needs T2; or give .*modality_dropout$"):
        without.segment(example_scans(example_runs))
    without = dataclasses_of(model, leave_out=("flair",))
    with pytest.raises(BratsError, match=f"or give synthesise=True .*{FIRST_STAGE}"):
        without.segment(example_scans(example_runs))
    # Weights that were exported with both stages, or with the segmentation alone.
    tasks = {"reconstruct": SimpleNamespace(model=Pretraining().describe())}
    for given, expected in ((tasks, Synthesis(("t1", "t1gd"), ("flair",))), ({}, None)):
        exported = dataclasses.replace(model.trained, weights=SimpleNamespace(tasks=given))
        assert first_stage_of(exported) == expected


def rows_of(folder) -> list[dict[str, str]]:
    """The rows of the table of volumes in a folder."""
    with (folder / "volumes.csv").open() as file:
        return list(csv.DictReader(file))


def dataclasses_of(model, **changes):
    """A model of the same networks with other arguments."""
    return type(model)(model.trained, **changes)


def example_scans(example_runs) -> dict[str, np.ndarray]:
    folder = example_runs["volume"] / "cases" / CASE
    (case,) = find_cases(folder)
    return {name: np.asarray(nib.load(path).dataobj) for name, path in case.paths.items()}


def test_a_network_for_missing_modalities_takes_each_subset_whatever_the_other_files_hold(
    dropout_run, example_runs, tmp_path
):
    """To the bit the same: left out on purpose, absent, or a file of something else."""
    model = brats_jax.load(dropout_run)
    scans = example_scans(example_runs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = model.segment(scans)
    with pytest.warns(UserWarning, match="^T2 missing: segmented without"):
        model.segment({name: scans[name] for name in ("t1", "t1gd", "flair")})
    answers = []
    for subset in subsets_of(model.inputs):
        given = {name: scans[name] for name in ("t1", *subset)}
        found = model.segment(given)
        left_out = [name for name in model.inputs if name not in subset]
        spoilt = {**scans, **{name: np.full_like(scans[name], 77) for name in left_out}}
        hiding = dataclasses_of(model, leave_out=left_out)
        np.testing.assert_array_equal(hiding.segment(spoilt), found)
        answers.append(found)
    np.testing.assert_array_equal(answers[-1], whole)
    assert len({answer.tobytes() for answer in answers}) == 7
    with pytest.raises(BratsError, match="any one of them is enough"):
        model.segment({"t1": scans["t1"]})

    source = tmp_path / "in"
    shutil.copytree(example_runs["volume"] / "cases" / CASE, source / CASE)
    (source / CASE / f"{CASE}_t2.nii.gz").write_bytes(b"no NIfTI")
    hiding = dataclasses_of(model, leave_out=("t2",))
    outcome, images = examples.run_on(hiding, source, tmp_path / "out")
    (source / CASE / f"{CASE}_t2.nii.gz").unlink()
    _, again = examples.run_on(model, source, tmp_path / "again")
    assert not outcome.failed
    np.testing.assert_array_equal(images[CASE].dataobj, again[CASE].dataobj)
    sidecar = json.loads((tmp_path / "again" / f"{CASE}_seg.json").read_text())
    assert sidecar["missing"] == ["t2"] and "synthetic" not in sidecar
    assert sidecar["notes"][0] == "T2 missing: segmented without"
    assert bytes(again[CASE].header["descrip"]).rstrip(b"\0").endswith(b"; no T2")
    (row,) = rows_of(tmp_path / "again")
    assert (row["missing"], row["synthetic"]) == ("t2", "")
    # The same case with the file there again is another prediction.
    kept, _ = examples.run_on(model, source, tmp_path / "again")
    assert kept.kept[CASE] == "kept"
    shutil.copy(example_runs["volume"] / "cases" / CASE / f"{CASE}_t2.nii.gz", source / CASE)
    kept, _ = examples.run_on(model, source, tmp_path / "again")
    assert "made from other modalities" in kept.kept[CASE]


def test_the_first_stage_fills_in_what_it_predicts_and_every_output_says_so(example_runs, tmp_path):
    run = example_runs["volume"] / "run" / "fold_0"
    model = brats_jax.load(run, synthesise=True)
    scans = example_scans(example_runs)
    del scans["flair"]
    scan = model.scan(scans)
    assert scan.synthetic == ("flair",) and "flair" not in scan.present
    synthetic = brats_jax.load(run, task="reconstruct").synthesise(scan)[0].image
    images = model.normalise(scan)
    brain = (scan.images != 0).any(axis=-1)
    images[..., 3] = np.where(brain, synthetic, 0)
    expected = model.ensemble.segment(images).labels
    np.testing.assert_array_equal(model.predict(scan).labels, expected)

    source = tmp_path / "in"
    shutil.copytree(example_runs["volume"] / "cases" / CASE, source / CASE)
    (source / CASE / f"{CASE}_flair.nii.gz").unlink()
    _, images = examples.run_on(model, source, tmp_path / "out", picture=False)
    sidecar = json.loads((tmp_path / "out" / f"{CASE}_seg.json").read_text())
    assert sidecar["synthetic"] == {"flair": model.synthesiser.hash} and "missing" not in sidecar
    (row,) = rows_of(tmp_path / "out")
    assert (row["missing"], row["synthetic"]) == ("", "flair")
    assert sidecar["notes"][0].startswith("FLAIR missing: SYNTHETIC, predicted from T1 and T1Gd")
    assert b"synthetic FLAIR" in bytes(images[CASE].header["descrip"])
    assert model.facts(scan)["synthetic"] == "FLAIR"

    (source / CASE / f"{CASE}_t2.nii.gz").unlink()
    outcome, _ = examples.run_on(model, source, tmp_path / "other")
    assert "no T2 volume" in outcome.failed[CASE]
    assert "predicts FLAIR from T1 and T1Gd" in outcome.failed[CASE]


def test_a_run_without_a_first_stage_cannot_synthesise(example_runs, dropout_run, tmp_path):
    alone = tmp_path / "run"
    shutil.copytree(dropout_run.parent, alone)
    for fold in alone.glob("fold_*"):
        shutil.rmtree(fold / "pretrain")
    with pytest.raises(BratsError, match="--synthesise needs the first stage of the run"):
        brats_jax.load(alone, synthesise=True)
    with pytest.raises(BratsError, match="leave it out"):
        brats_jax.load(dropout_run, task="reconstruct", synthesise=True)
