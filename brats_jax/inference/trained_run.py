"""A trained run, opened for inference: the networks of its folds and the facts about them."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
from jax.sharding import Mesh

from brats_jax.data.folds import fold_title, fold_titles
from brats_jax.data.modalities import MODALITIES, Synthesis
from brats_jax.data.normalise import NORMALISATIONS
from brats_jax.data.scans.persons import subject_of
from brats_jax.data.splits import Splits
from brats_jax.errors import BratsError
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.models import torch_weights
from brats_jax.runs import checkpoints
from brats_jax.runs.documents import (
    Calibration,
    PretrainingSource,
    RunConfig,
    StageResult,
    TrainingFacts,
)
from brats_jax.runs.documents.weights import READY, WeightsDocument
from brats_jax.runs.folder import (
    STAGE_OF_TASK,
    FoldFolder,
    RunFolder,
    StageFolder,
    checkpoint_steps,
    locate_fold,
)
from brats_jax.runs.missing_config import check_config_exists
from brats_jax.runs.seen_persons import hashed_persons
from brats_jax.runs.settings_comparison import without_paths
from brats_jax.runs.sidecars import FoldModel, ModelFacts
from brats_jax.runtime import devices
from brats_jax.runtime.document import read_document, read_if_there
from brats_jax.tasks import Pretraining, Task, task_of


@dataclass(frozen=True)
class EnsembleMember:
    """The network of one fold.

    Attributes:
      fold: number of the fold.
      network: the restored network.
      hash: `torch_weights.digest` of its weights, which can be recomputed from an export.
      temperature: divides the logits; 1 unless calibrated.
    """

    fold: int
    network: RestoredNetwork
    hash: str
    temperature: float = 1.0


@dataclass(frozen=True)
class TrainedRun:
    """One stage of a run, in one or several folds.

    Attributes:
      run: the run folder.
      task_name: 'segment' or 'reconstruct', as `--task` and exported files spell it.
      members: at least one.
      document: the run's config.json.
      record: facts on the training data.
      seen: the subjects in the training and validation sets.
      notes: warnings for the user, one line each.
      weights: of exported weights their config.json; None for a run.
      others: further runs whose predictions are averaged with this one's; see `several_runs`.
      chosen_planes: the planes that predictions are averaged over; (): the one of `record` alone.
    """

    run: Path
    task_name: str
    members: tuple[EnsembleMember, ...]
    document: RunConfig
    record: TrainingFacts
    seen: frozenset[str]
    notes: tuple[str, ...]
    weights: WeightsDocument | None = None
    others: tuple["TrainedRun", ...] = ()
    chosen_planes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the model, without the folders of the machine."""
        return (self.weights.name if self.weights else "") or self.run.absolute().name

    @property
    def place(self) -> str:
        """The run folder for people; of a ready model its name, without the package's folder."""
        return self.run.name if self.run.parent == READY else str(self.run)

    @property
    def runs(self) -> tuple["TrainedRun", ...]:
        """This run and the others."""
        return (self, *self.others)

    @property
    def planes(self) -> tuple[str, ...]:
        """The planes in which this run predicts, without the others."""
        return self.chosen_planes or (self.record.plane,)

    @property
    def title(self) -> str:
        """The names and folds of all runs: 'axial, fold 0; coronal, fold 0'."""
        return "; ".join(
            f"{one.name}, {fold_titles([member.fold for member in one.members])}"
            for one in self.runs
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The modalities that the networks need, those of all runs in canonical order."""
        if not self.others:
            return self.task.inputs
        needed = {name for one in self.runs for name in one.task.inputs}
        return tuple(name for name in MODALITIES if name in needed)

    @property
    def takes_missing(self) -> bool:
        """Whether the networks of all runs were trained for missing modalities."""
        return all(one.task.takes_missing for one in self.runs)

    def has_seen(self, case: str) -> bool:
        """Whether the person of a case is in the training or validation sets, by the names."""
        if any(one.has_seen(case) for one in self.others):
            return True
        if self.weights is None:
            return subject_of(case) in {subject_of(name) for name in self.seen}
        networks = self.weights.tasks[self.task_name]
        return hashed_persons([case], networks.exported_from)[0] in networks.seen

    @property
    def task(self) -> Task:
        """The stage's task."""
        return self.members[0].network.task

    @property
    def segments(self) -> bool:
        """Whether the networks predict labels; otherwise they predict a modality."""
        return self.members[0].network.segments

    @property
    def targets(self) -> tuple[str, ...]:
        """The modalities that the networks predict from others; none for a segmentation."""
        return self.task.synthetic if isinstance(self.task, Pretraining) else ()

    @property
    def normalisation(self) -> str:
        """One of `NORMALISATIONS`."""
        return str(self.record.normalisation)

    @property
    def in_plane(self) -> tuple[int, int] | None:
        """(H, W) that slices of the input must have; None for any.

        A normalisation by slice is over all pixels, air included: its numbers depend on the size.
        """
        return self.slice_shape if self.normalisation == "slice" else None

    @property
    def slice_shape(self) -> tuple[int, int] | None:
        """The slice size of the training data; None where the checkpoint does not state it."""
        shape = self.record.slice_shape
        return (shape[0], shape[1]) if shape else None

    @property
    def hash(self) -> str:
        """The `combined_hash` of the members of all runs."""
        return combined_hash([member.hash for one in self.runs for member in one.members])

    def describe(self) -> ModelFacts:
        """The identity of the model, written beside every prediction."""
        return ModelFacts(
            hash=self.hash,
            run=self.name,
            folds=tuple(
                FoldModel(m.fold, m.hash, m.network.meta.step, m.temperature) for m in self.members
            ),
            record=self.record,
            config=without_paths(self.document.config),
            weights=self.weights.weights_sha256 if self.weights else "",
            others=tuple(one.describe() for one in self.others),
        )


def combined_hash(hashes: Sequence[str]) -> str:
    """The hash of the only member of a model, or the SHA-256 of all members' hashes."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def open_run(
    path: Path, task_name: str, mesh: Mesh, *, calibrated: bool = False, dtype: str | None = None
) -> TrainedRun:
    """Restores the networks of one stage of a run.

    Args:
      path: RUN for all its complete folds, or RUN/fold_K for one fold.
      task_name: 'segment' or 'reconstruct'.
      mesh: the devices.
      calibrated: divide the logits by the temperatures that `brats_jax.calibrate` fitted.
      dtype: compute type, 'float32' or 'bfloat16'; None for the configured one.

    Raises:
      BratsError: no such run, no complete fold in it, or a checkpoint that cannot be used.
    """
    located = locate_fold(path)
    if located is None:
        check_config_exists(path)
        check_config_exists(path.parent)
        raise BratsError(f"'{path}': no run there; give the --workdir of a training, or RUN/fold_K")
    run, only = located
    document = read_document(run.config_json, RunConfig)
    if document.settings.dtype not in devices.DTYPES:
        raise BratsError(f"{run.config_json}: not the settings of a run; copy it again")
    stage = STAGE_OF_TASK[task_name]
    folds, notes = _folds(run, only, stage)
    # Every fold must hold the model that the first one describes.
    task = _task_of(folds[0][1], stage, devices.compute_dtype(dtype or document.settings.dtype))
    members = []
    for fold, folder in folds:
        network = RestoredNetwork(task, folder, mesh)
        digest = torch_weights.digest(torch_weights.torch_state(network.params, network.stats))
        temperature = read_temperature(fold, digest) if calibrated else 1.0
        members.append(EnsembleMember(fold.number, network, digest, temperature))
    record = _record_of(run.path, members)
    if record.slice_shape is None and record.normalisation == "slice":
        notes.append(
            "the checkpoint does not state the slice size it was trained on; BraTS has 240 x 240"
        )
    pretrained = stage == "pretrain" or document.settings.ssl
    seen = _seen(run, [member.fold for member in members], pretrained=pretrained)
    return TrainedRun(run.path, task_name, tuple(members), document, record, seen, tuple(notes))


def read_temperature(fold: FoldFolder, model_hash: str) -> float:
    """The temperature in a fold's calibration.json.

    Raises:
      BratsError: there is none, or it was fitted to other weights.
    """
    path = fold.calibration_json
    remedy = f"run python -m brats_jax.calibrate --checkpoint={fold.run.path}"
    if not path.exists():
        raise BratsError(f"{fold.path} is not calibrated: {remedy}")
    # `calibrate` keeps a document that was edited or damaged.
    calibration = read_document(path, Calibration, f"move it away and {remedy}")
    if not calibration.temperature > 0:
        raise BratsError(f"{path} holds no temperature above 0: {remedy}")
    if calibration.model != model_hash:
        raise BratsError(f"{path} was fitted to other weights than the fold has now: {remedy}")
    return calibration.temperature


def _task_of(folder: StageFolder, stage: str, dtype: jnp.dtype) -> Task:
    """The task that the checkpoint in a stage's folder describes."""
    task = task_of(checkpoints.read_meta(folder.best).model, dtype)
    if task.name != stage:
        raise BratsError(f"{folder.path} holds a {task.name} checkpoint; copy the run again")
    if isinstance(task, Pretraining) and not task.synthetic:
        raise BratsError(
            f"{folder.path} was trained with config.pretrain.task={task.pretext_name}, which has "
            "no synthetic modality: --task=reconstruct needs a pretext that predicts one from "
            "others, such as cross_modality or any_to_any"
        )
    return task


def first_stage_of(trained: TrainedRun) -> Synthesis | None:
    """What the first stage of a segmentation's run predicts, read without its weights.

    None if there is no first stage, if it predicts no modality, or if a document of it is missing
    or damaged.
    """
    if trained.others:
        return None
    stage = STAGE_OF_TASK["reconstruct"]
    with contextlib.suppress(BratsError, LookupError):
        if trained.weights is not None:
            task = task_of(trained.weights.tasks["reconstruct"].model, trained.task.dtype)
            return _synthesis_of(task)
        folders = [
            _stage_folder(RunFolder(trained.run).fold(one.fold), stage) for one in trained.members
        ]
        for folder in folders:
            if folder.is_complete:
                task = _task_of(folder, stage, jnp.dtype(trained.task.dtype))
                return _synthesis_of(task)
    return None


def _synthesis_of(task: Task) -> Synthesis | None:
    if not isinstance(task, Pretraining) or not task.synthetic:
        return None
    return Synthesis(task.inputs, task.synthetic)


def _folds(
    run: RunFolder, only: int | None, stage: str
) -> tuple[list[tuple[FoldFolder, StageFolder]], list[str]]:
    """(fold, stage) of every fold to use, and notes for the user on incomplete ones.

    Args:
      run: the run.
      only: number of the fold that the user named; None: all complete folds.
      stage: 'pretrain' or 'segment'.

    Raises:
      BratsError: no fold of the run is complete.
    """
    notes: list[str] = []
    if only is not None:
        folder = _stage_folder(run.fold(only), stage)
        if reason := _reason_incomplete(folder):
            notes.append(f"{folder.path} {reason}: this is its best so far")
        return [(run.fold(only), folder)], notes
    found = []
    usable = ""  # the first fold with a checkpoint
    for fold in run.folds():
        folder = _stage_folder(fold, stage)
        reason = _reason_incomplete(folder)
        if not reason:
            found.append((fold, folder))
        elif folder.path.exists():
            notes.append(f"{fold_title(fold.number)} {reason} and left out")
            usable = usable or (str(fold.path) if checkpoint_steps(folder.best) else "")
    if not found:
        why = f" ({'; '.join(notes)})" if notes else ""
        best = f", or give {usable} to use its best so far" if usable else ""
        raise BratsError(
            f"{run.path}: no fold whose {stage} stage is trained to the end{why}; train one{best}"
        )
    return found, notes


def _reason_incomplete(folder: StageFolder) -> str:
    """Why a stage does not count as trained to the end; empty if it does."""
    if folder.is_complete:
        return ""
    try:
        read_if_there(folder.complete_json, StageResult)
    except BratsError as error:
        return f"is not known to be trained to the end ({error})"
    return "is not trained to the end"


def _stage_folder(fold: FoldFolder, stage: str) -> StageFolder:
    """The folder of a fold's stage; in another run if the pretraining was taken from there."""
    if stage == "pretrain" and fold.pretraining_json.exists():
        source = read_document(fold.pretraining_json, PretrainingSource)
        return RunFolder(Path(source.run)).fold(fold.number).stage(stage)
    return fold.stage(stage)


def _record_of(run: Path, members: list[EnsembleMember]) -> TrainingFacts:
    """The facts that the checkpoints of all members share."""
    records = [m.network.meta.record for m in members]
    normalisations = {record.normalisation for record in records}
    if not normalisations <= set(NORMALISATIONS):
        raise BratsError(
            f"{run}: its checkpoints do not say how their data were normalised; train anew"
        )
    if len(normalisations) > 1:
        raise BratsError(f"{run}: its folds were trained on data normalised in different ways")
    return dataclasses.replace(records[0], leaks=None)


def _seen(run: RunFolder, folds: Sequence[int], *, pretrained: bool) -> frozenset[str]:
    """The subjects that these folds trained or validated on: all but the test set.

    With config.folds=all nobody is tested. In a cross-validation each fold is tested on its own
    units, which a fold otherwise validates on.

    Args:
      run: the run.
      folds: numbers of the folds.
      pretrained: whether a pretraining belongs to the networks: it uses patients without labels.
    """
    if not run.splits_json.exists():
        return frozenset()
    splits = read_document(run.splits_json, Splits)
    units = {name for names in splits.folds for name in names}
    if splits.cross_validates:
        tested = dict(enumerate(splits.folds))
        units = {name for name in units if any(name not in tested.get(k, ()) for k in folds)}
    unlabelled = splits.unlabelled if pretrained else ()
    # A split by slice names its units CASE/number.
    return frozenset(name.split("/")[0] for name in (*units, *splits.training_only, *unlabelled))
