"""The files of exported programs, by format."""

from pathlib import Path

from brats_jax.runs.export_folder import ONNX, PROGRAMS, ExportFolder


def test_the_files_of_one_format_are_those_of_no_other():
    folders = [ExportFolder(Path("out"), kind) for kind in PROGRAMS]
    files = [
        path(task)
        for folder in folders
        for path in (folder.program, folder.description_json, folder.ledger_json)
        for task in ("segment", "reconstruct")
    ]
    assert len(set(files)) == len(files) == 12 and {path.parent for path in files} == {Path("out")}
    assert ExportFolder(Path("out"), ONNX).description_json("segment").name == "segment.onnx.json"
    assert [folder.has_weights for folder in folders] == [True, False]
    assert folders[0].weights("segment", 3).name == "segment_fold_3.safetensors"
