"""Runs of three planes: each predicts in its own slices, and their mean decides in axial ones."""

import copy
import dataclasses
import json

import jax
import nibabel as nib
import numpy as np
import prediction_examples as examples
import pytest

from brats_jax import inference
from brats_jax.data.modalities import channel_indices
from brats_jax.data.planes import PLANES, slices_along, to_axial
from brats_jax.errors import BratsError
from brats_jax.inference.missing import MissingInputs, remedy
from brats_jax.inference.model import Model
from brats_jax.inference.viewer_facts import facts_of

pytestmark = pytest.mark.usefixtures("shallow")

CASE = examples.CASES[1]


@pytest.fixture(scope="module")
def all_three(plane_runs, shallow):
    return inference.load(",".join(map(str, plane_runs.values())))


@pytest.fixture(scope="module")
def scan(all_three, plane_runs):
    return all_three.scan(plane_runs["axial"].parent / "cases" / CASE)


@pytest.fixture(scope="module")
def alone(plane_runs, scan):
    """By plane, the model of one run, and what it finds."""
    models = {plane: inference.load(run) for plane, run in plane_runs.items()}
    return {plane: (one, one.predict(scan, details=True)) for plane, one in models.items()}


def test_a_run_of_another_plane_predicts_in_its_slices_and_answers_in_axial_ones(alone, scan):
    model, found = alone["coronal"]
    network = model.trained.members[0].network
    slices = slices_along(model.normalise(scan), "coronal")
    x = slices[..., list(channel_indices(model.inputs))].astype(np.float32)
    p = jax.nn.softmax(jax.jit(network.output)(network.params, network.stats, x))
    expected = to_axial(np.asarray(p), "coronal")
    assert found.labels.shape == scan.images.shape[:3]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert (found.labels == expected.argmax(-1)).mean() > 0.999
    assert [one.facts(scan).get("planes") for one, _ in alone.values()] == [
        None, "coronal", "sagittal",
    ]  # fmt: skip


def test_the_mean_of_three_planes_decides(alone, all_three, scan):
    each = [found.probabilities for _, found in alone.values()]
    mean = np.mean(each, axis=0)
    found = all_three.predict(scan, details=True)
    np.testing.assert_allclose(found.probabilities, mean, atol=1e-5)
    assert (found.labels == mean.argmax(-1)).mean() > 0.999
    np.testing.assert_allclose(
        found.entropy, -(mean * np.log(np.maximum(mean, 1e-30))).sum(-1), atol=1e-5
    )
    views = [one.volumes["WT"].ml for _, one in alone.values()]
    expected = [min(*views, found.volumes["WT"].ml), max(*views, found.volumes["WT"].ml)]
    assert [found.volumes["WT"].low_ml, found.volumes["WT"].high_ml] == pytest.approx(expected)
    assert all_three.facts(scan)["planes"] == "axial, coronal, sagittal"
    assert all_three.facts(scan)["run"] == "; ".join(f"{plane}, fold 0" for plane in PLANES)


def test_files_are_in_the_axes_of_the_input_and_name_every_run(
    all_three, scan, plane_runs, tmp_path
):
    source = plane_runs["axial"].parent / "cases" / CASE
    outcome, written = examples.run_on(all_three, source, tmp_path / "out")
    assert not outcome.failed
    labels = examples.lps(written[CASE]).transpose(2, 0, 1)
    np.testing.assert_array_equal(np.where(labels == 4, 3, labels), all_three.predict(scan).labels)
    sidecar = json.loads((tmp_path / "out" / f"{CASE}_seg.json").read_text())
    model = sidecar["model"]
    assert model["hash"] == all_three.trained.hash and model["run"] == "axial"
    assert "plane" not in model["record"]
    assert [one["record"]["plane"] for one in model["others"]] == ["coronal", "sagittal"]
    assert sidecar["averaged"] == {"folds": 3, "flips": 1}
    kept, _ = examples.run_on(all_three, source, tmp_path / "out")
    assert not kept.written and list(kept.kept) == [CASE]
    assert isinstance(written[CASE], nib.Nifti1Image)


def test_runs_that_are_not_alike_are_refused(plane_runs, example_runs):
    axial, coronal = plane_runs["axial"], plane_runs["coronal"]
    with pytest.raises(BratsError, match="the same network is in two of them"):
        inference.load(f"{axial},{axial}/fold_0")
    by_slice = example_runs["slice"] / "run"
    with pytest.raises(BratsError, match=r"has the normalisation volume, .* has slice"):
        inference.load(f"{axial},{by_slice}")
    with pytest.raises(BratsError, match="averaged for --task=segment alone"):
        inference.load(f"{axial},{coronal}", task="reconstruct")
    with pytest.raises(BratsError, match="no run there"):
        inference.load(f"{axial},{axial.parent / 'none'}")


def test_the_runs_that_need_a_missing_modality_are_named(plane_runs):
    axial, coronal = plane_runs["axial"], plane_runs["coronal"]
    model = inference.load(f"{axial},{coronal}", leave_out="flair")
    case = str(axial.parent / "cases" / CASE)
    whole = (
        f"^leave_out=flair: .* needs FLAIR; or .*modality_dropout instead of {axial} and {coronal}$"
    )
    with pytest.raises(BratsError, match=whole):
        model.scan(case)
    # One of the two takes a case without FLAIR, but not without all that it reads.
    first, second = model.trained.runs
    member = second.members[0]
    for left_out, message in (
        ("flair", f"; or .*modality_dropout instead of {axial}$"),
        ("t1gd,flair", f"; or .*modality_dropout instead of {axial}$"),
    ):
        task = dataclasses.replace(member.network.task, modality_dropout=0.5)
        network = copy.copy(member.network)
        network.task = task
        taking = dataclasses.replace(
            second, members=(dataclasses.replace(member, network=network),)
        )
        mixed = Model(dataclasses.replace(first, others=(taking,)), leave_out=left_out)
        with pytest.raises(BratsError, match=message):
            mixed.scan(case)
    ends = {"takes_missing": True, "synthesis": None}
    assert remedy(**ends, refusing=[("a", ("t1",)), ("b", ("t2", "flair"))]) == (
        "; a needs one of T1 and b needs one of T2, FLAIR"
    )


def test_several_runs_have_no_first_stage_to_synthesise_with(plane_runs):
    runs = f"{plane_runs['axial']},{plane_runs['coronal']}"
    with pytest.raises(BratsError, match="of one run: give one --checkpoint"):
        inference.load(runs, synthesise=True)


def test_chosen_planes_of_several_runs_are_counted_and_told_apart(plane_runs):
    """A prediction without them is another one."""
    runs = ",".join(str(plane_runs[p]) for p in ("axial", "coronal"))
    plain = inference.load(runs)
    first, second = plain.trained.runs
    known = dataclasses.replace(second.record, other_planes=("axial",))
    both = dataclasses.replace(second, record=known, chosen_planes=("coronal", "axial"))
    chosen = Model(dataclasses.replace(first, others=(both,)))
    assert plain.averaged.to_json() == {"folds": 2, "flips": 1} and plain.averaged.count == 2
    assert chosen.averaged.planes == ("axial", "coronal", "axial")
    assert chosen.averaged.count == chosen.ensemble.size == 3
    assert chosen.averaged != plain.averaged
    facts = facts_of(chosen.trained, chosen.cleaning, chosen.averaged, MissingInputs())
    assert facts["planes"] == "axial, coronal" and facts["predictions averaged"] == "3"


def test_the_progress_is_that_of_all_runs_together(all_three):
    told = []
    all_three.ensemble.mean_outputs(np.ones((6, 32, 40, 4), np.float16), progress=told.append)
    assert told == sorted(told) and told[-1] == 1 and {1 / 3, 2 / 3} <= {*told}
