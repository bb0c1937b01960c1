"""Settings that are refused, each with one line that names the valid ones."""

import pytest
from experiment_examples import settings_of
from meshes import mesh_of

from brats_jax.errors import BratsError
from brats_jax.experiments.checks import check_batches, check_groups, check_settings
from brats_jax.experiments.config import train_options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "dice"}, "config.loss=dice: valid values are dice_ce, dice_focal, focal"),
        ({"dtype": "float16"}, "valid values are auto, bfloat16, float32"),
        ({"data__split_by": "file"}, "valid values are patient, slice"),
        ({"segment__slices": "some"}, "valid values are tumour, all"),
        ({"segment__outputs": "region"}, "outputs=region: valid values are classes, regions"),
        (
            {"segment__outputs": "regions", "loss": "focal", "focal_alpha": (1.0,) * 4},
            "4 weights; give one for each of WT, TC, ET",
        ),
        ({"segment__context": 3}, "context=3: give at least 0, at most 2"),
        ({"pretrain__context": -1}, "context=-1: give at least 0, at most 2"),
        ({"train__batch_size": 0}, "config.train.batch_size=0: give at least 1"),
        ({"seed": -1}, "give at least 0"),
        ({"model__width": 10}, "multiple of 4"),
        ({"optim__learning_rate": -1.0}, "learning_rate=-1.0: must be positive"),
        ({"optim__learning_rate": float("nan")}, "learning_rate=nan: must be positive"),
        ({"segment__tumour_probability": 1.5}, "tumour_probability=1.5: give 0 to 1"),
        ({"data__test_fraction": 1.0}, "at least 0 and below 1"),
        ({"data__label_fraction": 0.0}, "label_fraction=0.0: above 0, at most 1"),
        ({"data__label_patients": -1}, "label_patients=-1: give at least 0"),
        (
            {"data__label_patients": 3, "data__label_fraction": 0.5},
            "label_patients=3 and config.data.label_fraction=0.5: give one of them",
        ),
        (
            {"data__label_patients": 3, "data__split_by": "slice"},
            "splits slices and not patients; give config.data.label_fraction",
        ),
        ({"data__selection": "test"}, "selection=test: valid values are budget, validation"),
        ({"data__label_fraction": 5.0}, "label_fraction=5.0: above 0, at most 1"),
        ({"data__split_seed": -1}, "config.data.split_seed=-1: give at least 0"),
        ({"ssl": False, "pretrain__run": "RUN"}, "pretrain.run=RUN without pretraining"),
        ({"focal_alpha": (1.0, 1.0, 1.0, 1.0)}, "dice_ce"),
        ({"encoder_init": __file__}, "only .safetensors files are read, pickled ones never"),
        ({"focal_alpha": (1.0, 2.0)}, "focal_alpha has 2 weights"),
        ({"pretrain__inputs": ("t1gd", "t1ce")}, "name each of t1 .* at most once"),
        ({"pretrain__inputs": ()}, "at most once"),
        ({"segment__inputs": ("t1", "t1")}, "at most once"),
        ({"pretrain__target": "t1"}, "among config.pretrain.inputs"),
        ({"data__num_folds": 1}, "config.data.num_folds=1: give at least 2"),
        ({"folds": (5,)}, "valid are 0 to 4"),
        ({"folds": ()}, "valid are 0 to 4"),
        ({"folds": (1, 1)}, "name each fold once"),
        ({"data__store": ""}, "give --config.data.store=STORE"),
        ({"encoder_init": "none.safetensors"}, "no such file"),
        ({"transfer__parts": "decoder"}, "parts=decoder: valid values are encoder, encoder_d"),
        ({"transfer__parts": "encoder_decoder"}, r"decoder=transposed: .*\.decoder=unet, or"),
        ({"transfer__other_stem": "imagenet"}, "valid values are random, encoder_init"),
        ({"transfer__other_stem": "encoder_init"}, "give --config.encoder_init=FILE"),
        ({"transfer__freeze_epochs": -1}, "transfer.freeze_epochs=-1: give at least 0"),
        ({"segment__learning_rate": -1.0}, "segment.learning_rate=-1.0: give 0, for that of"),
        ({"optim__optimizer": "sgd"}, "optimizer=sgd: valid values are adam, adamw"),
        ({"optim__weight_decay": 0.1}, "weight_decay=0.1 has no effect .*optimizer=adamw, or"),
        ({"model__slope": 1.0}, "model.slope=1.0: give 0 or more, below 1"),
        (
            {"train__norm_group": 5},
            "norm_group=5: does not divide config.train.batch_size=16;",
        ),
        ({"train__norm_group": -1}, "norm_group=-1: give at least 0"),
        ({"train__gradient_sum_dtype": "half"}, "dtype=half: valid values are auto, float32, bfl"),
        ({"train__ema": 1.0}, "train.ema=1.0: give 0 or more, below 1"),
        ({"segment__label_smoothing": 1.0}, "label_smoothing=1.0: give 0 or more, below 1"),
        (
            {"segment__deep_supervision": True, "data__patch_size": 4},
            "patch_size=4: the coarsest map has a pixel for 8 x 8; give patches of at least 8",
        ),
        (
            {"segment__dice_present": True, "loss": "focal"},
            "dice_present=True has no effect with config.loss=focal",
        ),
        (
            {"segment__sampling": "classes", "segment__tumour_probability": 0.0},
            "sampling=classes has no effect with config.segment.tumour_probability=0; give",
        ),
        ({"optim__clip_norm": -1.0}, "clip_norm=-1.0: give 0 or more"),
        ({"optim__warmup_epochs": 30.0}, "less than config.pretrain.epochs=30, or 0 for no"),
        ({"transfer__learning_rate_factor": 0.0}, "factor=0.0: must be positive"),
        (
            {"transfer__parts": "batch_norm_statistics", "transfer__freeze_epochs": 1},
            "transfers no parameter that config.transfer.freeze_epochs",
        ),
        ({"model__fusion": "late"}, "valid values are early, encoders, attention, stem"),
        ({"model__fusion": "stem", "model__fusion_weights": "own"}, "has no effect with"),
        ({"model__fusion": "stem", "encoder_init": "w.safetensors"}, "the encoder of fusion=early"),
        ({"segment__modality_dropout": 1.5}, "give 0 to 1"),
        ({"segment__modality_dropout": 0.5, "segment__inputs": ("flair",)}, "cannot be left out"),
    ],
)
def test_a_wrong_value_is_refused_with_the_valid_ones(changes, message):
    with pytest.raises(BratsError, match=message):
        check_settings(settings_of(**changes))


def test_whole_volumes_are_not_validated_in_a_split_by_slice():
    asked = {"segment__selection_metric": "volume_dice"}
    with pytest.raises(BratsError, match="leaves no whole volume in a validation set"):
        check_settings(settings_of(data__split_by="slice", **asked))
    for others in ({}, {"data__split_by": "slice", "folds": ("all",)}):
        check_settings(settings_of(**asked, **others))


def with_training(**train):
    """configs/base.py with changes of config.train."""
    return settings_of(**{f"train__{name}": value for name, value in train.items()})


def test_groups_divide_the_batch_and_reach_the_step():
    check_groups(with_training())
    settings = with_training(batch_size=12, norm_group=4, gradient_sum_dtype="float32")
    check_groups(settings)
    of_step = train_options(settings, "segment", 0).of_step
    assert of_step == {"ema": 0.0, "norm_group": 4, "gradient_sum": "float32"}
    with pytest.raises(BratsError, match=r"norm_group=5: does not divide .*batch_size=12; give a"):
        check_groups(with_training(batch_size=12, norm_group=5))


@pytest.mark.parametrize("given", [{"norm_group": 4}, {"gradient_sum_dtype": "float32"}])
def test_groups_do_not_go_with_images_that_stand_in_from_other_groups(given):
    def settings(fusion, weights="shared", dropout=0.5):
        found = with_training(**given).with_value("model", "fusion", fusion)
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
    check_batches(with_training(**six_of_eight), mesh_of(2))
    check_batches(with_training(**six_of_eight, gradient_sum_dtype="float32"), mesh_of(1))
    with pytest.raises(BratsError, match=r"dtype=float32: each of 2 devices holds 6 patches, "):
        check_batches(with_training(**six_of_eight, gradient_sum_dtype="float32"), mesh_of(2))
    with pytest.raises(BratsError, match=r"train.batch_size=3 cannot be divided among 2 devices"):
        check_batches(with_training(batch_size=3), mesh_of(2))
