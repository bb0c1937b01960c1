"""Refusals of batches that devices cannot share as asked."""

import pytest
from meshes import mesh_of

from brats_jax.errors import BratsError
from brats_jax.experiments.config import parse, train_options
from brats_jax.experiments.shared_batch import check_batches, check_groups
from configs import base


def settings_of(**train):
    config = base.get_config()
    config.train.update(train)
    return parse(config)


def test_groups_divide_the_batch_and_reach_the_step():
    check_groups(settings_of())
    settings = settings_of(batch_size=12, norm_group=4, gradient_sum_dtype="float32")
    check_groups(settings)
    of_step = train_options(settings, "segment", 0).of_step
    assert of_step == {"ema": 0.0, "norm_group": 4, "gradient_sum": "float32"}
    with pytest.raises(BratsError, match=r"norm_group=5: does not divide .*batch_size=12; give a"):
        check_groups(settings_of(batch_size=12, norm_group=5))


@pytest.mark.parametrize("given", [{"norm_group": 4}, {"gradient_sum_dtype": "float32"}])
def test_groups_do_not_go_with_images_that_stand_in_from_other_groups(given):
    def settings(fusion, weights="shared", dropout=0.5):
        found = settings_of(**given).with_value("model", "fusion", fusion)
        found = found.with_value("model", "fusion_weights", weights)
        return found.with_value("segment", "modality_dropout", dropout)

    for others in (("early",), ("early", "own"), ("encoders",), ("attention",)):
        check_groups(settings(*others))  # `early` has no weights of a modality
    for own in (("stem",), ("encoders", "own"), ("attention", "own")):
        check_groups(settings(*own, dropout=0.0))
        with pytest.raises(
            BratsError, match=r"does not go with .*modality_dropout=0.5 and own wei"
        ):
            check_groups(settings(*own))


def test_the_type_of_a_sum_is_refused_where_groups_end_within_those_of_a_device():
    six_of_eight = {"batch_size": 12, "norm_group": 4}
    check_batches(settings_of(**six_of_eight), mesh_of(2))
    check_batches(settings_of(**six_of_eight, gradient_sum_dtype="float32"), mesh_of(1))
    with pytest.raises(BratsError, match=r"dtype=float32: each of 2 devices holds 6 patches, "):
        check_batches(settings_of(**six_of_eight, gradient_sum_dtype="float32"), mesh_of(2))
    with pytest.raises(BratsError, match=r"train.batch_size=3 cannot be divided among 2 devices"):
        check_batches(settings_of(batch_size=3), mesh_of(2))
