"""The card of a model states what it is, what it scored, and how to make it again."""

import dataclasses
import json
import re

import pytest
from document_examples import sizes_of

from brats_jax.about import RESEARCH_USE_ONLY
from brats_jax.inference.model_card import card
from brats_jax.runs.documents import FoldsScore, TrainingFacts
from brats_jax.runs.documents.subsets import SubsetMean
from brats_jax.runs.documents.weights import (
    CardOptions,
    SavedFold,
    SavedNetworks,
    StatedScores,
    WeightsDocument,
)

DICE = FoldsScore(
    *("segment", "patient", "volumes", "WT", "dice", "brats2020"),
    mean=0.81234,
    sd_over_folds=0.01,
    folds=2,
    count=7,
)
SCORES = StatedScores(2, 7, "patient", (), (DICE,))
FOLDS = tuple(
    SavedFold(
        k, f"hash{k}", 7, 1, 0.5, TrainingFacts("patient", normalisation="volume"), 1.25, 9, 90
    )
    for k in (0, 1)
)
MODEL = {
    "task": "segment",
    "inputs": ["t1", "t1gd", "t2", "flair"],
    "outputs": ["background", "NCR/NET", "ED", "ET"],
    "width": 16,
}
NETWORKS = SavedNetworks(
    *(MODEL, "bfloat16", "abc", "def", FOLDS, {"seed": 3}),
    sources=("nifti",),
    seen=("1", "2"),
    notes=("fold 2 is left out",),
    scores=SCORES,
)
DOCUMENT = WeightsDocument(
    *("brats_jax", "brats_jax", RESEARCH_USE_ONLY, {"segment": NETWORKS}),
    sha256={"model.safetensors": "f00"},
    brats_jax="0.2",
    card=CardOptions(command="bash launch/demo.sh", text="## Terms\n\nOf the data."),
)


def front_matter(text):
    """The YAML facts; each line is a key and a value in JSON."""
    block = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1]
    pairs = (line.split(": ", 1) for line in block.splitlines())
    return {key: json.loads(value) for key, value in pairs}


def test_the_front_matter_has_what_a_hub_reads():
    facts = front_matter(card(DOCUMENT, "folder"))
    assert facts["library_name"] == "brats_jax" and facts["license"] == "other"
    assert facts["pipeline_tag"] == "image-segmentation" and facts["metrics"] == ["dice"]
    assert {"mri", "research-use-only"} <= {*facts["tags"]}
    (index,) = facts["model-index"]
    (result,) = index["results"]
    assert index["name"] == "folder"
    assert result["metrics"] == [{"type": "dice", "name": "3D Dice, WT", "value": 0.8123}]
    licensed = dataclasses.replace(DOCUMENT, card=CardOptions(license="cc-by-nc-4.0"))
    facts = front_matter(card(licensed, "folder"))
    assert facts["license"] == "cc-by-nc-4.0" and "license_name" not in facts


def test_the_front_matter_is_yaml():
    yaml = pytest.importorskip("yaml")
    text = card(dataclasses.replace(DOCUMENT, name='a: "b" #c'), "folder")
    block = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1]
    assert yaml.safe_load(block) == front_matter(text)


def test_the_text_states_the_facts_of_the_run():
    text = card(DOCUMENT, "folder")
    for wanted in (
        RESEARCH_USE_ONLY,
        "| input | T1, T1Gd, T2, FLAIR |",
        "| patients trained on | 9 |",
        "| temperatures | 1.250, 1.250 |",
        "| persons in the training and validation sets | 2 |",
        "Note: fold 2 is left out.",
        "Mean over 2 trainings of this model, each evaluated alone on patients that it has not",
        "not seen, 7 in all; split by patient. An empty region counts as in BraTS 2020.",
        "| 3D Dice, WT | 0.812 | 0.010 | 7 |",
        "bash launch/demo.sh",
        "## Terms\n\nOf the data.",
        '"seed": 3',
        "`f00`",
    ):
        assert wanted in text, wanted


def test_the_cleaning_is_stated_with_the_scores_without_and_with_it():
    def cleaning(**changes):
        networks = dataclasses.replace(NETWORKS, cleaning=sizes_of(500, 200, **changes))
        text = card(dataclasses.replace(DOCUMENT, tasks={"segment": networks}), "folder")
        return text.partition("### Cleaning")[2]

    text = cleaning()
    for wanted in (
        "By default components below 500 mm3 are removed, ET below 200 mm3 becomes NCR/NET; "
        "`--min_component_mm3=0 --min_et_mm3=0` switches it off.",
        "Measured on 5 patients in a cross-validation of 2 trainings, those of each fold cleaned",
        "| 3D Dice, ET | 0.600 | 0.750 |",
        "| HD95, median (mm), WT | 9.0 | 4.0 |",
        "| predictions with more than 0.2 ml of ET, of 2 for cases without ET | 2 | 1 |",
    ):
        assert wanted in text, wanted
    networks = dataclasses.replace(NETWORKS, cleaning=sizes_of(500, 200))
    facts = front_matter(card(dataclasses.replace(DOCUMENT, tasks={"segment": networks}), "folder"))
    metrics = facts["model-index"][0]["results"][0]["metrics"]
    assert {"type": "dice", "name": "3D Dice, ET, with cleaning", "value": 0.75} in metrics
    assert metrics[0]["name"] == "3D Dice, WT" and len(metrics) == 7
    kept = cleaning(clear_air=True)
    assert "By default tumour in air is removed, components below 500" in kept
    assert "tumour in air:" not in kept
    assert "of labels with their tumour in air: they were computed before the" in cleaning(
        clear_air=True, scores_keep_air=True
    )
    air_alone = cleaning(clear_air=True, min_component_mm3=0, min_et_mm3=0)
    assert "By default tumour in air is removed; `--min_component_mm3=0" in air_alone
    assert "No size gained in the fit.\n" in air_alone and "smaller altogether" not in air_alone
    lower = "the mean of these Dice is lower with the cleaning"
    assert lower not in text
    worse = sizes_of(500, 200)
    assert lower in cleaning(before=worse.after, after=worse.before)
    other = cleaning(measured_on="test", same_weights=False, min_component_mm3=0, min_et_mm3=0)
    assert "None: no size gained in the fit." in other
    assert "of the test set, who had no part in the fit; mean over 2 other trainings." in other
    assert "### Cleaning" not in card(DOCUMENT, "folder")


def test_each_average_has_its_cleaning_in_the_card():
    planes = sizes_of(2000, 0, planes="axial,coronal,sagittal")
    uncounted = dataclasses.replace(planes.after, invented_et=None)
    planes = dataclasses.replace(planes, before=uncounted, after=uncounted)
    networks = dataclasses.replace(NETWORKS, cleaning=sizes_of(500, 200), other_cleanings=(planes,))
    text = card(dataclasses.replace(DOCUMENT, tasks={"segment": networks}), "folder")
    _, first, second = text.split("### Cleaning")
    assert first.startswith("\n\nBy default components below 500 mm3")
    assert second.startswith(
        " with `--planes=axial,coronal,sagittal`\n\nWith `--planes=axial,coronal,sagittal` "
        "components below 2000 mm3 are removed; `--min"
    )
    assert "Fitted and measured in the same way; predictions averaged over planes.\n" in second
    other = dataclasses.replace(planes, patients=9)
    networks = dataclasses.replace(networks, other_cleanings=(other,))
    text = card(dataclasses.replace(DOCUMENT, tasks={"segment": networks}), "folder")
    assert "Fitted on 9 patients, each predicted" in text.split("### Cleaning")[2]
    assert "more than 0.2 ml of ET" in first and "more than 0.2 ml" not in second
    names = [one["name"] for one in front_matter(text)["model-index"][0]["results"][0]["metrics"]]
    assert len(names) == len(set(names)) == 13
    assert "3D Dice, ET, with cleaning, predictions averaged over planes" in names


def test_numbers_of_other_trainings_and_leaking_splits_are_named():
    def numbers(**changes):
        scores = dataclasses.replace(SCORES, **changes)
        networks = dataclasses.replace(NETWORKS, scores=scores)
        return card(dataclasses.replace(DOCUMENT, tasks={"segment": networks}), "folder")

    assert "Mean over 2 other trainings with the same settings, each" in numbers(same_weights=False)
    other = numbers(same_weights=False, other_settings=("loss",))
    assert "Mean over 2 other trainings with the same settings but for loss, each" in other
    assert "the numbers are too good" in numbers(split_by="slice")
    assert "split by patient; predictions averaged over flips (`--tta`). An" in numbers(tta=True)
    silent = dataclasses.replace(NETWORKS, scores=None)
    text = card(dataclasses.replace(DOCUMENT, tasks={"segment": silent}), "folder")
    assert "Not evaluated" in text and "model-index" not in text


def test_a_card_names_the_fusion_and_that_modalities_may_be_missing():
    fused = {**MODEL, "fusion": "attention", "fusion_weights": "own", "modality_dropout": 0.5}
    networks = dataclasses.replace(NETWORKS, model=fused)
    text = card(dataclasses.replace(DOCUMENT, tasks={"segment": networks}), "name")
    assert "| fusion of modalities | attention, own weights |" in text
    assert "| missing modalities | any of the input may be missing |" in text
    plain = card(DOCUMENT, "name")
    assert "fusion of" not in plain and "missing modalities" not in plain


def test_a_card_has_the_dice_from_each_subset_of_the_modalities():
    rows = tuple(
        SubsetMean(subset, of, mean, None, None, 2, 7)
        for of, means in (("WT", (0.5, 0.75, 0.625)), ("ET", (0.25, None, 0.1)))
        for subset, mean in zip((("t1",), ("t1gd", "flair"), ()), means, strict=True)
    )
    scores = dataclasses.replace(SCORES, subsets=rows)
    networks = dataclasses.replace(NETWORKS, scores=scores)
    text = card(dataclasses.replace(DOCUMENT, tasks={"segment": networks}), "name")
    (section,) = re.findall(r"### Missing modalities\n(.*?)\n\n#", text, re.DOTALL)
    assert "mean over 7 patients who have all of them. An empty region" in section
    assert section.endswith(
        "| modalities | WT | ET |\n|---|---|---|\n| T1 | 0.500 | 0.250 |\n"
        "| FLAIR, T1Gd | 0.750 |  |\n| mean of the 2 subsets | 0.625 | 0.100 |"
    )
    assert "### Missing modalities" not in card(DOCUMENT, "name")


def test_a_card_names_the_planes_of_the_training():
    record = TrainingFacts("patient", normalisation="volume", other_planes=("coronal", "sagittal"))
    folds = tuple(dataclasses.replace(fold, record=record) for fold in FOLDS)
    config = {"seed": 3, "data": {"store": "", "other_planes": ""}}  # as the document has them
    networks = dataclasses.replace(NETWORKS, folds=folds, config=config)
    text = card(dataclasses.replace(DOCUMENT, tasks={"segment": networks}), "name")
    row = "| slices | axial, coronal, sagittal; predicts in axial ones, `--planes=all` averages"
    assert row in text
    # Among the settings, too, which are without paths.
    settings = json.loads(re.search(r"```json\n(.*?)\n```", text, re.DOTALL)[1])
    assert settings == {"seed": 3, "data": {"store": "", "other_planes": "coronal, sagittal"}}
    assert "without paths: other_planes names planes, not stores)" in text
    assert config["data"]["other_planes"] == ""
    # An earlier version has no such setting, and a training of one plane no others.
    for networks in (
        dataclasses.replace(NETWORKS, folds=folds),
        dataclasses.replace(NETWORKS, config=config),
    ):
        text = card(dataclasses.replace(DOCUMENT, tasks={"segment": networks}), "name")
        (settings,) = re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)
        assert json.loads(settings) == networks.config and "without paths)" in text
    assert "| slices |" not in card(DOCUMENT, "name")
