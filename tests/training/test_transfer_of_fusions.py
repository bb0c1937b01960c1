"""What of a pretraining goes where in a segmentation whose fusion has parts by modality."""

import jax
import numpy as np
import pytest
from tiny_fusion import make_tiny, task_of

from brats_jax import models
from brats_jax.errors import BratsError
from brats_jax.models.torch_weights import leaves
from brats_jax.training.transfer import transfer_mask, transfer_parts


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    make_tiny(monkeypatch)


def params_of(task, seed):
    """Parameters of a network, filled with the seed."""
    shapes = models.shapes(lambda: task.build(0))
    return jax.tree.map(lambda a: np.full(a.shape, seed, np.float32), shapes)


def moved(name, parts="encoder", **fields):
    """By path, the parameters of a segmentation (2) after a transfer from T1 and T1Gd (1)."""
    source = task_of(name, inputs=("t1", "t1gd"), modality_dropout=0.0, **fields)
    target = task_of(name)
    names = source.stem_channels, target.stem_channels
    given = params_of(target, 2)
    found = transfer_parts(params_of(source, 1), given, *names, parts)
    marks = dict(leaves(transfer_mask(given, *names, parts)))
    for path, leaf in leaves(found):
        mark = np.broadcast_to(marks[path], leaf.shape)
        np.testing.assert_array_equal(np.asarray(leaf) == 1, mark)
    return {".".join(path): np.unique(leaf).tolist() for path, leaf in leaves(found)}


@pytest.mark.parametrize("name, part", [("encoders:own", "own"), ("stem", "stems")])
def test_parts_of_a_modality_go_to_the_same_modality_and_to_no_other(name, part):
    found = moved(name)
    for modality, value in {"t1": 1, "t1gd": 1, "t2": 2, "flair": 2}.items():
        assert found[f"encoder.{part}.{modality}.conv1.kernel"] == [value]
        assert found[f"encoder.{part}.{modality}.bn1.scale"] == [value]
    assert found["head.kernel"] == [2]
    if name == "stem":
        assert found["encoder.over_modalities.key.kernel"] == [1]
        assert moved("stem", "all_but_stem")["encoder.stems.t1.bn1.bias"] == [2]
        assert moved("stem", "stem")["encoder.over_modalities.key.kernel"] == [2]


def test_a_shared_encoder_is_taken_over_as_a_whole():
    found = moved("attention")
    assert found["encoder.shared.conv1.kernel"] == found["encoder.over_positions.key.kernel"] == [1]
    assert found["encoder.identity.t1.bias"] == [1] and found["encoder.identity.flair.bias"] == [2]


def test_neighbours_go_by_offset():
    """A pretraining with a context fills the slice itself of a segmentation without one."""
    source = task_of("attention", inputs=("t1",), modality_dropout=0.0, context=1)
    target = task_of("attention", context=0)
    given = params_of(source, 1)
    kernel = given["encoder"]["shared"]["conv1"]["kernel"]
    kernel[:] = np.array([7, 8, 9])[None, None, :, None]
    names = source.stem_channels, target.stem_channels
    found = transfer_parts(given, params_of(target, 2), *names)
    assert np.unique(found["encoder"]["shared"]["conv1"]["kernel"]).tolist() == [7]
    back = transfer_parts(params_of(target, 2), given, *names[::-1])
    kernel = np.asarray(back["encoder"]["shared"]["conv1"]["kernel"])
    assert kernel[0, 0, :, 0].tolist() == [2, 8, 9]


def test_another_fusion_is_refused_with_the_setting():
    source, target = task_of("stem", modality_dropout=0.0), task_of("attention")
    names = source.stem_channels, target.stem_channels
    with pytest.raises(BratsError, match=r"source has no encoder.*same .*config.model.fusion"):
        transfer_parts(params_of(source, 1), params_of(target, 2), *names)
