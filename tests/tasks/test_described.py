import jax.numpy as jnp
import pytest

from brats_jax.errors import BratsError
from brats_jax.tasks import Pretraining, Segmentation, task_of


@pytest.mark.parametrize(
    "task",
    [
        Pretraining(inputs=("t2",), targets=("t1",), width=8),
        Pretraining(inputs=("t1",), targets=("t2", "flair"), decoder="unet"),
        Pretraining(inputs=("t1",), targets=("t2", "flair"), pretext_name="any_to_any"),
        Pretraining(pretext_name="shuffled"),
        Segmentation(inputs=("t1", "flair"), width=4),
        Segmentation(outputs_name="regions", width=4),
        Segmentation(inputs=("t1", "flair"), context=2),
        Segmentation(slope=0.01, width=4),
        Segmentation(modality_dropout=0.25, width=4),
        Segmentation(fusion_name="attention", fusion_weights="own", width=4),
        Pretraining(fusion_name="stem"),
        Pretraining(decoder="unet", slope=0.1),
        Pretraining(inputs=("t1",), targets=("t2",), pretext_name="any_to_any", context=1),
    ],
)
def test_a_description_gives_its_task_back(task):
    assert task_of(task.describe()) == task
    half = task_of(task.describe(), jnp.bfloat16)
    assert half == task.computing_in(jnp.bfloat16) != task


@pytest.mark.parametrize(
    "change",
    [
        {"task": "translate"},
        {"inputs": ["ct"]},
        {"outputs": ["liver"]},
        {"outputs": []},
        {"outputs": ["ET", "TC", "WT"]},
        {"pretext": "rotate"},
        {"decoder": "diffusion"},
        {"fusion": "late"},
        {"fusion_weights": "borrowed"},
        {"width": None, "depth": 3},
        {"inputs": None},
    ],
)
def test_a_description_of_an_unknown_network_is_refused(change):
    for task in (Pretraining(), Segmentation()):
        with pytest.raises(BratsError, match="checkpoint of an unknown network"):
            task_of({**task.describe(), **change})


def test_a_description_without_pretext_and_decoder_is_the_papers():
    old = {"task": "pretrain", "inputs": ["t1", "t1gd"], "outputs": ["flair"], "width": 64}
    task = task_of(old)
    assert task.describe() == old
    assert (task.pretext_name, task.decoder) == ("cross_modality", "transposed")
