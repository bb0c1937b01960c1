"""The scores in a model's card: those of its own trainings, or of others that are named so."""

import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from document_examples import STORE, cleaning_of, result_of, sizes_of
from subset_examples import document_of
from tally_examples import tally_of, two_patients

from brats_jax.data.folds import ALL
from brats_jax.data.splits import Splits
from brats_jax.errors import BratsError
from brats_jax.evaluation import conventions, stated_scores
from brats_jax.evaluation.rows import rows_of
from brats_jax.evaluation.stated_scores import scores_of
from brats_jax.runs.documents import EvaluatedCheckpoint, Evaluation, RunConfig
from brats_jax.runs.documents.subsets import SubsetFiles
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document

SUBSETS_OF_TWO = (("t1",), ("flair",), ("flair", "t1"))
CONFIG = {"folds": [0, 2], "loss": "dice_ce", "data": {"num_folds": 3}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two of three folds evaluated at steps 5 and 7; the second finds everything."""
    run = RunFolder(tmp_path_factory.mktemp("run"))
    RunConfig(CONFIG, STORE).write(run.config_json)
    prediction, truth, sizes = two_patients()
    evaluation = Evaluation(
        *(0, "test", "all", "patient", 2, ("t1",), "flair", "dice_ce", False, 1.0),
        checkpoints={"segment": EvaluatedCheckpoint(5, 1, 0.5)},
        rows=rows_of("segment", conventions.scores_of(tally_of(prediction, truth, sizes))),
    )
    evaluation.write(run.fold(0).evaluation_json)
    dataclasses.replace(
        evaluation,
        fold=2,
        checkpoints={"segment": EvaluatedCheckpoint(7, 1, 0.5)},
        rows=rows_of("segment", conventions.scores_of(tally_of(truth, truth, sizes))),
    ).write(run.fold(2).evaluation_json)
    return run


def model(run, steps, settings=CONFIG, store=STORE):
    """A trained run with folds at these steps, as far as its scores need it."""
    meta = [SimpleNamespace(network=SimpleNamespace(meta=SimpleNamespace(step=s))) for s in steps]
    members = [SimpleNamespace(fold=2 * k, **vars(m)) for k, m in enumerate(meta)]
    document = SimpleNamespace(config=settings, store=store)
    return SimpleNamespace(
        run=run.path, task_name="segment", weights=None, members=members, document=document
    )


def test_the_scores_are_of_the_checkpoints_of_the_model(run):
    found = scores_of(model(run, (5, 7)))
    assert (found.trainings, found.patients) == (2, 2)
    assert found.same_weights and not found.other_settings and not found.tta
    assert {(row.metric, row.of) for row in found.rows} >= {
        (metric, of) for metric in ("dice", "hd95_mm") for of in ("WT", "TC", "ET")
    }
    assert [row.metric for row in found.rows if row.of == "WT"][:2] == ["dice", "hd95_mm"]
    dice = next(row for row in found.rows if (row.metric, row.of) == ("dice", "WT"))
    assert 0 < dice.mean < 1 and dice.folds == 2 and dice.over == "volumes"
    # A fold whose checkpoint is another one by now is not counted.
    assert scores_of(model(run, (6, 7))).trainings == 1
    assert scores_of(model(run, (6,))) is None


def test_an_average_over_flips_is_stated(run, tmp_path):
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "run"))
    for fold in (0, 2):
        path = copy.fold(fold).evaluation_json
        dataclasses.replace(read_document(path, Evaluation), tta=True).write(path)
    assert scores_of(model(copy, (5, 7))).tta


def test_the_dice_of_subsets_is_stated_if_all_trainings_were_evaluated_so(run, tmp_path):
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "run"))

    def write(fold, step, **changes):
        checkpoint = EvaluatedCheckpoint(step, 1, 0.5)
        facts = {"fold": fold, "trained_for_missing": True, "checkpoint": checkpoint}
        document_of(**{**facts, **changes}).write(SubsetFiles(copy.fold(fold).path).json)

    def stated():
        return scores_of(model(copy, (5, 7))).subsets

    write(0, 5)
    assert stated() == ()
    write(2, 7)
    means = {(row.modalities, row.of): row.mean for row in stated()}
    assert means[("flair", "t1"), "WT"] == pytest.approx((0.8 + 0.4) / 2)
    assert means[(), "ET"] == pytest.approx(np.mean([means[s, "ET"] for s in SUBSETS_OF_TWO]))
    assert {row.folds for row in stated()} == {2}
    # Of another checkpoint, in another way, and with zeros that the network was not trained on.
    for step, changes in ((6, {}), (7, {"tta": True}), (7, {"trained_for_missing": False})):
        write(2, step, **changes)
        assert stated() == ()


def test_other_trainings_are_named_with_the_settings_that_differ(run):
    same = {**CONFIG, "folds": "all", "seed": 4}
    found = scores_of(model(run, (1,), same), [run.path])
    assert found.trainings == 2 and not found.same_weights and found.other_settings == ()
    fold = run.fold(2).path
    other = scores_of(model(run, (1,), {**same, "loss": "focal"}), [fold])
    assert other.trainings == 1 and other.other_settings == ("loss",)
    with pytest.raises(BratsError, match="no run there; give one that was evaluated"):
        scores_of(model(run, (1,)), [run.path / "none"])
    with pytest.raises(BratsError, match="has no evaluation of its segment stage"):
        scores_of(model(run, (1,)), [run.fold(1).path])


def test_stores_of_other_planes_are_compared_by_their_content(run, tmp_path):
    """Their paths say nothing, and are not in exported weights."""

    def with_planes(path, **fingerprints):
        config = {**CONFIG, "data": {**CONFIG["data"], "other_planes": path}}
        return config, dataclasses.replace(STORE, other_planes=fingerprints)

    other = RunFolder(shutil.copytree(run.path, tmp_path / "run"))
    RunConfig(*with_planes("/a/coronal", coronal="c1")).write(other.config_json)

    def differing(one):
        return scores_of(one, [other.path]).other_settings

    assert differing(model(run, (1,), *with_planes("/b/coronal", coronal="c1"))) == ()
    for path, fingerprints in (
        ("/a/coronal", {"coronal": "c2"}),
        ("/a/coronal", {"sagittal": "c1"}),
        ("", {}),
    ):
        found = differing(model(run, (1,), *with_planes(path, **fingerprints)))
        assert found == ("data.other_planes",), path
    # Exported weights state the planes alone.
    weights = model(run, (1,), *with_planes(""))
    weights.weights = SimpleNamespace()
    for planes, expected in ((("coronal",), ()), ((), ("data.other_planes",))):
        weights.record = SimpleNamespace(other_planes=planes)
        assert differing(weights) == expected


def test_trainings_with_several_splits_count_every_tested_person_once(run, tmp_path):
    folders = []
    for number, test in enumerate((("a", "b"), ("b", "c"))):
        folder = RunFolder(shutil.copytree(run.path, tmp_path / str(number)))
        names = ("a", "b", "c", "d")
        folds = ((next(name for name in names if name not in test),), ("d",) * 0)
        Splits("patient", number, 0.5, 2, names, test, folds).write(folder.splits_json)
        folders.append(folder.path)
    found = scores_of(model(run, (1,)), folders)
    assert (found.trainings, found.patients) == (4, 3)
    assert {row.folds for row in found.rows if row.of == "WT" and row.metric == "dice"} == {4}


def segmentation(run, *folds, task="segment"):
    """A model of folds with the weights 'a', as far as its sizes need it."""
    members = [SimpleNamespace(fold=fold, hash="a") for fold in folds]
    return SimpleNamespace(
        run=run,
        task_name=task,
        segments=task == "segment",
        weights=None,
        members=members,
        others=(),
    )


def test_a_model_of_all_patients_takes_the_sizes_of_the_run_with_its_scores(tmp_path):
    found = {}
    for name in ("folds", "again"):
        found[name] = RunFolder(tmp_path / name)
        found[name].fold(0).stage("segment").path.mkdir(parents=True)
        RunConfig(CONFIG, STORE).write(found[name].config_json)
        cleaning_of(sizes_of(500, 200), "a").write(found[name].cleaning_json)
        result_of(5).write(found[name].fold(0).stage("segment").complete_json)
    folds, again = found.values()
    whole = segmentation(tmp_path, ALL)
    (sizes,), notes = stated_scores.cleanings_of(whole, [folds.path, again.path])
    assert sizes == sizes_of(500, 200, same_weights=False) and notes == []
    assert stated_scores.cleanings_of(whole, [folds.fold(0).path])[0] == (sizes,)
    # Its own come first; a model of folds takes no others.
    assert stated_scores.cleanings_of(segmentation(folds.path, 0)) == ((sizes_of(500, 200),), [])
    assert stated_scores.cleanings_of(segmentation(tmp_path, 0), [folds.path]) == ((), [])
    assert stated_scores.cleanings_of(segmentation(tmp_path, ALL, task="x"), [folds.path])[0] == ()
    assert stated_scores.cleanings_of(whole) == ((), [])
    # Each average over flips and planes has its own.
    flips = sizes_of(50, 200, tta=True)
    path = again.cleaning_of(("axial",), tta=True)
    cleaning_of(flips, "a").write(path)
    both, _ = stated_scores.cleanings_of(whole, [folds.path, again.path])
    assert both == (sizes, dataclasses.replace(flips, same_weights=False))
    assert path.name == "cleaning_axial_flips.json"
    cleaning_of(sizes_of(50, 200), "a").write(again.cleaning_json)
    with pytest.raises(BratsError, match="have other settings of the cleaning: move those away"):
        stated_scores.cleanings_of(whole, [folds.path, again.path])
    # Sizes of an earlier checkpoint.
    result_of(6).write(folds.fold(0).stage("segment").complete_json)
    sizes, (note,) = stated_scores.cleanings_of(whole, [folds.path])
    assert sizes == () and "fitted to other weights, and not used: " in note
