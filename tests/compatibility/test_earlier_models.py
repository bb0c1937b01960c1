"""Stores, models and exported programs of commit a5fd08e: the same data, the same predictions."""

import dataclasses
import json
import shutil

import compatibility_examples as examples
import numpy as np
import pytest
import unlabelled_examples
from compatibility_examples import PROSE, SAME_WEIGHTS, assert_same

from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store


@pytest.mark.parametrize("name", examples.STORES)
def test_a_store_is_verified_and_prepared_again_with_the_same_labels(left, run, name):
    assert "files are as they were written" in run("prepare", f"--store={name}", "--verify")
    run("prepare", f"--store=again_{name}", *examples.STORES[name])
    unlike = (*examples.NEW_FACTS, *examples.OF_PHANTOMS)
    assert_same(left / name, left / f"again_{name}", SAME_WEIGHTS, without=unlike)


def test_a_source_is_added_to_a_store_which_its_runs_still_know(left, tmp_path):
    path = shutil.copytree(left / "store", tmp_path / "store")
    before = Store.open(path)
    assert before.labelled.all() and before.present.all()
    fingerprint, images = before.fingerprint, before.read(range(8))[0]
    case = unlabelled_examples.made_cases(1)[0]
    case = dataclasses.replace(
        case,
        images=case.images[:, :40, :32],
        labels=None,
        label_kind="none",
    )
    more = unlabelled_examples.source_of(case)
    prepare(["phantom", more], path, patients=6, seed=0, shape=(16, 40, 32), workers=1)
    grown = Store.open(path)
    assert grown.patients == [*before.patients, case.patient] and not grown.labelled[-1]
    kept = grown.as_of(fingerprint)
    assert kept.patients == before.patients and kept.fingerprint == fingerprint
    np.testing.assert_array_equal(kept.read(range(8))[0], images)


def test_labels_and_axes_of_phantom_cases_are_the_same(left, run):
    run("phantom", "--cases=phantom_again", *examples.PHANTOM_CASES)
    unlike = examples.OF_PHANTOMS
    assert_same(left / "phantom", left / "phantom_again", SAME_WEIGHTS, without=unlike)


@pytest.mark.parametrize("name", examples.PREDICTIONS)
def test_predictions_are_the_same(left, run, name):
    run("predict", f"--output={name}", *examples.PREDICTIONS[name])
    assert_same(left / "expected" / name, left / name, SAME_WEIGHTS)


def test_cases_that_were_predicted_are_kept(left, run):
    printed = run("predict", "--output=expected/resampled", *examples.PREDICTIONS["resampled"])
    assert "0 written, 1 kept, 0 failed" in printed


@pytest.fixture(scope="module")
def images(left):
    path = left / "images.npy"
    np.save(path, examples.read_images(left / "cases"))
    return path


@pytest.mark.parametrize("task", examples.EXPORTS)
def test_an_exported_program_still_gives_the_same(left, images, shared_folder, task):
    output = left / f"{task}.npy"
    examples.call_exported(left / f"exported/{task}.stablehlo", images, output, shared_folder)
    assert_same(left / f"expected/{task}.npy", output, SAME_WEIGHTS)


@pytest.mark.parametrize("task", examples.EXPORTS)
def test_exported_again_weights_and_outputs_are_the_same(left, run, images, shared_folder, task):
    again, weights = left / f"{task}_again", f"{task}_fold_0.safetensors"
    run("export", f"--output={again.name}", *examples.EXPORTS[task])
    expected = json.loads((left / "expected/weights.json").read_text())
    assert examples.hash_weights(again) == {weights: expected[weights]}
    # It names the model by the hash of its weights.
    assert_same(left / f"exported/{task}.json", again / f"{task}.json", SAME_WEIGHTS)
    output = again / "output.npy"
    examples.call_exported(again / f"{task}.stablehlo", images, output, shared_folder)
    assert_same(left / f"expected/{task}.npy", output, SAME_WEIGHTS)


# Of tables: folds were numbered from 1 where the run folders begin with 0; one head was renamed.
RENAMED = (
    *("splits.csv:Fold", "trainings.csv:Fold", "table_2.csv:Here"),
    *("ceiling.csv:Ceiling of the paper's", "ceiling.csv:Largest possible by the paper's"),
)


def test_the_report_has_the_same_tables(left, run):
    run("report", "--workdir=run")
    expected, found = left / "expected" / "reports" / "run", left / "run" / "report"
    assert_same(expected, found, SAME_WEIGHTS, without=(*PROSE, *RENAMED))
