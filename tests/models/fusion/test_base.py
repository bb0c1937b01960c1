from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_fusion import NAMES, PRESENT, batch, make_tiny, network_of, run, task_of

from brats_jax.models import Fusion, presence, torch_weights
from brats_jax.models.fusion import base
from brats_jax.runtime import forms


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    make_tiny(monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_keeps_the_contract_and_each_example_is_its_own(name):
    task, given = task_of(name), batch()
    network = network_of(task)
    x = task.test_input(given)
    maps, stats = run(network, x)
    assert [y.shape for y in maps] == [(3, 16 >> k, 16 >> k, 8) for k in range(5)]
    jax.tree.map(np.testing.assert_array_equal, stats, network[2])
    # Neither the other examples nor the content of missing images take part.
    junk = np.where(PRESENT[:, None, None], given["image"], np.float16(np.nan))
    again, _ = run(network, task.test_input({**given, "image": junk}))
    for one, other in zip(maps, again, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
        assert np.isfinite(one).all()
    # Modalities are not interchangeable, and of none at all the maps are finite.
    swapped, _ = run(network, task.test_input({**given, "image": given["image"][..., ::-1]}))
    assert not np.allclose(swapped[0], maps[0])
    nothing, _ = run(network, task.test_input({**given, "present": np.zeros((3, 4), bool)}))
    assert all(np.isfinite(y).all() for y in nothing)


@pytest.mark.parametrize("name", NAMES)
def test_weights_under_torchs_names_are_the_network(name):
    _, params, stats = network_of(task_of(name))
    state = torch_weights.torch_state(params, stats)
    assert len(state) == len(jax.tree.leaves((params, stats)))
    again = torch_weights.from_torch_state(state, params, stats)
    jax.tree.map(np.testing.assert_array_equal, again, (params, stats))


@pytest.mark.parametrize("name", NAMES)
def test_plain_forms_and_those_of_a_gpu_give_the_same_maps(name, monkeypatch):
    task = task_of(name)
    network, x = network_of(task), task.test_input(batch())
    maps, stats = run(network, x, train=True)
    with forms.traced_for("gpu"):
        of_gpu = run(network, x, train=True)
    monkeypatch.setenv(forms.VARIABLE, "1")
    for same, same_stats in (of_gpu, run(network, x, train=True)):
        close = partial(np.testing.assert_allclose, atol=1e-5)
        jax.tree.map(close, same, maps)
        jax.tree.map(close, same_stats, stats)


def test_the_mean_is_over_what_is_there_and_of_nothing_zero():
    maps = np.array([[1, 3, 8], [5, np.nan, 7], [1, 2, 3]], np.float32)[:, :, None, None, None]
    present = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0]], bool)
    found = base.mean_of_present(maps, present)
    assert found.ravel().tolist() == [4, 6, 0]
    assert base.mean_of_present(maps[:1], None).ravel().tolist() == [4]


def test_the_next_modality_or_patient_stands_in_for_what_is_missing():
    images = np.arange(12.0).reshape(3, 4, 1, 1, 1)
    of_patient = base.stand_ins_of_patient(images, PRESENT)
    assert of_patient.reshape(3, 4).tolist() == [[0, 2, 2, 3], [6, 6, 6, 6], [8, 10, 10, 8]]
    t1 = base.stand_ins_of_batch(jnp.asarray(images[:, 0]), PRESENT[:, 0])
    assert t1.ravel().tolist() == [0, 8, 8]
    flair = base.stand_ins_of_batch(jnp.asarray(images[:, 3]), PRESENT[:, 3])
    assert flair.ravel().tolist() == [3, 3, 3]


def test_an_input_is_split_by_modality_with_its_slices():
    fusion = Fusion("stem", ("t1", "flair"), slices=3, with_presence=True)
    x = jnp.arange(6.0) * jnp.ones((1, 2, 2, 1))
    images, present = fusion.split(presence.encoded(x, jnp.array([[True, False]])))
    assert images[0, :, 1, 1].tolist() == [[0, 2, 4], [0, 0, 0]]
    assert present.tolist() == [[True, False]]


def test_attention_of_a_large_slice_does_not_depend_on_the_others_of_its_batch():
    rng = np.random.default_rng(0)
    layer = base.ModalityAttention(16, dtype=jnp.float32, rngs=nnx.Rngs(0))
    layer.query.kernel[...] = jnp.asarray(rng.standard_normal((1, 1, 16, 4)), jnp.float32)
    maps = rng.standard_normal((3, 4, 120, 120, 16)).astype(np.float32)
    present = np.ones((3, 4), bool)
    run = jax.jit(lambda maps, present: layer(maps, present))
    alone = np.concatenate([run(maps[k : k + 1], present[:1]) for k in range(3)])
    np.testing.assert_allclose(run(maps, present), alone, atol=1e-5)
