"""The table of fusions and modality dropout, of made numbers."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from subset_examples import write_study

from benchmarks import missing
from brats_jax.experiments.config import parse
from configs import small


@dataclass
class Asked:
    """The arguments that the table reads."""

    output: Path
    names: list[str]
    seeds: list[int] = field(default_factory=lambda: [0])
    folds: list[int] = field(default_factory=lambda: [0])


def test_a_row_has_dice_from_all_modalities_and_from_subsets_with_gains(tmp_path):
    study = write_study(tmp_path)
    (study / "dropout_0.0").rename(study / "base-seed_0")
    (study / "dropout_0.5").rename(study / "early_with_dropout-seed_0")
    names = ["base", "early with dropout", "attention"]  # attention has not been trained
    found = missing.read_rows(argparse.Namespace(**vars(Asked(study, names))))
    lines = missing.table(found)
    assert len(lines) == 4
    # Of 15 subsets, 28 modalities are missing: 0.885 - 0.2 * 28 / 15, and with 0.1.
    assert lines[2].startswith("| base | 0.885 / 0.885 / 0.885 | 0.885 |  | 0.512 / 0.512 / 0.512")
    of_dropout = missing.table(found, "early with dropout")
    assert "| -0.187 (" in of_dropout[2] and of_dropout[3].endswith("|  |  | 1 |")
    assert "| 0.885 | +0.000 (+0.000 to +0.000) | 0.698 / 0.698 / 0.698 | +0.187 (" in lines[3]


def test_a_subset_that_is_not_evaluated_leaves_its_row_out(tmp_path):
    study = write_study(tmp_path)
    (study / "dropout_0.0").rename(study / "base-seed_0")
    asked = argparse.Namespace(**vars(Asked(study, ["base"], folds=[0, 1])))
    assert missing.read_rows(asked) == {}


@pytest.mark.parametrize("name", missing.ROWS)
def test_every_row_is_a_valid_setting(name):
    config = small.get_config()
    config.data.store = "store"
    for setting in missing.ROWS[name]:
        key, value = setting.split("=")
        group, last = key.split(".")
        config[group][last] = type(config[group][last])(value) if value != "true" else True
    assert parse(config)
