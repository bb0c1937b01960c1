"""The ensemble averages folds and flips, and compiles one program."""

import jax
import numpy as np
import prediction_examples as examples
import pytest
from jax.sharding import AxisType

from brats_jax import inference
from brats_jax.data.scans.scan import read_scan
from brats_jax.inference.inputs import find_cases
from brats_jax.inference.trained_run import open_run
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


def test_the_ensemble_is_the_mean_of_its_members(example_runs, model):
    scan = model.scan(example_runs["volume"] / "cases" / examples.CASES[1])
    alone = [
        inference.load(example_runs["volume"] / "run" / f"fold_{k}").predict(scan, details=True)
        for k in (0, 1)
    ]
    both = model.predict(scan, details=True)
    mean = (alone[0].probabilities + alone[1].probabilities) / 2
    np.testing.assert_allclose(both.probabilities, mean, atol=1e-6)
    np.testing.assert_allclose(mean.sum(-1), 1, atol=1e-5)
    assert (both.labels == mean.argmax(-1)).mean() > 0.999
    entropy = -(mean * np.log(np.maximum(mean, 1e-30))).sum(-1)
    np.testing.assert_allclose(both.entropy, entropy, atol=1e-5)
    # The range is that of the members' volumes and its own.
    for region, labels in {"WT": (1, 2, 3), "ED": (2,)}.items():
        each = [np.isin(a.labels, labels).sum() / 1000 for a in (*alone, both)]
        found = both.volumes[region]
        assert [found.low_ml, found.high_ml] == pytest.approx([min(each), max(each)])
        assert found.ml == pytest.approx(np.isin(both.labels, labels).sum() / 1000)
    assert alone[0].volumes["WT"].low_ml is None


def test_flips_are_undone_and_averaged(example_runs):
    """The answer to a flipped scan is the flipped answer, which one look does not give."""
    run = example_runs["volume"] / "run" / "fold_0"
    case = find_cases(example_runs["volume"] / "cases" / examples.CASES[0])[0]
    images = inference.load(run).normalise(read_scan(case, examples.INPUTS))
    for tta, symmetric in ((True, True), (False, False)):
        ensemble = inference.load(run, tta=tta).ensemble
        p, turned = (
            ensemble.segment(np.ascontiguousarray(x), details=True).probabilities
            for x in (images, images[:, ::-1])
        )
        assert np.allclose(p, turned[:, ::-1], atol=1e-5) == symmetric
        assert ensemble.size == (4 if tta else 1)


def test_blank_slices_and_a_partial_batch_change_no_label(example_runs, model):
    """Two slices at a time, in which one blank stands for all, or all by themselves."""
    images = model.normalise(model.scan(example_runs["volume"] / "cases" / examples.CASES[0]))
    assert [bool(s.any()) for s in images] == [False, True, True, True, True, False]
    restored = model.trained.members[0].network
    forward = jax.jit(restored.output)
    seen = images[..., [examples.INPUTS.index(name) for name in model.inputs]].astype(np.float32)
    logits = forward(restored.params, restored.stats, seen)
    one = inference.load(example_runs["volume"] / "run" / "fold_0", batch_size=4).ensemble
    np.testing.assert_array_equal(one.segment(images).labels, np.argmax(logits, -1))
    blanks = np.zeros_like(images)  # a case of nothing but air
    np.testing.assert_array_equal(
        one.segment(blanks).labels, np.broadcast_to(np.argmax(logits[0], -1), blanks.shape[:3])
    )


@pytest.fixture
def compiled():
    """A list that grows by one for every program that JAX compiles or loads."""
    events = []

    def note(event, duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield events
    jax.monitoring.unregister_event_duration_listener(note)


def test_a_second_case_compiles_nothing(example_runs, brats_files, compiled):
    first, second = (
        {k: brats_files.make_case(seed, examples.SHAPE)[k] for k in examples.INPUTS}
        for seed in (0, 5)
    )
    run = example_runs["volume"] / "run"
    one = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    ready = inference.load(run / "fold_0")
    ready.ensemble.compile_for(examples.SHAPE[:2])  # while the first case is read
    compiled.clear()
    ready.segment(first)
    assert not compiled
    for mesh in (data_mesh(), one):
        counts = []
        for path in (run / "fold_0", run):  # one fold, then two
            model = inference.Model(open_run(path, "segment", mesh))
            compiled.clear()
            model.segment(first)
            counts.append(len(compiled))
            compiled.clear()
            model.segment(second)
            assert not compiled
        # A second fold needs no second network: at most the stack of two folds' labels is new.
        assert counts[0] > 0 and counts[1] <= counts[0] + 1
