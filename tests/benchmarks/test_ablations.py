"""The ablation table: commands, and gains with their intervals."""

import argparse
from pathlib import Path

import pytest

from benchmarks import ablations
from benchmarks.ablations import INGREDIENTS, Row, table
from benchmarks.rows import command
from brats_jax.experiments.config import parse
from configs import real, small


def row_of(shift, seconds):
    """Ten patients in five folds, two in each."""
    dice = {
        of: {f"P{p}": {(p // 2, 0): 0.5 + 0.01 * p + shift} for p in range(10)}
        for of in ("WT", "TC", "ET", "mean")
    }
    return Row(dice, [seconds] * 5)


def test_a_row_has_means_gain_and_time_beside_the_base():
    lines = table({"base": row_of(0, 10.0), "regions": row_of(0.02, 12.0)})
    assert lines[2] == "| base | 0.545 | 0.545 | 0.545 | 0.545 |  | 1 |"
    assert lines[3].startswith("| regions | 0.565 | 0.565 | 0.565 | 0.565 | +0.020 (")
    assert lines[3].endswith("| 1.20 |")


def test_a_command_names_folds_seed_and_settings():
    asked = argparse.Namespace(
        store=Path("store"),
        output=Path("out"),
        config="configs/real.py",
        num_folds=5,
        folds=[0, 1, 2],
        settings=["a=1"],
    )
    arguments = command("all slices", 2, INGREDIENTS, asked)
    assert "--workdir=out/all_slices-seed_2" in arguments
    for part in (
        "data.test_fraction=0",
        "data.num_folds=5",
        "folds=0,1,2,",
        "seed=2",
        "segment.slices=all",
        "a=1",
    ):
        assert f"--config.{part}" in arguments


def with_row(config, name):
    """The settings of a configuration with those of a row."""
    config.data.store = "store"
    for setting in ablations.INGREDIENTS[name]:
        key, value = setting.split("=")
        *path, last = key.split(".")
        group = config
        for part in path:
            group = group[part]
        words = {"true": True, "false": False}
        group[last] = words[value] if value in words else type(group[last])(value)
    return config


@pytest.mark.parametrize("name", INGREDIENTS)
def test_every_ingredient_is_a_valid_setting(name):
    assert parse(with_row(real.get_config(), name))


def test_the_recipe_of_the_table_is_that_of_the_small_configuration():
    recipe, configured = with_row(real.get_config(), "the recipe"), small.get_config()
    for part in ("model", "optim", "segment"):
        assert recipe[part].to_dict() == configured[part].to_dict()
