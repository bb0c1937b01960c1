"""No command removes or replaces a file that it did not write, or that was edited since."""

import json
import os

import nibabel as nib
import numpy as np
import prediction_examples as examples
import pytest
from report_examples import write_run

from brats_jax.data.sources.phantom.files import write_cases
from brats_jax.errors import BratsError
from brats_jax.evaluation.summary import summarise_run
from brats_jax.inference.earlier_outputs import reason_to_skip
from brats_jax.inference.output_names import OutputOptions
from brats_jax.reporting.page import write_report
from brats_jax.runs.folder import PredictionFolder, RunFolder

NAME = examples.CASES[0]


def correct(path):
    """A reader's correction of labels, saved with nibabel: the note of the program stays."""
    image = nib.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[0, 0, 0] = 1 if labels[0, 0, 0] == 2 else 2  # this model finds tumour in air
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), path)


@pytest.fixture(scope="module")
def predicted(example_runs, tmp_path_factory):
    """A folder with one predicted case, and its source; tests copy it."""
    from brats_jax import inference

    with examples.shallow():
        model = inference.load(example_runs["volume"] / "run" / "fold_0")
        out = tmp_path_factory.mktemp("predicted")
        source = example_runs["volume"] / "cases" / NAME
        examples.run_on(model, source, out, picture=True)
        yield model, source, {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture
def folder(predicted, tmp_path):
    for name, data in predicted[2].items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def again(predicted, folder, **options):
    return examples.run_on(predicted[0], predicted[1], folder, **options)[0]


def test_the_corrections_of_a_reader_are_kept_and_told(predicted, folder, capsys):
    labels = PredictionFolder(folder).segmentation(NAME)
    correct(labels)
    corrected = labels.read_bytes()
    outcome = again(predicted, folder)
    assert outcome.kept[NAME] == f"kept, {labels.name} has changed since this program wrote it"
    told = capsys.readouterr().out
    assert outcome.kept[NAME] in told and "volumes.csv has changed" not in told
    for options in ({"overwrite": True}, {"overwrite": True, "page": True, "et_label": 3}):
        refused = again(predicted, folder, **options)
        assert "it is never replaced; move it away" in refused.failed[NAME]
    assert labels.read_bytes() == corrected


@pytest.mark.parametrize("what", ["picture", "volumes"])
def test_other_edited_files_are_kept(predicted, folder, what, capsys):
    found = PredictionFolder(folder)
    path = found.picture(NAME) if what == "picture" else found.volumes_csv
    path.write_bytes(path.read_bytes()[:-1] + b" edited IEND\xaeB`\x82")
    edited = path.read_bytes()
    outcome = again(predicted, folder, overwrite=True, picture=True)
    assert path.read_bytes() == edited
    told = outcome.failed.get(NAME, "") + capsys.readouterr().out
    assert f"{path} has changed since this program wrote it" in told


def test_a_prediction_of_an_earlier_version_without_hashes_is_kept_if_edited(predicted, folder):
    found = PredictionFolder(folder)
    sidecar = json.loads(found.segmentation_json(NAME).read_text())
    del sidecar["sha256"], sidecar["document_sha256"]
    found.segmentation_json(NAME).write_text(json.dumps(sidecar))
    old = found.segmentation(NAME).stat().st_mtime - 3600
    for path in folder.iterdir():
        os.utime(path, (old, old))
    assert again(predicted, folder).kept[NAME] == "kept"
    correct(found.segmentation(NAME))
    assert "has changed since this program wrote it" in again(predicted, folder).kept[NAME]
    found.segmentation(NAME).write_bytes(predicted[2][found.segmentation(NAME).name])
    os.utime(found.segmentation(NAME), (old, old))
    assert NAME in again(predicted, folder, overwrite=True).written


def test_links_at_the_names_of_a_prediction_are_kept(predicted, folder, tmp_path_factory):
    found, disk = PredictionFolder(folder), tmp_path_factory.mktemp("disk")
    labels = found.segmentation(NAME)
    labels.rename(disk / labels.name)
    labels.symlink_to(disk / labels.name)  # moved to another disk: as it was written
    assert again(predicted, folder).kept[NAME] == "kept"
    assert "is a link, which this" in again(predicted, folder, overwrite=True).failed[NAME]
    (disk / labels.name).unlink()
    for path in (labels, found.segmentation_json(NAME)):
        path.unlink()
        path.symlink_to(disk / "nothing")
        assert "is a link, which this" in again(predicted, folder).failed[NAME]
        assert path.is_symlink() and not (disk / "nothing").exists()
        path.unlink()


def test_labels_without_their_description_are_kept(predicted, folder):
    found = PredictionFolder(folder)
    found.segmentation_json(NAME).unlink()
    for overwrite, reason in ((False, "kept, "), (True, f"{folder}/")):
        options = OutputOptions(overwrite=overwrite)
        try:
            said = reason_to_skip(folder, NAME, predicted[0], options)
        except BratsError as error:
            said = str(error)
        assert said.startswith(f"{reason}{NAME}_seg.nii.gz is there without the description")


def test_an_edited_description_is_named_in_place_of_the_labels(predicted, folder):
    found = PredictionFolder(folder)
    sidecar, labels = found.segmentation_json(NAME), found.segmentation(NAME)
    sidecar.write_text(sidecar.read_text().replace("LPS", "RAS").replace('"WT"', '"XX"', 1))
    kept = again(predicted, folder).kept[NAME]
    assert kept.startswith(f"kept, {sidecar.name} has changed since") and labels.name in kept
    refused = again(predicted, folder, overwrite=True).failed[NAME]
    assert "nothing of this case is replaced; move its files away" in refused
    for path in folder.glob(f"{NAME}*"):
        path.unlink()
    assert NAME in again(predicted, folder).written


def test_labels_that_were_damaged_at_equal_size_are_predicted_again(predicted, folder):
    labels = PredictionFolder(folder).segmentation(NAME)
    whole = labels.read_bytes()
    middle = len(whole) // 2
    labels.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert NAME in again(predicted, folder).written and labels.read_bytes() == whole


def test_a_sidecar_tells_nothing_of_the_machine(predicted):
    for name, data in predicted[2].items():
        assert str(predicted[1].parents[1]).encode() not in data, name


def test_a_killed_command_finds_its_files_again(predicted, folder):
    """Its list of hashes is there before the files, and gone once the case is complete."""
    found = PredictionFolder(folder)
    sidecar = found.segmentation_json(NAME)
    hashes = json.loads(sidecar.read_text())["sha256"]
    ledger = found.ledger_json(sidecar)
    text = {"schema": "brats_jax.files", "version": 1, "files": {n: [h] for n, h in hashes.items()}}
    ledger.write_text(json.dumps(text))
    assert again(predicted, folder).kept[NAME] == "kept" and not ledger.exists()
    ledger.write_text(json.dumps(text))
    sidecar.unlink()
    assert NAME in again(predicted, folder).written
    assert sidecar.exists() and not ledger.exists()


@pytest.mark.parametrize("earlier", [False, True])
def test_a_summary_that_was_edited_is_kept_and_told(tmp_path, capsys, earlier):
    """Also of version 0.1.0, which kept no hashes and wrote the table last."""
    run = RunFolder(write_run(tmp_path / "run", folds=(0,)))
    summarise_run(run, 2)
    whole = run.summary_csv.read_bytes()
    run.summary_csv.write_bytes(whole[:200])  # a copy that was cut short
    summarise_run(run, 2)
    assert run.summary_csv.read_bytes() == whole and capsys.readouterr().out == ""
    if earlier:
        run.ledger_json.unlink()
        old = run.summary_json.stat().st_mtime - 3600
        os.utime(run.summary_json, (old, old))
    run.summary_csv.write_bytes(whole + b"my remark\n")
    for folds in ((0,), (0, 1)):
        write_run(run.path, folds=folds)
        summarise_run(run, 2)
        assert run.summary_csv.read_bytes() == whole + b"my remark\n"
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"{run.summary_csv} was not written by this program, or has changed")
    run.summary_csv.unlink()
    summarise_run(run, 2)
    assert run.summary_csv.read_bytes() != whole and capsys.readouterr().out == ""


def test_a_table_of_the_users_with_the_name_of_the_summary_is_kept(tmp_path, capsys):
    run = RunFolder(write_run(tmp_path / "run", folds=(0,)))
    run.summary_csv.write_text("mine")
    summarise_run(run, 1)
    assert run.summary_csv.read_text() == "mine" and run.summary_json.exists()
    assert f"{run.summary_csv} was not written by this program" in capsys.readouterr().out


@pytest.mark.usefixtures("empty_figures")
def test_a_report_keeps_what_it_did_not_write(tmp_path, capsys):
    run = write_run(tmp_path / "run", folds=(0,))
    write_report(run)
    report = run / "report"
    made = {p.relative_to(run): p.read_bytes() for p in report.rglob("*") if p.is_file()}
    own = {"thesis.tex": "x", "notes.md": "y", "mine.csv": "z", "figures/photo.png": "p"}
    for name, text in own.items():
        (report / name).write_text(text)
    (report / "table_1.csv").write_text("edited")
    (report / "figures" / "gone.svg").write_text("of the user")
    capsys.readouterr()
    write_report(run)
    assert {name: (report / name).read_text() for name in own} == own
    assert (report / "table_1.csv").read_text() == "edited"
    assert (report / "figures" / "gone.svg").exists()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("kept, because") and "report/table_1.csv;" in line
    (report / "table_1.csv").unlink()
    write_report(run)
    assert {p for p in made if p.name != "written.json"} <= {
        p.relative_to(run) for p in report.rglob("*")
    }


@pytest.mark.usefixtures("empty_figures")
def test_a_report_of_an_earlier_version_is_replaced_but_for_later_edits(tmp_path, capsys):
    """It removed all files of its endings and wrote the page last: later ones are not its own."""
    run = write_run(tmp_path / "run", folds=(0,))
    page, _ = write_report(run)
    report, old = run / "report", page.stat().st_mtime - 3600
    (report / "written.json").unlink()
    for path in [*report.rglob("*.*"), page]:
        os.utime(path, (old, old))
    (report / "left.csv").write_text("of a table that is no more")
    os.utime(report / "left.csv", (old, old))
    (report / "table_1.md").write_text("edited")
    (report / "thesis.tex").write_text("mine")
    capsys.readouterr()
    write_report(run)
    assert (report / "table_1.md").read_text() == "edited" and (report / "thesis.tex").exists()
    assert page.stat().st_mtime > old and not (report / "left.csv").exists()
    assert "report/table_1.md;" in capsys.readouterr().out


def test_phantom_cases_are_completed_beside_files_that_were_edited(tmp_path):
    options = {"patients": 1, "shape": (16, 32, 32)}
    (case,) = write_cases(tmp_path, **options)
    files = sorted(case.iterdir())
    before = [path.read_bytes() for path in files]
    files[2].unlink()
    write_cases(tmp_path, **options)
    assert [path.read_bytes() for path in files] == before
    files[0].write_bytes(b"edited")
    files[2].unlink()
    with pytest.raises(BratsError, match="is there and is not what this command writes: kept"):
        write_cases(tmp_path, **options)
    assert files[0].read_bytes() == b"edited" and not files[2].exists()


@pytest.mark.parametrize("text", ["mine", '{"notes": "mine"}'])
def test_somebody_elses_description_of_a_case_is_kept(predicted, tmp_path, text):
    path = PredictionFolder(tmp_path).segmentation_json(NAME)
    path.write_text(text)
    with pytest.raises(BratsError, match="was not written by this program, which writes its desc"):
        reason_to_skip(tmp_path, NAME, predicted[0], OutputOptions())
    assert path.read_text() == text
