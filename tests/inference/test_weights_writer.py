"""Exported weights stand in place of a run: the same labels, hashes instead of names."""

import json
import shutil

import jax
import numpy as np
import prediction_examples as examples
import pytest

from brats_jax import inference
from brats_jax.errors import BratsError
from brats_jax.evaluation.calibration import calibrate
from brats_jax.inference import weights_writer
from brats_jax.inference.export_files import Program, describe
from brats_jax.inference.open_by_name import open_model
from brats_jax.inference.safetensors_file import decoded
from brats_jax.inference.trained_run import open_run
from brats_jax.inference.weights_writer import WeightsOptions
from brats_jax.models import torch_weights
from brats_jax.runs.documents import Calibration
from brats_jax.runs.documents.weights import CardOptions
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def run(example_runs):
    """Two folds, normalised by volume."""
    return example_runs["volume"] / "run"


@pytest.fixture(scope="module")
def trained(run, shallow):
    return open_run(run, "segment", data_mesh())


@pytest.fixture(scope="module")
def exported(trained, run, shallow, tmp_path_factory):
    """By dtype: a folder with both tasks."""
    found = {}
    for dtype in weights_writer.DTYPES:
        found[dtype] = tmp_path_factory.mktemp(dtype) / "small"
        weights_writer.write(trained, found[dtype], WeightsOptions(dtype))
    reconstruct = open_run(run, "reconstruct", data_mesh())
    weights_writer.write(reconstruct, found["bfloat16"], WeightsOptions())
    return found


def weights(trained):
    return [(member.network.params, member.network.stats) for member in trained.members]


def test_in_float32_the_networks_have_the_same_bits(trained, exported):
    found = open_model(exported["float32"], "segment", data_mesh())
    jax.tree.map(np.testing.assert_array_equal, weights(found), weights(trained))
    assert found.hash == trained.hash and found.name == "small"
    assert (found.normalisation, found.slice_shape) == (trained.normalisation, trained.slice_shape)
    assert found.task == trained.task
    steps = [member.network.meta.step for member in found.members]
    assert steps == [member.network.meta.step for member in trained.members]


def test_in_bfloat16_kernels_are_rounded_to_nearest_and_vectors_stay(trained, exported):
    found = open_model(exported["bfloat16"], "segment", data_mesh())

    def check(new, old):
        rounded = np.asarray(old).astype(jax.numpy.bfloat16) if old.ndim > 1 else old
        np.testing.assert_array_equal(new, np.asarray(rounded, np.float32))

    jax.tree.map(check, weights(found), weights(trained))
    state = torch_weights.torch_state(*weights(found)[0])
    assert found.members[0].hash == torch_weights.digest(state) != trained.members[0].hash
    assert found.hash != trained.hash
    networks = found.weights.tasks["segment"]
    assert networks.exported_from == trained.hash and networks.hash == found.hash
    sizes = [(exported[d] / "model.safetensors").stat().st_size for d in ("bfloat16", "float32")]
    assert sizes[0] < 1.2 * sizes[1]  # two tasks instead of one


def test_labels_and_images_are_those_of_the_run(run, exported, brats_files):
    made = brats_files.make_case(0, examples.SHAPE)
    volumes = {name: made[name] for name in examples.INPUTS}
    expected = inference.load(run).segment(volumes)
    exact = inference.load(exported["float32"])
    np.testing.assert_array_equal(exact.segment(volumes), expected)
    rounded = inference.load(str(exported["bfloat16"])).segment(volumes)
    assert (rounded == expected).mean() > 0.99 and len(np.unique(expected)) > 2
    image = inference.load(run, task="reconstruct").reconstruct(volumes)
    rounded = inference.load(exported["bfloat16"], task="reconstruct").reconstruct(volumes)
    np.testing.assert_allclose(rounded, image, atol=0.05 * np.ptp(image))
    with pytest.raises(BratsError, match="no network for --task=reconstruct, only for segment"):
        inference.load(exported["float32"], task="reconstruct")


def test_names_and_folders_stay_at_home_and_the_note_on_seen_cases_is_kept(run, exported):
    text = (exported["bfloat16"] / "config.json").read_text()
    names = json.loads((run / "splits.json").read_text())
    for private in (*names["patients"], str(run), str(run.parent), "cases"):
        assert private not in text
    before, now = (open_model(p, "segment", data_mesh()) for p in (run, exported["bfloat16"]))
    seen = [name for name in names["patients"] if before.has_seen(name)]
    assert [name for name in names["patients"] if now.has_seen(name)] == seen and seen
    assert not now.has_seen("BraTS2021_77777")


def test_sidecars_and_pages_name_the_model_and_its_digest(exported, example_runs, tmp_path):
    model = inference.load(exported["bfloat16"])
    digest = model.trained.weights.sha256["model.safetensors"]
    facts = model.trained.describe()
    assert (facts.run, facts.hash, facts.weights) == ("small", model.trained.hash, digest)
    scan = model.scan(example_runs["volume"] / "cases" / examples.CASES[0])
    shown = model.facts(scan)
    assert shown["run"] == "small, folds 0, 1" and shown["weights"] == digest
    assert model.describe_case(scan)["model"]["weights"] == digest


def test_equal_weights_give_equal_bytes_and_may_be_exported_again(trained, exported, tmp_path):
    weights_writer.write(trained, tmp_path / "a", WeightsOptions("float32"))
    for path in exported["float32"].iterdir():
        assert (tmp_path / "a" / path.name).read_bytes() == path.read_bytes()
    # From weights to weights, and to a program.
    again = open_model(tmp_path / "a", "segment", data_mesh())
    weights_writer.write(again, tmp_path / "b", WeightsOptions("float32", name="mine"))
    assert open_model(tmp_path / "b", "segment", data_mesh()).name == "mine"
    content = [(tmp_path / f / "model.safetensors").read_bytes() for f in "ab"]
    assert content[0] == content[1]
    program = Program(b"", ("cpu",), "float32")
    described = [describe(t, (40, 32), program, {}) for t in (trained, again)]
    assert described[0].model == described[1].model


def test_only_the_run_can_be_calibrated(exported):
    found = open_model(exported["float32"], "segment", data_mesh())
    with pytest.raises(BratsError, match="exported weights, which do not name the validation"):
        next(calibrate(found, None, 4))


def test_the_other_task_in_the_folder_stays(exported, run, tmp_path):
    folder = shutil.copytree(exported["bfloat16"], tmp_path / "small")
    before = decoded((folder / "model.safetensors").read_bytes())
    weights_writer.write(open_run(run / "fold_1", "segment", data_mesh()), folder, WeightsOptions())
    now = decoded((folder / "model.safetensors").read_bytes())
    others = {name for name in before if name.startswith("reconstruct.")}
    assert others == {name for name in now if name.startswith("reconstruct.")} != set()
    for name in others:
        np.testing.assert_array_equal(now[name], before[name])
    assert {name.split(".")[1] for name in set(now) - others} == {"fold_1"}
    assert open_model(folder, "reconstruct", data_mesh()).hash


def test_files_of_others_are_kept(trained, tmp_path):
    weights_writer.write(trained, tmp_path, WeightsOptions(card=True))
    card = tmp_path / "README.md"
    card.write_text("mine")
    # An edited card is the owner's business when the weights are read, not when it is replaced.
    assert open_model(tmp_path, "segment", data_mesh()).hash
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BratsError, match=r"README\.md has changed since .* give another --output"):
        weights_writer.write(trained, tmp_path, WeightsOptions(card=True))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    card.unlink()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BratsError, match=r"config\.json is there and was not written by this"):
        weights_writer.write(trained, tmp_path, WeightsOptions())


def test_temperatures_go_along(run, exported, tmp_path):
    copied = shutil.copytree(run, tmp_path / "run")
    trained = open_run(copied, "segment", data_mesh())
    for member in trained.members:
        document = Calibration(member.hash, 1.5 + member.fold, "pixels", member.fold, "patient", {})
        document.write(copied / f"fold_{member.fold}" / "calibration.json")
    weights_writer.write(trained, tmp_path / "out", WeightsOptions())
    model = inference.load(tmp_path / "out", calibrated=True)
    assert [member.temperature for member in model.trained.members] == [1.5, 2.5]
    plain = inference.load(tmp_path / "out")
    assert [member.temperature for member in plain.trained.members] == [1.0, 1.0]
    with pytest.raises(BratsError, match="holds no temperatures: leave --calibrated out"):
        inference.load(exported["bfloat16"], calibrated=True)
    plain_run = open_run(run, "segment", data_mesh())
    weights_writer.write(plain_run, tmp_path / "named", WeightsOptions(name="mine"))
    with pytest.raises(BratsError, match=r"^mine holds no temperatures: leave"):
        inference.load(tmp_path / "named", calibrated=True)


def test_the_texts_of_a_card_go_with_the_weights(trained, tmp_path):
    about = CardOptions("apache-2.0", "bash launch/small.sh STORE", "## Limits\n\nFew patients.")
    weights_writer.write(trained, tmp_path / "a", WeightsOptions(card=True, about=about))
    again = open_model(tmp_path / "a", "segment", data_mesh())
    changed = WeightsOptions(card=True, about=CardOptions(command="make"))
    weights_writer.write(again, tmp_path / "b", changed)
    text = (tmp_path / "b" / "README.md").read_text()
    assert 'license: "apache-2.0"' in text and "Few patients." in text
    assert "```\nmake\n```" in text and "small.sh" not in text


def test_a_run_is_not_averaged_with_its_own_export(run, exported):
    with pytest.raises(BratsError, match="the same network is in two of them"):
        inference.load(f"{run},{exported['bfloat16']}")
