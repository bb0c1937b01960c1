"""A run as an ONNX program: the labels and images of the networks, without the package."""

import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import nibabel
import numpy as np
import prediction_examples as examples
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from meshes import mesh_of
from processes import run_python

from brats_jax import models
from brats_jax.data.modalities import MODALITIES
from brats_jax.data.neighbours import in_scan, stacked
from brats_jax.data.normalise import normalise
from brats_jax.errors import BratsError
from brats_jax.inference import export_files, onnx_layers, onnx_program
from brats_jax.inference.onnx_graph import session
from brats_jax.inference.onnx_program import channel_sources
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.inference.trained_run import open_run
from brats_jax.models import FUSIONS
from brats_jax.runs.documents import TrainingFacts
from brats_jax.runtime.devices import data_mesh
from brats_jax.tasks import Pretraining, Segmentation
from brats_jax.tasks.segmentation_outputs import OUTPUTS

SHAPE = examples.SHAPE[:2]

pytestmark = pytest.mark.usefixtures("shallow")


def raw(count, seed=0):
    """Slices float32[count, H, W, 4]; the first and the last one are blank."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, *SHAPE, 4), np.float32)
    smooth = np.repeat(np.repeat(rng.gamma(2.0, 200.0, (count, 10, 8, 4)), 4, 1), 4, 2)
    images[:, 6:-6, 9:-9] = (smooth + rng.gamma(2.0, 20.0, smooth.shape))[:, 6:-6, 9:-9]
    images[[0, -1]] = 0
    return images


def trained_as(task, normalisation="volume", seeds=(0,)):
    """A run of random networks, as far as a program needs it."""
    segments = isinstance(task, Segmentation)
    members = []
    for seed in seeds:
        graph, params, stats = examples.network(task, seed)
        channels = OUTPUTS[task.outputs_name] if segments else None
        network = SimpleNamespace(graph=graph, params=params, stats=stats, channels=channels)
        members.append(SimpleNamespace(fold=seed, network=network))
    targets = () if segments else task.synthetic
    return SimpleNamespace(
        task=task, segments=segments, members=members, normalisation=normalisation, hash="0",
        targets=targets, record=TrainingFacts(),
    )  # fmt: skip


def output_of(trained, images, present=None):
    """float32[n, H, W, K] of the first network in JAX."""
    task, network = trained.task, trained.members[0].network
    count = len(images)
    if present is not None:
        images = np.where(present, images, 0).astype(np.float32)
    x = normalise(images, trained.normalisation).astype(np.float32)
    batch = {"image": x, "neighbours": stacked(x, in_scan(np.arange(count), count, task.context))}
    if present is not None:
        batch["present"] = np.tile(present, (count, 1))
    x = task.test_input({name: jnp.asarray(part) for name, part in batch.items()})
    # Weights are arguments, as everywhere in the program: XLA:CPU (jax 0.10.2, YNNPACK fusion)
    # multiplies wrongly by a constant kernel of zeros behind a sum; queries of attention start so.
    run = jax.jit(
        lambda params, stats, x: models.apply(network.graph, params, stats, x, train=False)[0]
    )
    return np.asarray(run(network.params, network.stats, x))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_regions_context_missing_modalities_and_leaky_decoders(fusion):
    task = Segmentation(
        inputs=("t1gd", "flair", "t2"), outputs_name="regions", context=1, width=4, slope=0.01,
        modality_dropout=0.5, fusion_name=fusion,
    )  # fmt: skip
    trained, images = trained_as(task), raw(11)
    present = np.isin(MODALITIES, ("t1", "flair", "t1gd"))
    running = session(onnx_program.program(trained, SHAPE), threads=1)
    (labels,) = running.run(None, {"images": images, "present": present})
    logits = output_of(trained, images, present)
    sure = (np.abs(logits) > 1e-4).all(-1)
    assert labels.dtype == np.uint8 and labels.shape == images.shape[:3] and sure.mean() > 0.98
    # By the rule of `segmentation_outputs`, in plain words.
    wt, tc, et = (logits[..., k] > 0 for k in range(3))
    expected = np.where(wt, 2, 0)
    expected[wt & tc] = 1
    expected[wt & tc & et] = 3
    assert len(np.unique(expected)) >= 3  # some random networks find no NCR/NET
    np.testing.assert_array_equal(labels[sure], expected[sure])
    # What a missing channel holds does not count.
    images[..., MODALITIES.index("t2")] = 9e9
    (again,) = running.run(None, {"images": images, "present": present})
    np.testing.assert_array_equal(again, labels)


def test_a_program_that_differs_only_where_a_modality_is_missing_is_found_out(monkeypatch):
    """The flags of two modalities are exchanged, which a case with both does not show."""
    task = Segmentation(inputs=("t2", "t1"), width=4, modality_dropout=0.5)
    trained = trained_as(task)
    (member,) = trained.members
    _, params, stats = examples.network(task, 0)
    state = {"params": params, "stats": stats}
    meta = SimpleNamespace(record=trained.record)
    source = SimpleNamespace(read=lambda *_: (state, meta))
    member.network, member.temperature = RestoredNetwork(task, source, mesh_of(1)), 1.0
    onnx_program.check(trained, SHAPE)
    monkeypatch.setattr(onnx_program, "channel_sources", lambda _: [2, 0, 4, 6])
    with pytest.raises(BratsError, match=r"from the network by \S+ where a case has t1 alone: not"):
        onnx_program.check(trained, SHAPE)


def test_the_first_stage_predicts_its_modalities():
    task = Pretraining(
        pretext_name="any_to_any", inputs=("t1", "t2"), targets=("flair", "t1gd"), width=4
    )
    trained, images = trained_as(task, "slice"), raw(9)
    program = onnx_program.program(trained, SHAPE)
    running = session(program, threads=1)
    assert running.get_outputs()[0].name == "flair,t1gd"
    (found,) = running.run(None, {"images": images})
    expected = output_of(trained, images)[..., [task.outputs.index(n) for n in task.tested]]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert program == onnx_program.program(trained, SHAPE)


def test_channels_are_found_by_what_they_hold():
    assert channel_sources(Segmentation(inputs=("t2", "t1"), width=4)) == [2, 0]
    with_context = Segmentation(inputs=("flair", "t1"), context=1, modality_dropout=0.1, width=4)
    # The slice, the one below, the one above, and the flags of the two.
    assert channel_sources(with_context) == [3, 0, 7, 4, 11, 8, 15, 12]
    some = Pretraining(pretext_name="any_to_any", inputs=("t1gd",), targets=("flair",), width=4)
    assert channel_sources(some) == [None, 1, None, None]

    class Scaled(Segmentation):
        def test_input(self, batch):
            return 1.5 * super().test_input(batch)

    with pytest.raises(BratsError, match="the input of the task segment cannot be written as ONNX"):
        channel_sources(Scaled(width=4))


class TestAnExportedRun:
    """Two folds, normalised by volume, that predict classes."""

    @pytest.fixture(scope="class")
    def trained(self, example_runs, shallow):
        return open_run(example_runs["volume"] / "run", "segment", data_mesh(), dtype="float32")

    @pytest.fixture(scope="class")
    def folder(self, trained, tmp_path_factory):
        folder = tmp_path_factory.mktemp("onnx")
        written = onnx_program.write(trained, folder)
        assert [path.name for path in written] == ["segment.onnx", "segment.onnx.json"]
        return folder

    def test_gives_the_labels_of_the_average(self, trained, folder, model):
        images = raw(11)
        running = session((folder / "segment.onnx").read_bytes(), threads=1)
        (labels,) = running.run(None, {"images": images})
        expected = model.ensemble.segment(normalise(images, "volume"), details=True)
        second, first = np.moveaxis(np.sort(expected.probabilities, -1)[..., -2:], -1, 0)
        sure = first - second > 1e-4
        assert labels.dtype == np.uint8 and len(np.unique(labels)) > 1 and sure.mean() > 0.97
        np.testing.assert_array_equal(labels[sure], expected.labels[sure])
        facts = running.get_modelmeta().custom_metadata_map
        assert facts["modalities"] == "t1,t1gd,t2,flair" and facts["used"] == "t1gd,flair,t2"
        assert facts["labels"] == "background,NCR/NET,ED,ET" and facts["model"] == trained.hash
        assert "research use only" in facts["research_use_only"]

    def test_is_described_and_verified(self, trained, folder):
        document = json.loads((folder / "segment.onnx.json").read_text())
        content = (folder / "segment.onnx").read_bytes()
        assert document["sha256"] == hashlib.sha256(content).hexdigest()
        assert document["model"]["compute_dtype"] == "float32"
        assert [fold["hash"] for fold in document["model"]["folds"]] == [
            member.hash for member in trained.members
        ]
        assert export_files.verify(folder) == [folder / "segment.onnx"]

    def test_runs_as_the_documentation_has_it(self, folder, tmp_path, compiled_programs):
        page = Path(__file__).parents[2] / "docs" / "export.md"
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        (example,) = (block for block in blocks if "onnxruntime" in block)
        (tmp_path / "exported").symlink_to(folder)
        (tmp_path / "BraTS2021_01481").mkdir()
        images = raw(3)
        for name, volume in zip(
            ("t1", "t1ce", "t2", "flair"), np.moveaxis(images, -1, 0), strict=True
        ):
            image = nibabel.Nifti1Image(volume.transpose(1, 2, 0), np.diag([-1.0, -1, 1, 1]))
            nibabel.save(image, tmp_path / "BraTS2021_01481" / f"BraTS2021_01481_{name}.nii.gz")
        running = session((folder / "segment.onnx").read_bytes())
        (labels,) = running.run(None, {"images": images})
        printed = run_python(example, cwd=tmp_path, cache=compiled_programs)
        expected = np.bincount(labels.ravel(), minlength=4)
        assert [int(n) for n in re.findall(r"\d+", printed)] == expected.tolist()

    def test_is_not_written_where_its_numbers_differ(self, trained, tmp_path, monkeypatch):
        monkeypatch.setattr(onnx_layers, "BATCH_NORM_EPSILON", 1.0)
        with pytest.raises(BratsError, match=r"the ONNX program differs from the network by"):
            onnx_program.write(trained, tmp_path)
        assert not list(tmp_path.iterdir())
