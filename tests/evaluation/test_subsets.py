"""The evaluation from every subset of the modalities: its numbers, and how it goes on."""

import dataclasses

import jax
import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES, REGIONS
from brats_jax.data.subsets import as_mask
from brats_jax.errors import BratsError
from brats_jax.evaluation import subsets
from brats_jax.evaluation.rows import find_row
from brats_jax.evaluation.subset_scores import dice_of
from brats_jax.evaluation.subset_summary import summarise_subsets
from brats_jax.evaluation.subsets import SubsetCounter, SubsetsOfFold
from brats_jax.evaluation.tallies import SCORED, SegmentationTally
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, task
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.documents.subsets import SubsetEvaluation, SubsetFiles
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh
from brats_jax.runtime.document import read_document

pytestmark = pytest.mark.usefixtures("shallow")


def test_a_finished_run_is_evaluated_from_every_subset_and_goes_on_where_it_was_stopped(
    finished, small_store, capsys, monkeypatch
):
    """All modalities give the counts of the usual evaluation, to the voxel."""
    workdir, config, summary = finished
    before = {path.name: path.read_bytes() for path in (workdir / "fold_0").glob("*.*")}
    config = config.copy_and_resolve_references()
    config.evaluation.subsets = True
    files, count = SubsetFiles(workdir / "fold_0"), SubsetCounter.count
    calls: list[tuple[str, ...]] = []

    def stopping(self, store, indices, subset, batch_size, title):
        calls.append(subset)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return count(self, store, indices, subset, batch_size, title)

    monkeypatch.setattr(subsets.SubsetCounter, "count", stopping)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(config, workdir)
    partial = read_document(files.json, SubsetEvaluation)
    assert len(partial.subsets) == 3 and not partial.is_complete and not files.csv.exists()
    assert summarise_subsets(RunFolder(workdir), 3) is None
    assert experiment.run(config, workdir).rows == summary.rows
    assert len(calls) == 4 + 12  # the fourth one again, and the rest
    whole = read_document(files.json, SubsetEvaluation)
    assert whole.is_complete and whole.subsets[:3] == partial.subsets
    assert "15 subsets of the modalities (not trained for missing" in capsys.readouterr().out
    for name, data in before.items():
        if name != "written.json":
            assert (workdir / "fold_0" / name).read_bytes() == data, name

    tally, _ = SegmentationTally.load(workdir / "fold_0" / "tally_segment.npz")
    for region in REGIONS:
        of_slices = tally.counts[:, list(SCORED).index(region)]
        (voxels,) = whole.subsets[-1].counts[region]
        assert list(voxels) == of_slices.sum(axis=0).tolist()
    found = find_row(summary.rows, over="volumes", of="WT", metric="dice", convention="brats2020")
    assert dice_of(whole, whole.subsets[-1].modalities, "WT").mean() == pytest.approx(found.mean)

    experiment.run(config, workdir)
    assert len(calls) == 16 and "all 15 subsets evaluated, skipped" in capsys.readouterr().out
    # An independent pass: slices of which only FLAIR is left, before they come to the network.
    network = RestoredNetwork(
        task(parse(config), "segment"), RunFolder(workdir).fold(0).stage("segment"), data_mesh()
    )
    test = np.concatenate([small_store.slices_of(name) for name in whole.patients])
    images, labels = small_store.read(test)
    alone = np.where(np.arange(4) == MODALITIES.index("flair"), images, 0).astype(np.float32)
    output = jax.jit(network.output)(network.params, network.stats, alone)
    predicted = np.asarray(network.prediction(output))
    inside = [np.isin(x, REGIONS["WT"]) for x in (predicted, labels)]
    tp = int((inside[0] & inside[1]).sum())
    (one,) = [one for one in whole.subsets if one.modalities == ("flair",)]
    assert one.counts["WT"] == ((tp, int(inside[0].sum()) - tp, int(inside[1].sum()) - tp),)
    batch = {"image": jax.numpy.asarray(images[:8])}
    given = as_mask(("flair",))
    np.testing.assert_array_equal(SubsetCounter(network).labels(batch, given), predicted[:8])


def test_a_damaged_document_of_subsets_is_named_and_made_again(finished, capsys, monkeypatch):
    workdir, config, _ = finished
    config = config.copy_and_resolve_references()
    config.evaluation.subsets = True
    monkeypatch.setattr(
        subsets.SubsetCounter, "count",
        lambda self, store, indices, *_: np.ones((len(indices), 3, 3), np.int64),
    )  # fmt: skip
    path = SubsetFiles(workdir / "fold_0").json
    path.write_text("{")
    experiment.run(config, workdir)
    assert f"{path}" in capsys.readouterr().out
    assert read_document(path, SubsetEvaluation).is_complete


@pytest.mark.parametrize("what", ["a modality", "slices"])
def test_a_fold_whose_test_patients_lack_something_is_named_and_left_out(
    finished, small_store, capsys, monkeypatch, what
):
    """The run goes on to its end, and has no means of subsets."""
    workdir, config, summary = finished
    config = config.copy_and_resolve_references()
    config.evaluation.subsets = True
    SubsetFiles(workdir / "fold_0").json.unlink(missing_ok=True)
    described = subsets.describe_slices

    def with_holes(store, indices):
        found = described(store, indices)
        return dataclasses.replace(found, whole=np.zeros_like(found.whole))

    def lacking(of_fold, checkpoint):
        of_fold.store.present[of_fold.store.patient_of[of_fold.test], 2] = False
        return new_document(of_fold, checkpoint)

    new_document = SubsetsOfFold._new_document
    if what == "slices":
        monkeypatch.setattr(subsets, "describe_slices", with_holes)
    else:
        monkeypatch.setattr(SubsetsOfFold, "_new_document", lacking)
    assert experiment.run(config, workdir).rows == summary.rows
    line = "no test patient has t1, t1gd, t2, flair and all slices: not evaluated from subsets"
    assert f"fold 0 segment: {line}" in capsys.readouterr().out
    assert not SubsetFiles(workdir / "fold_0").json.exists()
    assert summarise_subsets(RunFolder(workdir), 3) is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("slices", "tumour", "needs all slices"), ("split_by", "slice", "no whole volume")],
)
def test_subsets_are_refused_where_there_is_no_volume(finished, tmp_path, name, value, words):
    _, config, _ = finished
    config = config.copy_and_resolve_references()
    config.evaluation.subsets = True
    group = "evaluation" if name == "slices" else "data"
    config[group][name] = value
    with pytest.raises(BratsError, match=words):
        experiment.run(config, tmp_path / "new")
