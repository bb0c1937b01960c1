import jax.numpy as jnp
import pytest
from experiment_examples import CONFIGS, settings_of

from brats_jax.experiments.checks import check_settings
from brats_jax.experiments.config import pretraining, segmentation, split_options, train_options


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_config_is_valid_and_documented(path):
    check_settings(settings_of(path.stem))
    text = path.read_text().split('"""')[1]
    first = text.splitlines()[0]
    assert first.endswith(".") and len(first) > 20
    assert f"--config=configs/{path.stem}.py" in text
    assert "Cost:" in text


def test_the_defaults_are_those_of_the_paper():
    config = settings_of("ssl")
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
    config = settings_of("ssl", pretrain__learning_rate=2e-3)
    rates = [train_options(config, stage, 0).learning_rate for stage in ("pretrain", "segment")]
    assert rates == [2e-3, 1e-4]


def test_the_settings_of_the_optimiser_reach_both_stages():
    given = {"optimizer": "adamw", "weight_decay": 0.05, "warmup_epochs": 2.0, "clip_norm": 12.0}
    config = settings_of("ssl", **{f"optim__{name}": value for name, value in given.items()})
    check_settings(config)
    for stage in ("pretrain", "segment"):
        options = train_options(config, stage, 0)
        assert {name: getattr(options, name) for name in given} == given
        assert options.ema == 0
        assert train_options(settings_of("ssl", train__ema=0.99), stage, 0).ema == 0.99


def test_pretraining_chooses_nothing_by_labels():
    config = settings_of("ssl")
    assert config.pretrain.slices == "all" and config.pretrain.tumour_probability == 0


def test_stages_and_folds_draw_different_random_numbers():
    config = settings_of()
    seeds = {
        train_options(config, stage, fold).derived_seed(what)
        for stage in ("pretrain", "segment")
        for fold in range(5)
        for what in ("init", "patches")
    }
    assert len(seeds) == 20


def test_the_baseline_is_paired_with_ssl():
    ssl, baseline = settings_of("ssl"), settings_of("baseline")
    assert train_options(ssl, "segment", 1) == train_options(baseline, "segment", 1)
    assert segmentation(ssl) == segmentation(baseline)


def test_the_split_has_a_seed_of_its_own():
    assert split_options(settings_of(seed=3)) == split_options(settings_of())
    assert split_options(settings_of(data__split_seed=3))["seed"] == 3
    assert train_options(settings_of(data__split_seed=3), "segment", 0).seed == 0


def test_the_switches_select_the_augmentation():
    on = segmentation(settings_of()).augmentation
    assert on.flip and on.noise
    assert pretraining(settings_of()).augmentation is None
    part = settings_of(segment__augmentation__noise=False)
    assert not segmentation(part).augmentation.noise
    assert segmentation(settings_of("paper")).augmentation is None


def test_dtype_auto_is_float32_on_cpu():
    assert segmentation(settings_of()).dtype == jnp.float32
    assert segmentation(settings_of(dtype="bfloat16")).dtype == jnp.bfloat16


def test_a_modality_in_another_spelling_is_the_same_setting():
    inputs = ("T1", "t1ce", "t2w", "T2F")
    spelt = settings_of(segment__inputs=inputs, pretrain__target="FLAIR")
    assert spelt == settings_of() and spelt.document == settings_of().document


def test_the_fusion_reaches_both_stages_and_the_dropout_the_segmentation():
    settings = settings_of(
        model__fusion="attention", model__fusion_weights="own", segment__modality_dropout=0.25
    )
    check_settings(settings)
    for task in (pretraining(settings), segmentation(settings)):
        assert (task.fusion_name, task.fusion_weights) == ("attention", "own")
    assert (
        segmentation(settings).fusion.with_presence
        and not pretraining(settings).fusion.with_presence
    )
