"""Training of every pretext: what is learned, interruptions, devices."""

import pytest
from meshes import mesh_of
from pointwise import PointwiseTask
from stage_examples import assert_same_outcome, disturbed, numbers, sigterm, stage_of

from brats_jax.data.augment import Augmentation
from brats_jax.pretexts import PRETEXTS, Options
from brats_jax.runtime.signals import Interrupted

pytestmark = pytest.mark.usefixtures("shallow")


def task_of(name, augmented=True, **options):
    return PointwiseTask(
        pretext_name=name,
        options=Options(mask_block=4),
        augmentation=Augmentation(quarter_turn=False, gamma=False) if augmented else None,
        **options,
    )


@pytest.fixture
def make_stage(small_store, tmp_path):
    def make(where, task, store=small_store, **options):
        return stage_of(store, tmp_path / where, task, **options)

    return make


@pytest.mark.parametrize("name", PRETEXTS)
def test_stopped_and_continued_every_pretext_has_the_same_bits(name, make_stage, small_store):
    task = task_of(name, loss_name="brain_mse" if name == "masked" else "mse")
    whole = make_stage("whole", task)
    whole.run()
    with pytest.raises(Interrupted):
        make_stage("stopped", task, disturbed(small_store, sigterm, after=9)).run()
    stage = make_stage("stopped", task)
    stage.run()
    assert_same_outcome(stage, whole)


@pytest.mark.parametrize("name", ["any_to_any", "masked", "shuffled"])
def test_two_devices_draw_what_one_draws(name, make_stage):
    options = {"learning_rate": 1e-5, "steps_per_epoch": 3, "epochs": 1}
    one, two = (make_stage(f"on {n}", task_of(name), mesh=mesh_of(n), **options) for n in (1, 2))
    one.run(), two.run()
    for a, b in zip(numbers(one), numbers(two), strict=True):
        assert a == pytest.approx(b, abs=3e-5)


def test_autoencoding_is_learned_and_the_target_of_another_person_is_not(make_stage):
    """The network sees single pixels: it can copy one, but not guess that of somebody else."""
    options = {"steps_per_epoch": 100, "epochs": 3, "learning_rate": 2e-2}
    found = {}
    for name in ("autoencode", "shuffled"):
        stage = make_stage(name, task_of(name, augmented=False), **options)
        stage.run()
        found[name] = numbers(stage, "validation")[-1]["loss"]
    assert found["autoencode"] < 0.05
    assert found["shuffled"] > 10 * found["autoencode"]
