import dataclasses
import json

import pytest

from brats_jax.errors import BratsError
from brats_jax.runs.settings import Settings, with_canonical_modalities
from brats_jax.runs.settings_comparison import flatten
from configs import base


def document_of(**changes):
    """configs/base.py as JSON, with changes: data__store for data.store."""
    config = base.get_config()
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return json.loads(config.to_json_best_effort())


def test_every_setting_of_the_base_configuration_is_known():
    settings = Settings.from_json(document_of())
    for name, value in flatten(document_of()).items():
        if ".augmentation." not in name:
            found = settings.value(name)
            assert (list(found) if isinstance(found, tuple) else found) == value, name
    settings.check()


def test_a_setting_of_the_users_own_stays_in_the_document():
    document = {**document_of(), "note": "mine"}
    assert Settings.from_json(document).document == document


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": None}, "config: 'seed' is 'None', not a whole number"),
        ({"folds": 1}, "config: 'folds' is '1', not a list"),
        ({"model": {}}, "config: in 'model': 'width' is missing"),
        ({"model": {"width": 64.0}}, "config: in 'model': 'width' is '64.0', not a whole number"),
    ],
)
def test_a_setting_of_another_type_is_refused(changes, message):
    with pytest.raises(BratsError, match=message):
        Settings.from_json({**document_of(), **changes})


def test_settings_are_frozen():
    settings = Settings.from_json(document_of())
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 1


def test_all_patients_is_a_fold_setting_of_its_own():
    for given in ("all", ["all"]):
        settings = Settings.from_json({**document_of(), "folds": given})
        assert settings.trains_on_all and settings.document["folds"] == "all"
    assert not Settings.from_json(document_of()).trains_on_all


def test_modalities_with_commas_in_one_text_are_taken_apart():
    document = {"segment": {"inputs": ["t1ce,flair"]}, "pretrain": {"inputs": ["T1", "t2w"]}}
    found = with_canonical_modalities(document)
    assert found["segment"]["inputs"] == ["t1gd", "flair"]
    assert found["pretrain"]["inputs"] == ["t1", "t2"]
