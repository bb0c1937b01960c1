"""Fitted sizes are used where the user gives none, and only by the networks that they belong to."""

import dataclasses
import json
import re
import shutil

import nibabel
import numpy as np
import prediction_examples as examples
import pytest
from document_examples import cleaning_of, sizes_of

from brats_jax import inference
from brats_jax.errors import BratsError
from brats_jax.inference import weights_writer
from brats_jax.inference.chosen_cleaning import chosen_cleaning
from brats_jax.inference.output_names import OutputOptions
from brats_jax.inference.postprocess import Cleaning
from brats_jax.inference.prediction import predict
from brats_jax.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("shallow")

BOTH = ("min_component_mm3", "min_et_mm3")


@pytest.fixture
def run(example_runs, model, tmp_path):
    """The example run with sizes that were fitted to it."""
    run = shutil.copytree(example_runs["volume"] / "run", tmp_path / "run")
    hashes = [member.hash for member in model.trained.members]
    cleaning_of(sizes_of(30.0, 8.0), *hashes).write(RunFolder(run).cleaning_json)
    return run


def cleaning(run, **sizes):
    """The cleaning, the names of its fitted sizes, and the notes on it."""
    found = inference.load(run, **sizes)
    notes = [note for note in found.trained.notes if "cleaning" in note]
    return found.cleaning, found.cleaning.fitted, notes


def test_sizes_of_the_user_come_first_and_those_of_other_weights_are_not_used(run):
    assert cleaning(run / "fold_1") == (Cleaning(30, 8), BOTH, [])
    assert cleaning(run / "fold_1", min_et_mm3=0) == (Cleaning(30, 0), BOTH[:1], [])
    path = RunFolder(run).cleaning_json
    path.write_text(
        path.read_text().replace("30.0", "31.0")
    )  # not read, where nothing is needed from it
    assert cleaning(run / "fold_1", min_component_mm3=0, min_et_mm3=0) == (Cleaning(), (), [])
    given = {"min_component_mm3": 0, "min_et_mm3": 3, "clear_air": False}
    assert cleaning(run / "fold_1", **given) == (Cleaning(0, 3), (), [])
    with pytest.raises(BratsError, match=r"\.json: it has changed .* or switch it off with"):
        cleaning(run / "fold_1")
    cleaning_of(sizes_of(30.0, 8.0), "other").write(path)
    found, fitted, (note,) = cleaning(run / "fold_1")
    assert (found, fitted) == (Cleaning(), ())
    assert "fitted to other weights, and not used: " in note and "cleaning.json; run python" in note
    assert inference.load(run / "fold_1", task="reconstruct").cleaning == Cleaning()


def test_tumour_in_air_is_removed_where_the_fit_says_so(run, model, example_runs, capsys):
    hashes = [member.hash for member in model.trained.members]
    sizes = sizes_of(0.0, 8.0, clear_air=True)
    cleaning_of(sizes, *hashes).write(RunFolder(run).cleaning_json)
    assert cleaning(run) == (Cleaning(0, 8, clear_air=True), (*BOTH, "clear_air"), [])
    # Also with sizes of the user's, but not where these switch the cleaning off.
    given = {"min_component_mm3": 1, "min_et_mm3": 0}
    assert cleaning(run, **given) == (Cleaning(1, clear_air=True), ("clear_air",), [])
    assert cleaning(run, min_component_mm3=0, min_et_mm3=0) == (Cleaning(), (), [])
    assert cleaning(run, clear_air=False) == (Cleaning(0, 8), BOTH, [])
    assert cleaning(run, min_component_mm3=0, min_et_mm3=0, clear_air=True)[:2] == (
        Cleaning(clear_air=True),
        (),
    )


def test_no_label_in_air_is_left_in_files_and_volumes(run, example_runs, tmp_path, capsys):
    """The network of the example, with random weights, labels air as tumour."""
    name = examples.CASES[0]
    source, out = example_runs["volume"] / "cases" / name, tmp_path / "out"
    predict(run, str(source), out, OutputOptions(), clear_air=True)
    assert "of the predicted tumour lay in air" in capsys.readouterr().out
    images = [
        nibabel.load(path).get_fdata()
        for path in source.glob("*.nii.gz")
        if "_seg" not in path.name
    ]
    air = ~np.any(images, axis=0)
    labels = nibabel.load(out / f"{name}_seg.nii.gz").get_fdata()
    assert labels.any() and not labels[air].any()
    document = json.loads((out / f"{name}_seg.json").read_text())
    assert document["clear_air"] is True
    whole = document["volumes_ml"]["WT"]
    assert whole["ml"] == pytest.approx((labels > 0).sum() / 1000)
    brain_ml = np.count_nonzero(~air) / 1000
    assert whole["high_ml"] <= brain_ml < labels.size / 1000  # of the folds as well
    kept = predict(run, str(source), out, OutputOptions(), clear_air=False)
    assert kept.kept == {name: "kept, made with other settings; --overwrite replaces it"}


def test_a_note_says_where_sizes_were_fitted_to_another_average(run, model):
    (note,) = cleaning(run, tta=True)[2]
    fact = (
        "the sizes of the cleaning were fitted to predictions in axial slices, and are used for "
        "ones averaged over flips in axial slices"
    )
    both = "--min_component_mm3 and --min_et_mm3"
    assert note == f"{fact}: give {both} that fit these, or 0 for no cleaning"
    assert inference.load(run, tta=True).cleaning.note == fact  # in the files of a case
    (note,) = cleaning(run, tta=True, min_et_mm3=3)[2]
    assert note == f"{fact}: give --min_component_mm3 that fits these, or 0 for no cleaning"
    assert cleaning(run, tta=True, min_component_mm3=0, min_et_mm3=0)[2] == []
    trained = inference.load(run).trained
    record = dataclasses.replace(trained.record, other_planes=("coronal", "sagittal"))
    for planes, words in (
        (("coronal",), "ones in coronal slices"),
        (("axial", "coronal"), "ones averaged over planes"),
    ):
        other = dataclasses.replace(trained, record=record, chosen_planes=planes)
        assert chosen_cleaning(other, None, None)[0].note.endswith(
            f"axial slices, and are used for {words}"
        )
    hashes = [member.hash for member in model.trained.members]
    flipped = dataclasses.replace(sizes_of(30.0, 8.0), tta=True)
    cleaning_of(flipped, *hashes).write(RunFolder(run).cleaning_json)
    assert cleaning(run, tta=True)[2] == []
    assert "fitted to predictions averaged over flips in axial slices, and" in cleaning(run)[2][0]


def test_an_average_takes_the_sizes_that_were_fitted_to_it(run, model, tmp_path):
    hashes = [member.hash for member in model.trained.members]
    folder = RunFolder(run)
    flips = sizes_of(50.0, 100.0, tta=True)
    cleaning_of(flips, *hashes).write(folder.cleaning_of(("axial",), tta=True))
    assert cleaning(run) == (Cleaning(30, 8), BOTH, [])
    assert cleaning(run, tta=True) == (Cleaning(50, 100), BOTH, [])
    # The same in exported weights.
    one = dataclasses.replace(model.trained, members=model.trained.members[:1])
    options = weights_writer.WeightsOptions(cleanings=(sizes_of(30.0, 8.0), flips), card=True)
    weights_writer.write(one, tmp_path / "weights", options)
    assert cleaning(tmp_path / "weights", tta=True) == (Cleaning(50, 100), BOTH, [])
    assert cleaning(tmp_path / "weights") == (Cleaning(30, 8), BOTH, [])
    card = (tmp_path / "weights" / "README.md").read_text()
    assert "### Cleaning\n" in card and "### Cleaning with `--tta`\n" in card
    # Planes count, not their order.
    trained = inference.load(run).trained
    record = dataclasses.replace(trained.record, other_planes=("coronal", "sagittal"))
    planes = sizes_of(70.0, 9.0, planes="axial,coronal,sagittal")
    cleaning_of(planes, *hashes).write(folder.cleaning_of(record.planes, tta=False))
    for chosen, component in (
        (("axial", "coronal", "sagittal"), 70),
        (("sagittal", "coronal", "axial"), 70),
        ((), 30),
    ):
        other = dataclasses.replace(trained, record=record, chosen_planes=chosen)
        found, note = chosen_cleaning(other, None, None)
        assert (found.min_component_mm3, note) == (component, "")
    # Without sizes of its own, an average takes those of the run, and a note says so.
    other = dataclasses.replace(trained, record=record, chosen_planes=("coronal",))
    found, note = chosen_cleaning(other, None, None)
    assert found.min_component_mm3 == 30 and note.startswith("the sizes of the cleaning were")
    # Sizes of another training are named.
    cleaning_of(planes, "other").write(folder.cleaning_of(record.planes, tta=False))
    note = chosen_cleaning(trained, None, None)[1]
    assert "not used: " in note and "cleaning_axial_coronal_sagittal.json; run" in note


def test_the_mean_of_runs_has_no_tumour_in_air_if_the_fits_of_all_say_so(run, model, tmp_path):
    hashes = [member.hash for member in model.trained.members]
    trained = inference.load(run).trained
    both = dataclasses.replace(trained, others=(trained,))
    for clears, asked, expected in (
        (False, {}, Cleaning()),
        (True, {}, Cleaning(clear_air=True)),
        (True, {"clear_air": False}, Cleaning()),
    ):
        sizes = sizes_of(30.0, 8.0, clear_air=clears)  # the sizes themselves fit one run alone
        cleaning_of(sizes, *hashes).write(RunFolder(run).cleaning_json)
        assert chosen_cleaning(both, None, None, **asked)[0] == expected
        assert chosen_cleaning(both, 0, 0)[0] == Cleaning()
    other = shutil.copytree(run, tmp_path / "other")
    RunFolder(other).cleaning_json.unlink()
    mixed = dataclasses.replace(trained, others=(inference.load(other).trained,))
    assert chosen_cleaning(mixed, None, None)[0] == Cleaning()


def test_predictions_say_which_sizes_were_fitted(run, example_runs, tmp_path, capsys):
    name, run = examples.CASES[0], run / "fold_1"
    source, out = str(example_runs["volume"] / "cases" / name), tmp_path / "out"
    predict(run, source, out, OutputOptions())
    line = "components below 30 mm3 are removed (fitted), ET below 8 mm3 becomes NCR/NET (fitted)"
    assert line in capsys.readouterr().out
    document = json.loads((out / f"{name}_seg.json").read_text())
    assert [document[size] for size in BOTH] == [30, 8] and document["fitted"] == [*BOTH]
    # The same sizes, given: the prediction is the same.
    again = predict(run, source, out, OutputOptions(), min_component_mm3=30, min_et_mm3=8)
    assert again.kept == {name: "kept"}
    off = predict(run, source, out, OutputOptions(), min_component_mm3=0, min_et_mm3=0)
    assert off.kept == {name: "kept, made with other settings; --overwrite replaces it"}
    # A note on the case where nothing is left.
    predict(run, source, tmp_path / "none", OutputOptions(), min_component_mm3=1e7)
    line = capsys.readouterr().out
    assert "WT 0.0 ml" in line and "cleaning left nothing of " in line
    document = json.loads((tmp_path / "none" / f"{name}_seg.json").read_text())
    assert "ml of WT (components below 10000000 mm3 are removed" in document["notes"][-1]


def test_the_note_on_another_average_is_in_every_result_and_once_on_the_terminal(
    run, example_runs, tmp_path, capsys
):
    name = examples.CASES[0]
    source, out = str(example_runs["volume"] / "cases" / name), tmp_path / "out"
    note = "the sizes of the cleaning were fitted to predictions in axial slices, and are used for"
    predict(run / "fold_1", source, out, OutputOptions(page=True), tta=True)
    assert capsys.readouterr().out.count(note) == 1
    document = json.loads((out / f"{name}_seg.json").read_text())
    assert len([one for one in document["notes"] if one.startswith(note)]) == 1
    page = (out / f"{name}_seg.html").read_text()
    assert re.search(rf"<h2[^>]*>Notes? on this case</h2>\s*<ul>.*<li>[^<]*{note}", page)
    # Not where the average is the same.
    predict(run / "fold_1", source, tmp_path / "same", OutputOptions())
    assert note not in (tmp_path / "same" / f"{name}_seg.json").read_text()


def test_the_page_of_a_case_says_which_sizes_were_fitted(model, example_runs):
    scan = model.scan(str(example_runs["volume"] / "cases" / examples.CASES[0]))
    cleaned = inference.Model(
        model.trained, cleaning=Cleaning(30, 8, clear_air=True, fitted=BOTH[:1])
    )
    assert cleaned.facts(scan)["cleaning"] == (
        "tumour in air is removed; connected parts of the tumour below 30 mm³ are removed "
        "(fitted on held-out patients); ET becomes NCR/NET if the case has less than 8 mm³ of it"
    )
    assert "fitted" not in inference.Model(model.trained).describe_case(scan)


def test_the_sizes_go_with_exported_weights(model, tmp_path):
    sizes = sizes_of(30.0, 8.0)
    first, second = tmp_path / "first", tmp_path / "second"
    one = dataclasses.replace(model.trained, members=model.trained.members[:1])
    weights_writer.write(one, first, weights_writer.WeightsOptions(cleanings=(sizes,)))
    assert cleaning(first) == (Cleaning(30, 8), BOTH, [])
    assert cleaning(first, min_component_mm3=0, min_et_mm3=0) == (Cleaning(), (), [])
    # Exported again, with a card; and left out where there are none.
    again = inference.load(first).trained
    weights_writer.write(again, second, weights_writer.WeightsOptions(card=True))
    assert cleaning(second) == (Cleaning(30, 8), BOTH, [])
    assert "By default components below 30 mm3 are removed" in (second / "README.md").read_text()
    weights_writer.write(one, second, weights_writer.WeightsOptions())
    assert '"cleaning"' not in (second / "config.json").read_text()
