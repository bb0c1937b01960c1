import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax.runs import digests


def state_of(**changes):
    state = {"a": np.arange(6, dtype=np.float32), "b": {0: jnp.ones((2, 3)), 1: np.int32(4)}}
    return {"params": {**state, **changes}, "step": jnp.array(3)}


@pytest.mark.parametrize(
    "changes",
    [
        {"a": np.arange(6, dtype=np.float32)[::-1]},
        {"a": np.arange(6, dtype=np.float32).reshape(2, 3)},
        {"a": np.arange(6, dtype=np.float32).view(np.int32)},
        {"a": jnp.arange(6, dtype=jnp.bfloat16)},
        {"b": {0: jnp.ones((2, 3)), 1: np.int32(5)}},
    ],
)
def test_values_types_and_shapes_decide_for_each_part(changes):
    before, now = digests.of_state(state_of()), digests.of_state(state_of(**changes))
    assert before["step"] == now["step"] and before["params"] != now["params"]


def test_arrays_on_host_and_device_have_the_same_digest():
    on_device = {"a": jnp.arange(6, dtype=jnp.float32), "b": {0: np.ones((2, 3), np.float32)}}
    assert digests.of_state(state_of()) == digests.of_state(
        state_of(a=on_device["a"], b={0: on_device["b"][0], 1: jnp.int32(4)})
    )


def test_one_bit_decides():
    flipped = np.arange(6, dtype=np.float32)
    flipped.view(np.uint32)[3] ^= 1
    assert digests.of_state(state_of()) != digests.of_state(state_of(a=flipped))


def test_the_order_of_a_documents_keys_does_not_decide():
    assert digests.of_document({"a": 1, "b": [2]}) == digests.of_document({"b": [2], "a": 1})
    assert digests.of_document({"a": 1}) != digests.of_document({"a": 2})
