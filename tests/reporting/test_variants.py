"""Short names for the settings in which runs differ."""

import pytest
from report_examples import write_run

from brats_jax.reporting.arms import collect
from brats_jax.reporting.read_runs import discover
from brats_jax.reporting.variants import pretraining_name

MASKED = {"pretrain.task": "masked", "pretrain.decoder": "unet"}


@pytest.mark.parametrize(
    ("settings", "differing", "name"),
    [
        (MASKED, ["pretrain.task"], "masked, unet"),
        ({}, ["pretrain.task", "pretrain.decoder"], "cross_modality"),
        (MASKED, ["pretrain.decoder"], "decoder unet"),
        ({}, ["pretrain.decoder"], "decoder transposed"),
        (
            {**MASKED, "pretrain.unlabelled_fraction": 0.0, "transfer.parts": "encoder_decoder"},
            ["pretrain.task", "pretrain.unlabelled_fraction", "transfer.parts"],
            "masked, unet, no unlabelled scans, encoder and decoder transferred",
        ),
        (
            {"pretrain.unlabelled_fraction": 0.25},
            ["pretrain.unlabelled_fraction"],
            "25 % of the unlabelled scans",
        ),
        ({}, ["pretrain.unlabelled_fraction"], "all unlabelled scans"),
        ({}, ["transfer.parts"], "encoder transferred"),
        (
            {**MASKED, "pretrain.epochs": 7},
            ["pretrain.epochs", "pretrain.task"],
            "masked, unet, pretrain.epochs = 7",
        ),
    ],
)
def test_a_pretraining_is_named_by_what_sets_it_apart(settings, differing, name):
    assert pretraining_name(settings, differing) == name


def test_a_setting_that_is_a_path_is_shown_without_its_folders(tmp_path):
    for name, start in (
        ("a", "random"),
        ("b", "/home/me/one/w.npz"),
        ("c", "/home/me/two/w.npz"),
        ("d", "/home/me/two/v.npz"),
    ):
        write_run(tmp_path / name, ssl=False, settings={"encoder_init": start})
    found = sorted(arm.variant for arm in collect(discover(tmp_path)).arms)
    assert len(set(found)) == 4 and not any("/" in one for one in found)
    assert any("encoder_init = v.npz" in one for one in found)
    assert sum("encoder_init = w.npz (" in one for one in found) == 2
