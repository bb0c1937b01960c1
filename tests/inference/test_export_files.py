"""Programs of several formats in one folder; test_stablehlo.py tests a folder of one format."""

import pytest

from brats_jax.errors import BratsError
from brats_jax.inference import export_files
from brats_jax.inference.export_files import Program
from brats_jax.inference.trained_run import open_run
from brats_jax.runs.export_folder import ONNX, ExportFolder
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


def test_each_format_has_its_own_files(example_runs, tmp_path):
    run = example_runs["volume"] / "run" / "fold_1"
    trained = open_run(run, "segment", data_mesh(), dtype="float32")

    def write(folder, content):
        return export_files.write(
            trained, folder, lambda shape: Program(content, ("cpu",), "float32")
        )

    write(ExportFolder(tmp_path), b"of jax")
    write(ExportFolder(tmp_path, ONNX), b"first")
    write(ExportFolder(tmp_path, ONNX), b"second")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "segment.json", "segment.onnx", "segment.onnx.json", "segment.stablehlo",
        "segment_fold_1.safetensors",
    ]  # fmt: skip
    assert len(export_files.verify(tmp_path)) == 3 and export_files.has_export(tmp_path)
    assert (tmp_path / "segment.onnx").read_bytes() == b"second"
    (tmp_path / "segment.onnx").write_bytes(b"other")
    with pytest.raises(BratsError, match=r"segment.onnx is not the file of .*segment.onnx.json"):
        export_files.verify(tmp_path)
    with pytest.raises(BratsError, match=r"segment.onnx has changed since it was written by this"):
        write(ExportFolder(tmp_path, ONNX), b"third")
    (tmp_path / "segment.onnx").unlink()
    (tmp_path / "segment.onnx.json").unlink()
    assert len(export_files.verify(tmp_path)) == 2
