"""dataset.json of MSD and nnU-Net."""

import json

import pytest

from brats_jax.data.sources.dataset_json import read_dataset_json
from brats_jax.errors import BratsError


@pytest.fixture
def written(tmp_path):
    def write(document):
        path = tmp_path / "dataset.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


def test_channels_have_names_in_their_order(written, brats_files):
    found = read_dataset_json(written(brats_files.MSD_JSON))
    assert found.modalities == ("flair", "t1", "t1gd", "t2")
    assert found.named_labels().scheme.name == "msd"
    turned = {"modality": {"1": "T2-FLAIR", "0": "ADC", "2": "T1 Gd"}}
    assert read_dataset_json(written(turned)).modalities == (None, "flair", "t1gd")


def test_labels_are_read_whether_the_name_or_the_value_is_the_key(written, brats_files):
    by_name = {**brats_files.MSD_JSON, "labels": {"background": "0", "edema": 1, "NCR": 2, "ET": 3}}
    assert read_dataset_json(written(by_name)).named_labels().scheme.name == "msd"
    found = read_dataset_json(written(brats_files.NNUNET_JSON))
    assert found.modalities == ("t1", "t1gd", "t2", "flair")
    assert found.named_labels().scheme.name == "msd"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ({}, "does not name the channels 0, 1"),
        ({"channel_names": {"1": "T1"}}, "does not name the channels 0, 1"),
        ({"channel_names": {"0": 3}}, "does not name the channels 0, 1"),
        ({"channel_names": {"0": "CT", "1": "PET"}}, "none of the channels CT, PET is a modality"),
        ({"channel_names": {"0": "T1ce", "1": "t1gd"}}, "T1ce and t1gd are both t1gd"),
    ],
)
def test_a_file_that_names_no_modalities_is_refused(written, document, message):
    with pytest.raises(BratsError, match=message):
        read_dataset_json(written(document))


@pytest.mark.parametrize("labels", [{"edema": 1.5}, {"edema": True}, {"edema": []}, ["edema"]])
def test_labels_that_are_no_whole_numbers_are_refused(written, labels):
    found = read_dataset_json(written({"channel_names": {"0": "T1"}, "labels": labels}))
    with pytest.raises(BratsError, match="no names with whole numbers"):
        found.named_labels()
