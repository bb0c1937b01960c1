"""Arms that are compared, arms that cannot be, and evaluations that must not be mixed."""

import json
import re

import pytest
from report_examples import write_run
from report_pages import read, secondary, table, write_both

from brats_jax.runtime.files import write_json

pytestmark = pytest.mark.usefixtures("empty_figures")


def test_a_split_by_slice_is_named_in_every_caption(tmp_path):
    parsed, words = read(write_both(tmp_path, split_by="slice"))
    assert not parsed.wrong and not parsed.open
    assert "every test score is too good" in words
    captions = re.findall(r"(?:Ours|Our baseline|Ours with SSL): test set of [^;]*;", words)
    assert len(captions) > 5
    leak = "split by slice, the same patients in training and test"
    assert all(leak in caption for caption in captions), captions
    # The audit names the leak. Metrics of whole volumes are named as missing.
    audit = table(tmp_path, "splits")
    assert [row["Audit"] for row in audit] == ["LEAKS"]
    assert audit[0]["Patients in both training, test"] == "6"
    assert "No volumes in 3D" in words and "3D Dice" not in words
    assert "by patient, 3D" not in words
    assert {row["Quantity"] for row in table(tmp_path, "primary_comparisons")} == {
        "slice Dice of WT", "slice Dice of TC", "slice Dice of ET",
    }  # fmt: skip


def test_an_average_over_tumour_slices_is_marked_beside_the_papers(tmp_path):
    parsed, words = read(write_both(tmp_path, slices="tumour"))
    assert not parsed.wrong and not parsed.open
    # Four of six slices of each patient hold tumour.
    assert "6 patients, 24 slices with tumour, split by patient" in words
    assert "Only slices with tumour were evaluated" in words
    assert "OURS AVERAGED OVER SLICES WITH TUMOUR ONLY" in words
    # A ceiling over all slices and volumes would need every slice.
    assert not (tmp_path / "report" / "ceiling.csv").exists()
    assert not list((tmp_path / "report").glob("volumes_*"))
    heads = table(tmp_path, "dice_dice_ce")[0]
    assert not any("all slices" in head or "3D" in head for head in heads), heads
    assert not any("paper" in row["Quantity"] for row in secondary(tmp_path))


def test_arms_without_a_common_fold_are_named_as_not_compared(tmp_path):
    write_run(tmp_path / "ssl", ssl=True, folds=(0,))
    write_run(tmp_path / "base", ssl=False, folds=(1,))
    _, words = read(tmp_path)
    assert "Not compared: Dice + CE, SSL, and its baseline" in words
    assert not (tmp_path / "report" / "primary_comparisons.csv").exists()


def test_unreadable_tallies_are_given_as_the_reason_for_no_comparison(tmp_path):
    for tally in write_both(tmp_path).glob("*/fold_0/tally_segment.npz"):
        tally.write_bytes(b"PK")
    _, words = read(tmp_path)
    assert "not compared: the numbers by patient of 2 evaluated trainings cannot be read" in words
    assert "remove it, and give the command that trained again" in words


def test_patients_left_out_of_a_comparison_are_counted(tmp_path):
    write_both(tmp_path)
    _, words = read(tmp_path)
    # The first patient has no ET, and its ASD is not defined.
    rows = {row["Quantity"]: row["n patients"] for row in secondary(tmp_path)}
    assert rows["3D ASD of ET (mm)"] == "5" and rows["3D ASD of WT (mm)"] == "6"
    sentence = words[words.index("Dice + CE: 3D ASD of ET:") :].split("3D ASD")[1]
    assert "5 patients are too few" in sentence
    assert "1 patient left out without both values" in sentence
    sentence = words[words.index("Dice + CE: 3D ASD of WT:") :].split("sign-flip")[0]
    assert "n = 6 patients;" in sentence


def test_only_folds_and_seeds_of_both_arms_are_compared(tmp_path):
    write_run(tmp_path / "ssl", ssl=True, folds=(0, 1, 2), patients=6)
    write_run(tmp_path / "base", ssl=False, folds=(0, 2), patients=6)
    _, words = read(tmp_path)
    assert (
        "Dice + CE, SSL, and its baseline are compared in the 2 of 3 folds and seeds that" in words
    )
    start = words.index("chosen in advance.")
    assert words[start:].startswith(
        "chosen in advance. Ours: test set of 6 patients, 36 slices, split by patient; mean over "
        "folds 0 and 2."
    )


def test_evaluations_over_different_slices_are_not_compared(tmp_path):
    """--mode=evaluate may change the slices after the start of a run."""
    write_run(tmp_path / "ssl", ssl=True, patients=6)
    write_run(tmp_path / "base", ssl=False, patients=6, slices="tumour")
    path = tmp_path / "base" / "config.json"
    document = json.loads(path.read_text())
    document["config"]["evaluation"]["slices"] = "all"
    del document["sha256"]
    write_json(path, document)
    _, words = read(tmp_path)
    assert not (tmp_path / "report" / "primary_comparisons.csv").exists()
    assert "evaluation.slices = tumour" in words


@pytest.mark.parametrize(
    ("devices", "apart"),
    [("1 x cpu", False), ("1 x NVIDIA H100", True)],
    ids=["float32", "bfloat16"],
)
def test_a_run_of_an_earlier_version_is_another_arm_only_if_it_computed_in_bfloat16(
    tmp_path, devices, apart
):
    """Earlier versions lack the setting: all their epochs are in one type."""
    for name in ("ssl", "base"):
        write_run(tmp_path / name, ssl=name == "ssl", patients=6)
        path = tmp_path / name / "config.json"
        document = {**json.loads(path.read_text()), "devices": devices, "sha256": ""}
        if name == "base":
            del document["config"]["train"]["float32_epochs"]
        write_json(path, document)
    _, words = read(tmp_path)
    assert (tmp_path / "report" / "primary_comparisons.csv").exists() != apart
    assert ("baseline (train.float32_epochs = 0)" in words) == apart


def test_quantities_with_one_patient_or_none_are_named_as_not_tested(tmp_path):
    for ssl in (True, False):  # the only patient has no ET
        write_run(tmp_path / ("ssl" if ssl else "base"), ssl=ssl, patients=1)
    _, words = read(tmp_path)
    assert "none of 3 comparisons could be tested: too few patients have values." in words
    assert "3D Dice of WT: not tested, as there is one patient only" in words
    assert "3D ASD of ET: not compared, as no patient has a value under both SSL and the" in words
    row = next(r for r in secondary(tmp_path) if r["Quantity"] == "3D ASD of ET (mm)")
    assert (row["n patients"], row["Found"], row["p (Holm)"]) == ("0", "not tested", "")
