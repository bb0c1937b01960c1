import numpy as np
import pytest
from tiny_fusion import batch, make_tiny, run, task_of

from brats_jax import models


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    make_tiny(monkeypatch)


def test_attention_starts_as_the_mean():
    """Its queries and the output of the attention over positions are 0 at first."""
    given = batch()
    task = task_of("attention")
    graph, params, stats = models.split(task.build(0))
    mean_task = task_of("encoders")
    x = task.test_input(given)
    maps, _ = run((graph, params, stats), x)
    keep = ("shared", "identity")
    plain = {**params, "encoder": {k: v for k, v in params["encoder"].items() if k in keep}}
    graph = models.split(mean_task.build(0))[0]
    means, _ = run((graph, plain, stats), x)
    for one, two in zip(maps, means, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
