from brats_jax.runs.recorded_settings import RecordedSettings


def test_settings_that_earlier_versions_lack_have_their_meaning():
    recorded = RecordedSettings.from_json({"pretrain": {"inputs": ["t1"], "target": "t2"}})
    assert (recorded.pretrain.inputs, recorded.pretrain.target) == (("t1",), "t2")
    assert recorded.pretrain.task == "cross_modality"
    assert recorded.pretrain.decoder == "transposed"
    assert recorded.data.label_fraction == 1
