"""Trains a PyTorch network with the recipe of a run of ours; used by ours_real.py.

The recipe: the same augmented patches in the same order, the same learning rates, loss, validation
slices and choice of the best weights. The patches are cut and augmented here, in portions, and sent
through a pipe to torch_real.py while that waits, so that neither process slows the other.
"""

import argparse
import dataclasses
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import measure
from benchmarks.peers import array_pipe, real_cases
from brats_jax import inference, models
from brats_jax.data.neighbours import blank_slices, in_scan, stacked
from brats_jax.data.pipeline import TrainingBatches
from brats_jax.data.scans import writing
from brats_jax.data.scans.scan import read_scan
from brats_jax.data.splits import Splits
from brats_jax.data.store.reader import Store
from brats_jax.data.whole_slices import whole_slice_batches
from brats_jax.errors import BratsError
from brats_jax.experiments.fold import Fold
from brats_jax.models.torch_weights import torch_state
from brats_jax.runs.documents import RunConfig
from brats_jax.runs.folder import RunFolder
from brats_jax.runs.settings import Settings
from brats_jax.runtime import devices
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import read_json
from brats_jax.tasks import Segmentation
from brats_jax.tasks.base import DEFAULT_FUSION
from brats_jax.training.options import TrainOptions
from brats_jax.training.trainer import Stage

CHUNK_BYTES = 64e6  # of patches that are sent at once
# The same loss of the same weights on the same batch, in another program.
LOSS_TOLERANCE = 1e-3
# Options of a training that the PyTorch programs follow, or that do not change its result.
FOLLOWED = {
    *("epochs", "steps_per_epoch", "batch_size", "learning_rate", "decay_factor", "schedule"),
    *("decay_every_epochs", "optimizer", "weight_decay", "warmup_epochs", "clip_norm"),
    *("patch_size", "tumour_probability", "validation_batch_size", "keep_last", "ema", "sampling"),
    *("save_every_steps", "log_every_steps", "seed", "purpose", "fold", "workers", "threads"),
    *("placement", "steps_per_dispatch", "deterministic", "float32_epochs"),
}


def open_stage(run: Path, number: int) -> tuple[Settings, Stage]:
    """The segmentation of a fold, as the run trained it."""
    folder = RunFolder(run)
    document = read_document(folder.config_json, RunConfig)
    settings = Settings.from_json(document.config)
    store = Store.open(settings.data.store).as_of(document.store.fingerprint)
    splits = read_document(folder.splits_json, Splits)
    fold = Fold(settings, store, splits, folder.fold(number), devices.training_mesh())
    return settings, fold.stage("segment")


def check_recipe(settings: Settings, options: TrainOptions) -> None:
    """Refuses what the PyTorch programs do not follow (BratsError)."""
    unknown = [
        f"{field.name}={getattr(options, field.name)}"
        for field in dataclasses.fields(options)
        if field.name not in FOLLOWED and getattr(options, field.name) != field.default
    ]
    followed = {
        "loss": "dice_ce",
        "model.fusion": DEFAULT_FUSION,
        "segment.modality_dropout": 0.0,
        "segment.dice_present": False,
    }
    own = {name: settings.value(name) for name in followed}
    unknown += [f"config.{name}={own[name]}" for name in followed if own[name] != followed[name]]
    if unknown:
        raise BratsError(
            f"the PyTorch programs do not know {', '.join(unknown)}: leave twin and smp out of "
            "--peers, or train without"
        )


class Torch:
    """The process of torch_real.py.

    Args:
      python: its interpreter.
      header, weights: the message `build`.

    Attributes:
      description: its answer.
    """

    def __init__(
        self, python: str, header: Mapping[str, Any], weights: Mapping[str, np.ndarray]
    ) -> None:
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("torch_real.py"))],
            env=measure.peer_environment(keeps_memory=header["device"] == "cpu"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.description = self.ask(header, weights)[0]

    def ask(
        self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
    ) -> array_pipe.Message:
        """Sends a message and waits for the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            array_pipe.send(self._process.stdin, header, arrays)
            answer = array_pipe.receive(self._process.stdout)
        except (OSError, EOFError):
            answer = None
        if answer is None:
            raise BratsError(f"torch_real.py ended with status {self._process.wait()}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class PeerTraining:
    """A PyTorch network, trained as a stage of ours was.

    Args:
      stage: ours.
      settings: of the run.
      arguments: of the command: network, interpreter, device and form.

    Attributes:
      torch: the other process.
      first_losses: of the first batch, before the first step: ours and the other program's.
    """

    def __init__(self, stage: Stage, settings: Settings, arguments: argparse.Namespace) -> None:
        check_recipe(settings, stage.options)
        self.stage, self.network = stage, arguments.network
        options, task = stage.options, stage.task
        self._prepare = jax.jit(lambda batch: task.prepare(batch, training=True))
        self._graph, self._state = stage.initial_state()
        state = torch_state(self._state.params, self._state.stats)
        assert isinstance(task, Segmentation)
        regions = task.channels.loss_regions
        self._rates = np.asarray(jax.vmap(stage.schedule)(np.arange(stage.total_steps)))
        header = {
            "do": "build",
            "network": self.network,
            "in_channels": state["conv1.weight"].shape[1],
            "width": task.width,
            "slope": task.slope,
            "outputs": len(state["head.bias"]),
            "regions": None if regions is None else [list(labels) for labels in regions],
            "deep_supervision": task.deep_supervision,
            "label_smoothing": task.label_smoothing,
            "ema": options.ema,
            "optimizer": options.optimizer,
            "weight_decay": options.weight_decay,
            "clip_norm": options.clip_norm,
            "seed": options.derived_seed("init"),
            "device": arguments.device,
            "form": arguments.form,
        }
        twin = self.network == "twin"
        self.torch = Torch(arguments.peer_python, header, state if twin else {})
        self.first_losses: tuple[float, ...] = ()

    def _chunks(self) -> Iterator[tuple[dict[str, np.ndarray], bool]]:
        """(arrays of `train`, whether an epoch ends after them)."""
        stage, options = self.stage, self.stage.options
        batches = TrainingBatches(
            *(stage.store, stage.plan),
            patch_size=options.patch_size,
            batch_size=options.batch_size,
            steps=stage.total_steps,
            threads=options.threads,
        )
        try:
            step = 0
            while step < stage.total_steps:
                pairs: list[tuple[np.ndarray, np.ndarray]] = []
                first = step
                while not pairs or step % stage.steps_per_epoch:
                    x, target = jax.device_get(self._prepare(next(batches)))
                    pairs.append((np.asarray(x), np.asarray(target, np.uint8)))
                    step += 1
                    if not self.first_losses:
                        self.first_losses = (self._loss(*pairs[0]),)
                    if len(pairs) * x.nbytes > CHUNK_BYTES:
                        break
                xs, labels = (np.stack(part) for part in zip(*pairs, strict=True))
                arrays = {"x": xs, "labels": labels, "rate": self._rates[first:step]}
                yield arrays, step % stage.steps_per_epoch == 0
        finally:
            batches.close()

    def _loss(self, x: np.ndarray, target: np.ndarray) -> float:
        """Our loss of a batch before the first step."""

        @jax.jit
        def loss(params: Any, stats: Any) -> jax.Array:
            output, _ = models.apply(self._graph, params, stats, x, train=True)
            return self.stage.task.loss(output, target)

        return float(loss(self._state.params, self._state.stats))

    def _check_first(self, loss: float) -> None:
        self.first_losses += (loss,)
        ours = self.first_losses[0]
        if self.network == "twin" and abs(loss - ours) > LOSS_TOLERANCE * abs(ours):
            raise BratsError(
                f"before its first step the twin's loss is {loss:.6f}, ours {ours:.6f}: the recipe "
                "has a setting that it does not know; leave twin and smp out of --peers"
            )

    def run(self) -> dict[str, Any]:
        """Trains to the end and goes back to the best weights; returns times and scores."""
        stage, best, best_step = self.stage, None, 0
        seconds = {"steps": 0.0, "data": 0.0, "validation": 0.0}
        step, losses, begin = 0, list[float](), time.perf_counter()
        for arrays, epoch_ends in self._chunks():
            seconds["data"] += time.perf_counter() - begin
            header, answer = self.torch.ask({"do": "train"}, arrays)
            seconds["steps"] += header["seconds"]
            if not step:
                self._check_first(float(answer["losses"][0]))
            losses += answer["losses"].tolist()
            step += len(answer["losses"])
            if epoch_ends:
                start = time.perf_counter()
                value = self._validate()
                seconds["validation"] += time.perf_counter() - start
                better = best is None or (
                    value > best if stage.task.larger_is_better else value < best
                )
                if stage.options.keep_last or better:
                    best, best_step = value, step
                    self.torch.ask({"do": "keep"})
                print(
                    f"step {step} of {stage.total_steps}: loss {np.mean(losses):.4f}, "
                    f"{stage.task.metric} {value:.4f}, {seconds['steps']:.0f} s of steps",
                    flush=True,
                )
                losses = []
            begin = time.perf_counter()
        self.torch.ask({"do": "restore"})
        return {
            **{f"seconds_of_{name}": value for name, value in seconds.items()},
            "seconds": sum(seconds.values()),
            "steps": step,
            "batch": stage.options.batch_size,
            "best": best,
            "best_step": best_step,
            "first_losses": self.first_losses,
            **self.torch.description,
        }

    def logits(self, x: np.ndarray, batch: int) -> tuple[np.ndarray, float]:
        """Logits [S, H, W, K] of slices [S, H, W, C], and the seconds of the network."""
        header, arrays = self.torch.ask({"do": "predict", "batch": batch}, {"x": x})
        return arrays["logits"], header["seconds"]

    def segment(self, images: np.ndarray, batch: int) -> tuple[np.ndarray, float]:
        """(labels uint8[S, H, W], seconds of the network) of a scan's slices [S, H, W, 4].

        As in our own prediction, slices without brain are computed once.
        """
        task, seconds = self.stage.task, 0.0
        labels = np.empty(images.shape[:3], np.uint8)
        blank = blank_slices(images, task.context)
        todo = np.setdiff1d(np.arange(len(images)), blank[1:])
        for start in range(0, len(todo), 4 * batch):
            slices = todo[start : start + 4 * batch]
            given = {"image": images[slices], "label": labels[slices]}
            if task.context:
                beside = in_scan(slices, len(images), task.context)
                given["neighbours"] = stacked(images, beside)
            x = np.asarray(task.prepare(given, training=False)[0])
            logits, took = self.logits(x, batch)
            labels[slices] = np.asarray(task.result(logits))
            seconds += took
        labels[blank[1:]] = labels[blank[:1]]
        return labels, seconds

    def _validate(self) -> float:
        """The score that chooses the best weights, over the validation slices."""
        stage, size = self.stage, self.stage.options.validation_batch_size
        statistics: list[dict[str, np.ndarray]] = []
        for batch in whole_slice_batches(
            stage.store, stage.validation_slices, size, facts=stage.facts
        ):
            valid, index = batch.pop("valid"), batch.pop("index")
            x, target = stage.task.prepare(batch, training=False)
            found = stage.task.validate(self.logits(np.asarray(x), size)[0], target)
            found["patient"] = stage.store.patient_of[index]
            statistics.append({name: np.asarray(v)[valid] for name, v in found.items()})
        joined = {k: np.concatenate([one[k] for one in statistics]) for k in statistics[0]}
        return stage.task.summarise(joined)[stage.task.metric]


def run_torch(arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains a PyTorch network and predicts the cases."""
    settings, stage = open_stage(arguments.run, arguments.fold)
    devices.use_compilation_cache(settings.compilation_cache)
    training = PeerTraining(stage, settings, arguments)
    document = training.run()
    ours = inference.load(arguments.run / f"fold_{arguments.fold}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    by_case = {}
    cases = read_json(arguments.cases, "start real.py again")
    for name, case in real_cases.find(map(Path, cases["sources"]), cases["names"]).items():
        scan = read_scan(case, ours.inputs, in_plane=ours.trained.in_plane)
        images = ours.normalise(scan)
        labels, by_case[name] = training.segment(images, ours.ensemble.batch_size)
        volume = scan.to_input(labels, nearest=True)
        image = writing.label_image(scan, volume, f"{arguments.network} of benchmarks/peers")
        writing.write_image(arguments.output / f"{name}{real_cases.SUFFIX}", image)
        print(f"{name}: network {by_case[name]:.1f} s", flush=True)
    training.torch.close()
    return {**document, "seconds_by_case": by_case}
