"""splits.json: every person of the store is in exactly one set, and nobody else is."""

import dataclasses
import json
import random

import numpy as np
import pytest
from report_examples import write_run

from brats_jax.data.splits import Splits, check_splits, load_or_make_splits, make_splits
from brats_jax.errors import BratsError
from brats_jax.reporting.read_runs import discover
from brats_jax.runs import checkpoints
from brats_jax.runs.checkpoints import CheckpointMeta, Checkpoints
from brats_jax.runs.documents import RunConfig
from brats_jax.runs.folder import RunFolder, StageFolder
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import write_json

OPTIONS = {"split_by": "patient", "test_fraction": 0.2, "num_folds": 3, "seed": 0}


class Index:
    """The index of a store of twelve persons with three slices each; the last has two scans."""

    path = "STORE"
    patients = tuple(f"P{i:02}" for i in range(13))
    subjects = (*patients[:12], "P11")
    num_slices = 39

    def __init__(self):
        self.patient_of = np.repeat(np.arange(13), 3)
        self.slice_number = np.tile(np.arange(70, 73), 13)
        self.pixels = np.ones((39, 4), np.int32) * np.arange(39)[:, None]
        self.labelled = np.ones(13, bool)


@pytest.fixture(scope="module")
def store():
    return Index()


def damage(document: dict, rng: random.Random) -> None:
    """Damages the document in one of twelve ways."""
    sets = [document["test"], *document["folds"]]
    one, other = rng.sample(sets, 2)
    at = rng.randrange(len(one))

    def move(twice: bool) -> None:
        other.append(one[at] if twice else one.pop(at))
        if not twice:
            other.append("nobody")

    def empty() -> None:
        other.extend(one)
        one.clear()

    rng.choice(
        [
            lambda: one.pop(at),
            lambda: one.append(one[at]),
            lambda: move(twice=True),
            lambda: move(twice=False),
            lambda: one.__setitem__(at, one[at] + "x"),
            lambda: one.__setitem__(at, one[at].lower()),
            lambda: one.__setitem__(at, rng.choice([3, None, [], {}, True, 0.5])),
            lambda: document.update(
                {rng.choice(["test", "folds", "patients"]): rng.choice([3, None, {}, "P00", [3]])}
            ),
            lambda: document.pop(rng.choice(sorted(document))),
            lambda: document.update({rng.choice(["num_folds", "seed"]): rng.choice([7, "3", 1.5])}),
            lambda: rng.choice([document["folds"].pop, document["patients"].pop])(),
            empty,
        ]
    )()


@pytest.mark.parametrize("split_by", ["patient", "slice"])
def test_120_damaged_splits_are_refused_in_one_line(store, tmp_path, split_by):
    path, options = tmp_path / "splits.json", {**OPTIONS, "split_by": split_by}
    whole = load_or_make_splits(path, store, **options).to_json()
    rng = random.Random(0)
    for _ in range(120):
        document = json.loads(json.dumps(whole))
        damage(document, rng)
        assert document != json.loads(json.dumps(whole))
        write_json(path, document)
        with pytest.raises(BratsError) as caught:
            load_or_make_splits(path, store, **options)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    write_json(path, whole)
    assert load_or_make_splits(path, store, **options).to_json() == whole


def test_the_unit_and_its_sets_are_named(store, tmp_path):
    path = tmp_path / "splits.json"
    whole = make_splits(store, **OPTIONS)

    def refusal(**changes):
        dataclasses.replace(whole, **changes).write(path)
        with pytest.raises(BratsError) as caught:
            check_splits(read_document(path, Splits), store, path)
        return str(caught.value)

    (name, *test), (first, *rest) = whole.test, whole.folds
    assert f"'{name}' is in the test set and again in fold 0" in refusal(
        folds=((*first, name), *rest)
    )
    assert f"the person '{name}' of STORE is in none of its sets" in refusal(test=tuple(test))
    assert "'P99' is no person of STORE" in refusal(test=(*whole.test, "P99"))
    assert "fold 0 is empty" in refusal(folds=((), *rest), test=(*whole.test, *first))
    assert "it has 2 folds, not 3" in refusal(folds=tuple(rest))
    assert "it lists other patients than STORE" in refusal(patients=whole.patients[::-1])


def test_the_order_within_a_set_does_not_matter(store, tmp_path):
    path = tmp_path / "splits.json"
    whole = make_splits(store, **OPTIONS)
    turned = dataclasses.replace(whole, test=whole.test[::-1])
    turned.write(path)
    assert load_or_make_splits(path, store, **OPTIONS) == turned
    assert turned.digest == whole.digest


def test_a_stage_is_not_evaluated_with_splits_that_it_was_not_trained_with(store, tmp_path):
    """Two persons exchanged between test set and fold: each is still in exactly one set."""
    whole = make_splits(store, **OPTIONS)
    (a, *test), ((b, *fold), *rest) = whole.test, whole.folds
    exchanged = dataclasses.replace(whole, test=(b, *test), folds=((a, *fold), *rest))
    check_splits(exchanged, store, tmp_path)
    stage = StageFolder(tmp_path / "segment")
    checkpoints.check_splits(stage, tmp_path, whole.digest)  # nothing is trained yet
    for sha256 in ({}, {checkpoints.SPLITS: whole.digest}):
        folder = Checkpoints(stage.last)
        step = len(sha256) + 1
        folder.save(step, {"step": step}, CheckpointMeta({}, step=step, epoch=0, sha256=sha256))
        folder.close()
        checkpoints.check_splits(stage, tmp_path, whole.digest)
    with pytest.raises(BratsError, match=r"has other sets than .*last was trained with"):
        checkpoints.check_splits(stage, tmp_path, exchanged.digest)


def test_the_report_leaves_out_a_run_whose_splits_do_not_fit_its_store(example_runs, tmp_path):
    store = example_runs["slice"] / "store"
    study = discover(example_runs["slice"] / "run")
    assert not study.problems and study.runs[0].splits is not None

    run = RunFolder(write_run(tmp_path / "run", store=str(store)))  # of other patients
    assert not discover(run.path).problems  # another store: nothing to compare with
    facts = read_document(example_runs["slice"] / "run" / "config.json", RunConfig).store
    document = dataclasses.replace(read_document(run.config_json, RunConfig), store=facts)
    document.write(run.config_json)
    with pytest.raises(BratsError, match=r"no run there .*splits.json: .* of .*store;"):
        discover(run.path)
    write_run(tmp_path / "whole")
    study = discover(tmp_path)
    assert [run.name for run in study.runs] == ["whole"]
    assert len(study.problems) == 1 and str(run.splits_json) in study.problems[0]
