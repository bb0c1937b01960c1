"""An exported model: the same labels without the package, the same weights under torch's names."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import jax
import nibabel
import numpy as np
import prediction_examples as examples
import pytest
import safetensors.numpy
from processes import run_python
from safetensors import safe_open

from brats_jax import models
from brats_jax.data.modalities import MODALITIES
from brats_jax.data.normalise import normalise
from brats_jax.errors import BratsError
from brats_jax.inference import export_files, stablehlo
from brats_jax.inference.trained_run import open_run
from brats_jax.models import torch_weights
from brats_jax.runtime.devices import data_mesh
from brats_jax.tasks import Pretraining, Segmentation
from brats_jax.training.encoder_weights import load_encoder

SHAPE = examples.SHAPE[:2]  # 40 x 32, padded to 64 x 32
INPUTS = examples.SEGMENT_INPUTS


pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def networks(shallow):
    """The networks of the run's two folds, built without its files: (graph, (params, stats))."""
    task = Segmentation(inputs=INPUTS, width=4)
    return [(graph, weights) for graph, *weights in (examples.network(task, k) for k in (0, 1))]


@pytest.fixture(scope="module")
def trained(example_runs, shallow):
    """Two folds, normalised by volume."""
    return open_run(example_runs["volume"] / "run", "segment", data_mesh(), dtype="float32")


@pytest.fixture(scope="module")
def ensemble(trained, tmp_path_factory):
    output = tmp_path_factory.mktemp("export")
    stablehlo.write(trained, output)
    return output


def raw(count):
    rng = np.random.default_rng(count)
    head = np.zeros((count, *SHAPE, 1), bool)
    head[:, 6:-6, 9:-9] = True
    smooth = np.repeat(np.repeat(rng.gamma(2.0, 200.0, (count, 10, 8, 4)), 4, 1), 4, 2)
    return ((smooth + rng.gamma(2.0, 20.0, (*head.shape[:3], 4))) * head).astype(np.float32)


LOADER = """
import sys
import jax, numpy as np
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
for name in sys.argv[2:]:
    np.save(name + ".out.npy", program.call(np.load(name)))
assert not [m for m in sys.modules if m.startswith("brats_jax")]
assert program.platforms == ("cpu", "cuda"), program.platforms
"""


@pytest.fixture(scope="module")
def labelled(ensemble, tmp_path_factory, compiled_programs):
    """By number of slices: raw images, and the labels of the program, run in another process."""
    folder = tmp_path_factory.mktemp("labelled")
    for count in (3, 10):
        np.save(folder / f"{count}.npy", raw(count))
    program = ensemble / "segment.stablehlo"
    run_python(LOADER, program, "3.npy", "10.npy", cwd=folder, cache=compiled_programs)
    return {n: (raw(n), np.load(folder / f"{n}.npy.out.npy")) for n in (3, 10)}


def test_the_program_gives_the_same_labels_without_the_package(networks, labelled):
    @jax.jit
    def probabilities(x):
        outputs = [models.apply(g, *w, x, train=False)[0] for g, w in networks]
        return sum(jax.nn.softmax(y) for y in outputs) / 2

    for images, labels in labelled.values():
        assert labels.dtype == np.uint8 and labels.shape == images.shape[:3]
        x = normalise(images, "volume").astype(np.float32)
        x = x[..., [MODALITIES.index(m) for m in INPUTS]]
        mean = np.asarray(probabilities(np.resize(x, (10, *x.shape[1:]))))[: len(x)]
        # Two compilations: only what is decided beyond rounding has to agree.
        first, second = np.moveaxis(np.sort(mean, -1)[..., :-3:-1], -1, 0)
        decided = first - second > 1e-4
        assert decided.mean() > 0.99 and len(np.unique(labels)) > 1
        np.testing.assert_array_equal(labels[decided], mean.argmax(-1)[decided])


def test_the_example_in_the_documentation_runs_unchanged(
    ensemble, labelled, tmp_path, compiled_programs
):
    page = Path(__file__).parents[2] / "docs" / "export.md"
    example = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[0]
    (tmp_path / "exported").symlink_to(ensemble)
    (tmp_path / "BraTS2021_01481").mkdir()
    images, labels = labelled[3]
    for name, volume in zip(("t1", "t1ce", "t2", "flair"), np.moveaxis(images, -1, 0), strict=True):
        # As BraTS stores them: x, y, z of a grid that runs to Left, Posterior, Superior.
        image = nibabel.Nifti1Image(volume.transpose(1, 2, 0), np.diag([-1.0, -1, 1, 1]))
        nibabel.save(image, tmp_path / "BraTS2021_01481" / f"BraTS2021_01481_{name}.nii.gz")
    printed = run_python(example, cwd=tmp_path, cache=compiled_programs)
    expected = np.bincount(labels.ravel(), minlength=4)
    assert [int(n) for n in re.findall(r"\d+", printed)] == expected.tolist()


def test_the_description_states_inputs_outputs_and_hashes(trained, ensemble):
    document = json.loads((ensemble / "segment.json").read_text())
    (images,), (labels,) = document["inputs"], document["outputs"]
    assert images["shape"] == ["n", 40, 32, 4] and images["modalities"] == list(MODALITIES)
    assert images["used"] == list(INPUTS) and labels["shape"] == ["n", 40, 32]
    assert document["labels"] == {"0": "background", "1": "NCR/NET", "2": "ED", "3": "ET"}
    assert document["normalisation"] == "volume" and document["orientation"].startswith("LPS")
    assert document["config"]["loss"] == "dice_ce"
    assert "research use only" in document["research_use_only"]
    for fold in document["model"]["folds"]:
        state = safetensors.numpy.load_file(ensemble / fold["weights"])
        assert torch_weights.digest(state) == fold["hash"]
        content = (ensemble / fold["weights"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == fold["sha256"]
    hashes = [fold["hash"] for fold in document["model"]["folds"]]
    assert hashes == [member.hash for member in trained.members] and len(set(hashes)) == 2
    assert document["model"]["hash"] == trained.hash  # as beside whatever it predicts


def test_equal_weights_give_equal_bytes_that_tell_nothing_of_the_machine(
    example_runs, trained, ensemble, tmp_path
):
    shutil.copytree(example_runs["volume"] / "run", tmp_path / "elsewhere")
    copied = open_run(tmp_path / "elsewhere", "segment", data_mesh())
    stablehlo.write(copied, tmp_path / "out")
    names = sorted(path.name for path in ensemble.iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        content = (ensemble / name).read_bytes()
        assert (tmp_path / "out" / name).read_bytes() == content, name
        assert b".py" not in content and str(example_runs["volume"]).encode() not in content
    # A file that was edited, or that another program wrote, is never replaced.
    for name, text in (("segment.json", "{}"), ("segment_fold_1.safetensors", "mine")):
        before = (tmp_path / "out" / name).read_bytes()
        (tmp_path / "out" / name).write_text(text)
        with pytest.raises(BratsError, match="by this program: kept; give another --output"):
            stablehlo.write(copied, tmp_path / "out")
        assert (tmp_path / "out" / name).read_text() == text
        (tmp_path / "out" / name).write_bytes(before)


def test_an_exported_encoder_initialises_another_network(networks, ensemble):
    path = ensemble / "segment_fold_1.safetensors"
    params, stats = networks[1][1]
    with safe_open(path, "np") as file:
        assert file.metadata()["modalities"] == "t1gd,flair,t2"
        assert file.get_tensor("layer1.0.conv2.weight").shape == (4, 4, 3, 3)
        assert file.get_tensor("conv1.weight").shape == (4, 3, 7, 7)
        assert "decoder.stages.0.block1.bn.running_mean" in file.keys()  # noqa: SIM118
    task = Segmentation(inputs=INPUTS, width=4)
    _, fresh, fresh_stats = models.split(task.build(9))
    new, new_stats = load_encoder(path, fresh, fresh_stats, INPUTS)
    for mine, theirs in ((new, params), (new_stats, stats)):
        jax.tree.map(np.testing.assert_array_equal, mine["encoder"], theirs["encoder"])
    jax.tree.map(np.testing.assert_array_equal, new["decoder"], fresh["decoder"])

    # Into the first stage too, where T1Gd is the second input.
    task = Pretraining(width=4)
    _, fresh, fresh_stats = models.split(task.build(9))
    new, new_stats = load_encoder(path, fresh, fresh_stats, task.inputs)
    jax.tree.map(np.testing.assert_array_equal, new_stats["encoder"], stats["encoder"])
    for name in ("layer1", "layer4", "bn1"):
        jax.tree.map(np.testing.assert_array_equal, *(p["encoder"][name] for p in (new, params)))
    stem = new["encoder"]["conv1"]["kernel"]
    np.testing.assert_array_equal(stem[:, :, 1], params["encoder"]["conv1"]["kernel"][:, :, 0])
    np.testing.assert_array_equal(stem[:, :, 0], fresh["encoder"]["conv1"]["kernel"][:, :, 0])

    # Another order of other modalities: by name, and T1 keeps its random beginning.
    other = ("t1", "t2", "t1gd")
    _, fresh, fresh_stats = models.split(Segmentation(inputs=other, width=4).build(9))
    new, _ = load_encoder(path, fresh, fresh_stats, other)
    stem, old = new["encoder"]["conv1"]["kernel"], params["encoder"]["conv1"]["kernel"]
    np.testing.assert_array_equal(stem[:, :, 0], fresh["encoder"]["conv1"]["kernel"][:, :, 0])
    np.testing.assert_array_equal(stem[:, :, 1], old[:, :, 2])
    np.testing.assert_array_equal(stem[:, :, 2], old[:, :, 0])


def test_the_network_of_the_first_stage_predicts_its_modality(example_runs, ensemble, tmp_path):
    run = example_runs["slice"] / "run" / "fold_1"
    shutil.copytree(ensemble, tmp_path / "out")
    stablehlo.write(open_run(run, "reconstruct", data_mesh()), tmp_path / "out")
    for path in ensemble.iterdir():  # a segmentation that was there stays
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    graph, *weights = examples.network(Pretraining(width=4), 1)
    program = jax.export.deserialize(
        bytearray((tmp_path / "out" / "reconstruct.stablehlo").read_bytes())
    )
    images = raw(2)
    found = program.call(images)
    x = normalise(images, "slice").astype(np.float32)[..., :2]
    expected, _ = jax.jit(lambda x: models.apply(graph, *weights, x, train=False))(x)
    np.testing.assert_allclose(found, expected[..., 0], rtol=1e-3, atol=1e-3)
    document = json.loads((tmp_path / "out" / "reconstruct.json").read_text())
    assert document["outputs"][0]["name"] == "flair" and document["labels"] is None


def test_folds_and_slice_shapes_that_do_not_fit_are_refused(example_runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(example_runs["slice"] / "run", run)
    shutil.rmtree(run / "fold_1")
    shutil.copytree(example_runs["volume"] / "run" / "fold_1", run / "fold_1")
    with pytest.raises(BratsError, match="trained on data normalised in different ways"):
        open_run(run, "segment", data_mesh())
    alone = open_run(run / "fold_0", "segment", data_mesh())
    with pytest.raises(BratsError, match="trained on slices of 40 x 32, each normalised"):
        stablehlo.write(alone, tmp_path / "out", slice_shape=(240, 240))
    (tmp_path / "file").touch()
    with pytest.raises(BratsError, match=r"out cannot be written \(Not a directory\): choose an"):
        stablehlo.write(alone, tmp_path / "file" / "out")
    assert not (tmp_path / "out").exists()


class TestAnExportIntoTheSameFolder:
    """The run's two folds, and then the second fold alone."""

    @pytest.fixture
    def folder(self, trained, tmp_path, monkeypatch):
        monkeypatch.setattr(stablehlo, "stablehlo", lambda trained, shape: b"of two folds")
        stablehlo.write(trained, tmp_path)
        monkeypatch.setattr(stablehlo, "stablehlo", lambda trained, shape: b"of one fold")
        return tmp_path

    @pytest.fixture
    def one_fold(self, example_runs, shallow):
        run = example_runs["volume"] / "run" / "fold_1"
        return open_run(run, "segment", data_mesh(), dtype="float32")

    def test_replaces_it_as_a_whole(self, folder, one_fold):
        assert len(export_files.verify(folder)) == 3
        (folder / "segment_fold_7.safetensors").write_text("of somebody")
        stablehlo.write(one_fold, folder)
        assert len(export_files.verify(folder)) == 2
        assert sorted(path.name for path in folder.iterdir()) == [
            "segment.json", "segment.stablehlo", "segment_fold_1.safetensors",
            "segment_fold_7.safetensors",
        ]  # fmt: skip
        document = json.loads((folder / "segment.json").read_text())
        assert document["sha256"] == hashlib.sha256(b"of one fold").hexdigest()

    @pytest.mark.parametrize("number", range(4))
    def test_leaves_no_mixture_when_it_is_stopped(self, folder, one_fold, monkeypatch, number):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        steps = []

        def stop_after(function):
            def step(*args, **kwargs):
                if len(steps) == number and Path(args[-1]).parent == folder:
                    raise KeyboardInterrupt
                steps.append(args)
                return function(*args, **kwargs)

            return step

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("os.replace", stop_after(os.replace))
            patch.setattr(Path, "unlink", stop_after(Path.unlink))
            stablehlo.write(one_fold, folder)
        if (folder / "segment.json").exists():
            assert {p.name: p.read_bytes() for p in folder.glob("segment*")} == before
        else:
            with pytest.raises(BratsError, match="no export there, or one that was not finished"):
                export_files.verify(folder)
        stablehlo.write(one_fold, folder)
        export_files.verify(folder)
        assert sorted(path.name for path in folder.glob("segment*")) == [
            "segment.json", "segment.stablehlo", "segment_fold_1.safetensors"
        ]  # fmt: skip

    def test_keeps_a_program_that_has_changed_and_says_so(self, folder, one_fold):
        program = folder / "segment.stablehlo"
        program.write_bytes(program.read_bytes() + b"x")
        with pytest.raises(BratsError, match="stablehlo has changed since it was written by this"):
            stablehlo.write(one_fold, folder)
        assert program.read_bytes().endswith(b"x")

    @pytest.mark.parametrize("name", ["segment.stablehlo", "segment_fold_0.safetensors"])
    def test_a_changed_or_missing_file_is_named(self, folder, name):
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(BratsError, match=f"{name} is not the file of .*segment.json: export"):
            export_files.verify(folder)
        (folder / name).unlink()
        with pytest.raises(BratsError, match=f"{name} is missing, which .*segment.json describes"):
            export_files.verify(folder)
