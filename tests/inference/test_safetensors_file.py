"""Arrays in a safetensors file: the same bytes each time, and the same arrays back."""

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from brats_jax.inference.safetensors_file import decoded, encoded

STATE = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1.5, -0.0, np.inf], jnp.bfloat16),
}


def test_arrays_come_back_with_their_types_and_bits():
    content = encoded(STATE, {"z": "1", "a": "2"})
    assert content == encoded(dict(reversed(STATE.items())), {"a": "2", "z": "1"})
    found = decoded(content)
    assert set(found) == set(STATE)
    for name, array in STATE.items():
        assert found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "content", [b"", b"pickle", encoded(STATE, {})[:-1], safetensors.numpy.save({"a": np.ones(2)})]
)
def test_anything_else_is_refused(content):
    with pytest.raises(ValueError):
        decoded(content)
