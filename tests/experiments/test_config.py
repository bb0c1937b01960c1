import runpy
from pathlib import Path

import jax.numpy as jnp
import pytest

from brats_jax.errors import BratsError
from brats_jax.experiments.config import (
    check,
    parse,
    pretraining,
    segmentation,
    split_options,
    train_options,
)

CONFIGS = Path(__file__).parents[2] / "configs"


def config_of(name="base", **changes):
    """A file of configs/ with changes, data__store for data.store, as settings."""
    config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()
    config.data.store = "STORE"
    for path, value in changes.items():
        with config.unlocked():
            config.update_from_flattened_dict({path.replace("__", "."): value})
    return parse(config)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_config_is_valid_and_documented(path):
    check(config_of(path.stem))
    text = path.read_text().split('"""')[1]
    first = text.splitlines()[0]
    assert first.endswith(".") and len(first) > 20
    assert f"--config=configs/{path.stem}.py" in text
    assert "Cost:" in text


def test_the_defaults_are_those_of_the_paper():
    config = config_of("ssl")
    options = train_options(config, "segment", 2)
    assert (options.learning_rate, options.decay_factor, options.decay_every_epochs) == (
        1e-4,
        0.5,
        10,
    )
    assert (options.epochs, options.batch_size, options.patch_size) == (30, 16, 128)
    assert options.tumour_probability == 0.5
    assert (config.data.test_fraction, config.data.num_folds) == (0.15, 5)


def test_a_stage_may_have_a_learning_rate_of_its_own():
    config = config_of("ssl", pretrain__learning_rate=2e-3)
    rates = [train_options(config, stage, 0).learning_rate for stage in ("pretrain", "segment")]
    assert rates == [2e-3, 1e-4]


def test_the_settings_of_the_optimiser_reach_both_stages():
    given = {"optimizer": "adamw", "weight_decay": 0.05, "warmup_epochs": 2.0, "clip_norm": 12.0}
    config = config_of("ssl", **{f"optim__{name}": value for name, value in given.items()})
    check(config)
    for stage in ("pretrain", "segment"):
        options = train_options(config, stage, 0)
        assert {name: getattr(options, name) for name in given} == given
        assert options.ema == 0
        assert train_options(config_of("ssl", train__ema=0.99), stage, 0).ema == 0.99


def test_pretraining_chooses_nothing_by_labels():
    config = config_of("ssl")
    assert config.pretrain.slices == "all" and config.pretrain.tumour_probability == 0


def test_stages_and_folds_draw_different_random_numbers():
    config = config_of()
    seeds = {
        train_options(config, stage, fold).derived_seed(what)
        for stage in ("pretrain", "segment")
        for fold in range(5)
        for what in ("init", "patches")
    }
    assert len(seeds) == 20


def test_the_baseline_is_paired_with_ssl():
    ssl, baseline = config_of("ssl"), config_of("baseline")
    assert train_options(ssl, "segment", 1) == train_options(baseline, "segment", 1)
    assert segmentation(ssl) == segmentation(baseline)


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
    ],
)
def test_a_wrong_value_is_refused_with_the_valid_ones(changes, message):
    with pytest.raises(BratsError, match=message):
        check(config_of(**changes))


def test_the_split_has_a_seed_of_its_own():
    assert split_options(config_of(seed=3)) == split_options(config_of())
    assert split_options(config_of(data__split_seed=3))["seed"] == 3
    assert train_options(config_of(data__split_seed=3), "segment", 0).seed == 0


def test_the_switches_select_the_augmentation():
    on = segmentation(config_of()).augmentation
    assert on.flip and on.noise
    assert pretraining(config_of()).augmentation is None
    part = config_of(segment__augmentation__noise=False)
    assert not segmentation(part).augmentation.noise
    assert segmentation(config_of("paper")).augmentation is None


def test_dtype_auto_is_float32_on_cpu():
    assert segmentation(config_of()).dtype == jnp.float32
    assert segmentation(config_of(dtype="bfloat16")).dtype == jnp.bfloat16


def test_a_modality_in_another_spelling_is_the_same_setting():
    inputs = ("T1", "t1ce", "t2w", "T2F")
    spelt = config_of(segment__inputs=inputs, pretrain__target="FLAIR")
    assert spelt == config_of() and spelt.document == config_of().document


def test_whole_volumes_are_not_validated_in_a_split_by_slice():
    asked = {"segment__selection_metric": "volume_dice"}
    with pytest.raises(BratsError, match="leaves no whole volume in a validation set"):
        check(config_of(data__split_by="slice", **asked))
    for others in ({}, {"data__split_by": "slice", "folds": ("all",)}):
        check(config_of(**asked, **others))
