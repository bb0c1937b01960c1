"""Seconds per predicted case, from files to files, and the peak memory.

    python benchmarks/volume_inference.py                       # a phantom patient, full width
    python benchmarks/volume_inference.py --real=DIR            # the BraTS cases in DIR
    python benchmarks/volume_inference.py --peer_python=PYTHON  # compares the network with PyTorch
    python benchmarks/volume_inference.py --everything          # two folds, flips, all outputs

The weights are random; the time does not depend on them. The time per case includes reading,
normalisation, post-processing and writing, which run in background threads. The network alone is
timed first, so the time per case excludes compilation; with --everything it includes it.
"""

import argparse
import contextlib
import runpy
import tempfile
import time
from pathlib import Path

import jax
import nibabel
import numpy as np
from absl import logging

from benchmarks import measure
from benchmarks.measure import Spread
from brats_jax import inference, models
from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.case_files import CaseFiles
from brats_jax.data.scans.scan import read_scan
from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.experiments import config as experiment_config
from brats_jax.experiments.continuation import versions
from brats_jax.inference import cases as prediction
from brats_jax.inference.inputs import find_cases
from brats_jax.inference.output_names import OutputOptions
from brats_jax.runs.checkpoints import CheckpointMeta, Checkpoints
from brats_jax.runs.documents import RunConfig, StageResult, TrainingFacts
from brats_jax.runs.folder import RunFolder
from brats_jax.runs.store_facts import StoreFacts
from brats_jax.runtime import devices

VOLUME = measure.Record("volume", "everything", seconds=float, text=str)


def write_phantom(folder: Path, slices: int) -> None:
    """Writes a phantom patient as a BraTS case of 155 slices, `slices` of them with brain."""
    images = PhantomSource(1, 0).read(PhantomSource(1, 0).patients()[0]).images
    number = np.arange(len(images))
    images[np.abs(number - len(images) // 2) > slices // 2] = 0
    folder.mkdir()
    for channel, name in enumerate(("t1", "t1ce", "t2", "flair")):
        voxels = np.moveaxis(images[..., channel], 0, 2)
        voxels = np.rint(voxels * (1000 / voxels.max())).astype(np.int16)
        image = nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))
        nibabel.save(image, folder / f"Phantom_00000_{name}.nii.gz")


def write_run(run: Path, width: int, normalisation: str, folds: int = 1) -> Path:
    """Writes a run folder whose folds have random weights."""
    base = Path(__file__).parent.parent / "configs" / "base.py"
    config = runpy.run_path(str(base))["get_config"]()
    config.model.width = width

    settings = experiment_config.parse(config)
    RunConfig(dict(settings.document), StoreFacts("none", {}, normalisation), versions()).write(
        RunFolder(run).config_json
    )
    task = experiment_config.segmentation(settings)
    record = TrainingFacts(normalisation=normalisation, slice_shape=(240, 240))
    meta = CheckpointMeta(task.describe(), step=0, epoch=0, value=0.0, record=record)
    for fold in range(folds):
        _, params, stats = models.split(task.build(fold))
        stage = RunFolder(run).fold(fold).stage("segment")
        with contextlib.closing(Checkpoints(stage.best)) as saved:
            saved.save(0, {"params": params, "stats": stats}, meta)
        StageResult(task.metric, 0.0, best_step=0, steps=0, seconds=0.0).write(stage.complete_json)
    return run


def time_network(
    model: inference.Model, case: CaseFiles, width: int, turns: int, python: str | None
) -> str:
    """Times the network alone on one case, alternating with PyTorch; prints and returns a line."""
    images = model.normalise(read_scan(case, MODALITIES))
    slices, batch = int(images.any(axis=(1, 2, 3)).sum()) + 1, model.ensemble.batch_size
    peer = None
    if python:
        flags = [f"--batch={batch}", f"--width={width}"]
        try:
            peer = measure.Peer(python, "peers/torch_inference.py", flags)
        except SystemExit as problem:
            print(f"PyTorch: not measured, {problem}")
    ours: list[float] = []
    its: list[float] = []
    for _ in range(turns + 1):
        its += peer.request(slices) if peer else []
        ours.append(measure.timed(lambda: model.ensemble.segment(images)))
    first, *ours = ours
    text = f"the network alone {Spread.of(ours).show(digits=2)} s"
    if peer:
        peer.close()
        quotient = measure.ratio(ours, its[1:])
        text += f", {quotient.show(digits=2)} of PyTorch's time"
        print(
            f"network: {quotient.show(digits=2)} of PyTorch's time, "
            f"{Spread.of(its[1:]).show(digits=2)} s ({peer.description['about']})"
        )
    print(f"{text}: {slices} slices in batches of {batch}; first run {first:.2f} s")
    return text


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder of BraTS cases")
    parser.add_argument(
        "--slices", type=int, default=155, help="slices of the phantom that contain brain"
    )
    parser.add_argument("--width", type=int, default=64, help="channels of the stem")
    parser.add_argument("--cases", type=int, default=3, help="number of predicted cases")
    parser.add_argument("--batch_size", type=int, default=0, help="0: chosen for the device")
    parser.add_argument("--normalisation", default="slice", choices=("slice", "volume"))
    parser.add_argument("--turns", type=int, default=3, help="turns of the network alone")
    parser.add_argument(
        "--peer_python",
        "--torch_python",
        help="Python with torch; without it, no peer is measured",
    )
    parser.add_argument(
        "--everything",
        action="store_true",
        help="two folds, four flips and all output files; skips the network alone",
    )
    return parser


def main() -> None:
    arguments = parser().parse_args()
    devices.keep_freed_memory()  # as the commands do
    everything = arguments.everything
    logging.set_verbosity(logging.ERROR)  # Orbax logs every checkpoint that it reads
    print(
        f"{jax.devices()[0].device_kind}, {jax.device_count()} device(s), width {arguments.width}"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if arguments.real is None:
            write_phantom(root / "phantom", arguments.slices)
        cases = find_cases(arguments.real or root / "phantom")
        run = write_run(root / "run", arguments.width, arguments.normalisation, 1 + everything)
        start = time.perf_counter()
        model = inference.load(run, tta=everything, batch_size=arguments.batch_size)
        print(f"loading the model: {time.perf_counter() - start:.2f} s")
        alone = ""
        if not everything:
            options = (arguments.width, arguments.turns, arguments.peer_python)
            alone = f"; {time_network(model, cases[0], *options)}"
        many = [cases[k % len(cases)] for k in range(arguments.cases)]
        for k, case in enumerate(many):  # distinct names, so that each case is written
            many[k] = type(case)(f"{case.name}_{k}", case.folder, case.paths)
        outputs = OutputOptions(
            probabilities=everything, uncertainty=everything, picture=everything, page=everything
        )
        start = time.perf_counter()
        outcome = prediction.predict_cases(model, many, root / "out", outputs)
        each = (time.perf_counter() - start) / len(many)
        assert len(outcome.written) == len(many), outcome.failed
        print(
            f"from files to files: {each:.2f} s per case, mean of {len(many)} cases; predictions "
            f"averaged per slice: {model.ensemble.size}"
        )
        peak = measure.peak_memory() / 2**30
        print(f"peak memory of the device (on a CPU, of the process): {peak:.2f} GiB")
        print(f"  {measure.where()}")
        text = f"{each:.2f} s per case, peak memory {peak:.1f} GiB{alone}"
        VOLUME.keep("everything" if everything else "volume", seconds=each, text=text)


if __name__ == "__main__":
    main()
