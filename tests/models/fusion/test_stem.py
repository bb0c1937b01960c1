import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_fusion import PRESENT, batch, make_tiny, network_of, run, task_of

from brats_jax.models import presence


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    make_tiny(monkeypatch)


@pytest.mark.parametrize("name", ["encoders:own", "stem"])
def test_statistics_in_training_are_of_real_images_alone(name):
    """T1 of two patients: the second's place is taken by the third's. No patient has T1Gd."""
    task, given = task_of(name), batch()
    network = network_of(task)
    x = presence.encoded(jnp.asarray(given["image"], jnp.float32), PRESENT)
    maps, stats = run(network, x, train=True)
    part = "own" if name == "encoders:own" else "stems"
    params, stats, before = (tree["encoder"][part] for tree in (network[1], stats, network[2]))
    jax.tree.map(np.testing.assert_array_equal, stats["t1gd"], before["t1gd"])
    if part == "own":  # the tiny convolution keeps every second pixel
        t1 = given["image"][..., 0].astype(np.float32)[[0, 2, 2], ::2, ::2]
        expected = 0.1 * t1.mean() * np.asarray(params["t1"]["conv1"]["kernel"])[0, 0, 0]
        np.testing.assert_allclose(stats["t1"]["bn1"]["mean"], expected, atol=1e-5)
    assert all(np.isfinite(y).all() for y in maps)
