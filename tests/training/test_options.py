import dataclasses
import itertools

from brats_jax.training.options import TrainOptions


def test_every_use_stage_fold_and_seed_has_random_numbers_of_its_own():
    options = [
        TrainOptions(seed=seed, purpose=purpose, fold=fold)
        for seed, purpose, fold in itertools.product((0, 1), (1, 2), (0, 1))
    ]
    seeds = {o.derived_seed(use) for o in options for use in ("init", "patches")}
    assert len(seeds) == 16 and all(0 <= seed < 2**32 for seed in seeds)


def test_random_numbers_do_not_depend_on_the_other_options():
    options = TrainOptions(seed=3)
    other = dataclasses.replace(options, batch_size=2, epochs=1, threads=9)
    assert options.derived_seed("init") == other.derived_seed("init") == 1463316832


def test_an_epoch_is_one_pass_over_the_slices_unless_its_length_is_given():
    assert TrainOptions(batch_size=16).epoch_length(100) == 6
    assert TrainOptions(batch_size=16).epoch_length(3) == 1
    assert TrainOptions(batch_size=16, steps_per_epoch=50).epoch_length(100) == 50
