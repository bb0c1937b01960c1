"""Exported weights that were damaged, cut short, edited or put together are one line."""

import json
import shutil

import pytest

from brats_jax.errors import BratsError
from brats_jax.inference import weights_writer
from brats_jax.inference.open_by_name import open_model
from brats_jax.inference.trained_run import open_run
from brats_jax.runs.documents.weights import WeightsDocument
from brats_jax.runtime.devices import data_mesh
from brats_jax.runtime.document import read_document

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def whole(example_runs, shallow, tmp_path_factory):
    """Exported weights of two runs."""
    folder = tmp_path_factory.mktemp("weights")
    for how, run in example_runs.items():
        # The two runs have the same weights, fold by fold.
        fold = {"volume": "fold_0", "slice": "fold_1"}[how]
        trained = open_run(run / "run" / fold, "segment", data_mesh())
        weights_writer.write(trained, folder / how, weights_writer.WeightsOptions())
    return folder


def flip_a_bit(folder, whole):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(folder, whole):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_description(folder, whole):
    path = folder / "config.json"
    path.write_text(path.read_text()[:-200])


def edit_description(folder, whole):
    path = folder / "config.json"
    path.write_text(
        path.read_text().replace('"normalisation": "volume"', '"normalisation": "slice"')
    )


def take_another_models_weights(folder, whole):
    shutil.copy(whole / "slice" / "model.safetensors", folder)


def keep_a_pointer(folder, whole):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (folder / "model.safetensors").write_text(text)


def remove_the_weights(folder, whole):
    (folder / "model.safetensors").unlink()


def pickle_the_weights(folder, whole):
    (folder / "model.safetensors").write_bytes(b"\x80\x04K\x01.")


def seal(folder, **changes):
    """A description that was made by hand, with the right hashes."""
    path = folder / "config.json"
    document = json.loads(path.read_text())
    del document["document_sha256"]
    networks = document["tasks"]["segment"]
    networks.update(changes)
    document["document_sha256"] = WeightsDocument._digest(document)
    path.write_text(json.dumps(document))


def ask_for_a_wide_network(folder, whole):
    model = read_document(folder / "config.json", WeightsDocument).tasks["segment"].model
    seal(folder, model={**model, "width": 100_000_000})


def ask_for_an_unknown_network(folder, whole):
    seal(folder, model={"task": "segment", "inputs": ["ct"], "outputs": [], "width": 4})


def ask_for_slices_of_no_number(folder, whole):
    model = read_document(folder / "config.json", WeightsDocument).tasks["segment"].model
    seal(folder, model={**model, "context": "one"})


def ask_for_a_steep_slope(folder, whole):
    model = read_document(folder / "config.json", WeightsDocument).tasks["segment"].model
    seal(folder, model={**model, "slope": 5})


def ask_for_no_input(folder, whole):
    model = read_document(folder / "config.json", WeightsDocument).tasks["segment"].model
    seal(folder, model={**model, "inputs": []})


def take_slices_of_an_unknown_plane(folder, whole):
    (fold, *_) = json.loads((folder / "config.json").read_text())["tasks"]["segment"]["folds"]
    seal(folder, folds=[{**fold, "record": {**fold["record"], "plane": "oblique"}}])


def take_slices_without_a_width(folder, whole):
    (fold, *_) = json.loads((folder / "config.json").read_text())["tasks"]["segment"]["folds"]
    seal(folder, folds=[{**fold, "record": {**fold["record"], "slice_shape": [240]}}])


def take_a_config_of_another_program(folder, whole):
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": []}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_bit, "is not the file that config.json describes"),
        (cut, "is not the file that config.json describes"),
        (cut_description, "config.json is not valid JSON"),
        (edit_description, "config.json: it has changed since it was written"),
        (take_another_models_weights, "is not the file that config.json describes"),
        (keep_a_pointer, "is a pointer of Git LFS, not the weights"),
        (remove_the_weights, "model.safetensors is missing, which"),
        (pickle_the_weights, "is not the file that config.json describes"),
        (ask_for_a_wide_network, "config.json does not fit its weights"),
        (ask_for_an_unknown_network, "checkpoint of an unknown network"),
        (ask_for_slices_of_no_number, "checkpoint of an unknown network"),
        (ask_for_a_steep_slope, "checkpoint of an unknown network"),
        (ask_for_no_input, "checkpoint of an unknown network"),
        (take_slices_of_an_unknown_plane, "'plane' is 'oblique'; valid: axial, coronal"),
        (take_slices_without_a_width, "'slice_shape' is no height and width"),
        (take_a_config_of_another_program, "config.json"),
    ],
)
def test_a_damaged_export_is_one_line(whole, tmp_path, damage, message):
    folder = shutil.copytree(whole / "volume", tmp_path / "weights")
    damage(folder, whole)
    with pytest.raises(BratsError) as refused:
        open_model(folder, "segment", data_mesh())
    line = str(refused.value)
    assert message in line and str(folder) in line and "\n" not in line
