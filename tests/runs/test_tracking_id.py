from brats_jax.runs.folder import StageFolder
from brats_jax.runs.tracking_id import tracking_id


def test_a_stage_keeps_its_id_and_a_damaged_one_is_made_anew(tmp_path):
    folder = StageFolder(tmp_path / "segment")
    first = tracking_id(folder)
    assert first.isalnum() and tracking_id(folder) == first
    assert tracking_id(StageFolder(tmp_path / "pretrain")) != first
    folder.tracking_json.write_text("{")
    assert tracking_id(folder) != first
