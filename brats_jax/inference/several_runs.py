"""Several runs or planes as one model: each predicts by itself, and the mean decides.

    p(voxel) = mean over runs and planes r of p_r(voxel)

where p_r is the mean over the folds and flips of one run in slices of one plane
(`inference.ensemble`), back in axial slices. Each counts alike, whatever the number of folds.

Reference: Roth et al. 2014 and its successors average views of three orthogonal planes ("2.5D"),
https://arxiv.org/abs/1406.2639
"""

import dataclasses
import os
from collections.abc import Collection, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from brats_jax.data.planes import ALL_PLANES
from brats_jax.errors import BratsError
from brats_jax.inference import model_paths
from brats_jax.inference.ensemble import Ensemble, SliceLabels, decision
from brats_jax.inference.open_by_name import open_model
from brats_jax.inference.trained_run import EnsembleMember, TrainedRun
from brats_jax.runtime.item_progress import Progress, part_of
from brats_jax.runtime.text import joined


class EnsembleOfRuns:
    """Averages the probabilities of several ensembles, voxel by voxel.

    Args:
      ensembles: at least one; their networks have the same outputs.
    """

    def __init__(self, ensembles: Sequence[Ensemble]) -> None:
        self.ensembles = tuple(ensembles)
        self.members: tuple[EnsembleMember, ...] = sum((e.members for e in ensembles), ())
        self.flips = ensembles[0].flips
        self._decide = jax.jit(self._decided, static_argnames="details")

    @property
    def size(self) -> int:
        """The number of predictions in the average."""
        return sum(one.size for one in self.ensembles)

    def segment(
        self,
        images: np.ndarray,
        *,
        present: Collection[str] | None = None,
        details: bool = False,
        progress: Progress | None = None,
    ) -> SliceLabels:
        """Labels of every slice; arguments as in `Ensemble.segment`, of a whole scan."""
        mean, views = self.mean_outputs(images, present, progress)
        parts = [jax.device_get(self._decide(part, details=details)) for part in mean]
        found = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        return SliceLabels(found["labels"], views, found.get("probabilities"), found.get("entropy"))

    def mean_outputs(
        self,
        images: np.ndarray,
        present: Collection[str] | None = None,
        progress: Progress | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As in `Ensemble.mean_outputs`: the mean over the runs, and the labels of all views."""
        total, views = None, []
        for number, one in enumerate(self.ensembles):
            own = part_of(progress, number, len(self.ensembles))
            mean, labels = one.mean_outputs(images, present, own)
            views.append(labels)
            if total is None:
                total = mean
            else:
                total += mean
        assert total is not None
        total /= len(self.ensembles)
        return total, np.concatenate(views)

    def compile_for(self, slice_shape: tuple[int, int], *, details: bool = False) -> None:
        """Compiles what can be compiled before the first scan is read: see `Ensemble`."""
        for one in self.ensembles:
            one.compile_for(slice_shape, details=details)

    def reconstruct(self, images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """Always raises BratsError: first stages are not averaged (`open_models` refuses them)."""
        raise BratsError("several runs or planes are averaged for --task=segment alone: give one")

    def _decided(self, mean: jax.Array, *, details: bool) -> dict[str, jax.Array]:
        """The `decision` of mean outputs float32[H, W, K]."""
        return decision(self.members[0].network.channels, mean, 1, details=details)


def ensemble_of(
    trained: TrainedRun, *, flips: bool, batch_size: int = 0
) -> Ensemble | EnsembleOfRuns:
    """The networks of a model, ready to predict; arguments as in `Ensemble`."""
    each = [
        Ensemble(one.members, flips=flips, batch_size=batch_size, plane=plane)
        for one in trained.runs
        for plane in one.planes
    ]
    return EnsembleOfRuns(each) if len(each) > 1 else each[0]


def open_models(
    path: str | os.PathLike[str],
    task_name: str,
    mesh: Mesh,
    *,
    calibrated: bool = False,
    dtype: str | None = None,
    planes: str | Sequence[str] = (),
) -> TrainedRun:
    """Opens one model as `open_by_name.open_model` does, or several that are averaged.

    Args:
      path: a path or name, or several with commas between them.
      task_name, mesh, calibrated, dtype: as in `trained_run.open_run`.
      planes: the planes to average over, 'all' for those of the training; (): the first of them.

    Raises:
      BratsError: as in `open_model`; `path` is no path; runs that cannot be averaged; or a plane
        whose slices the model was not trained on.
    """
    if not isinstance(path, str | os.PathLike):
        raise BratsError(
            f"{path!r} is no path: give a text or a pathlib.Path; several runs as one text, with "
            "commas between them"
        )
    names = model_paths.split(path)
    if len(names) > 1 and task_name != "segment":
        raise BratsError(
            f"'{os.fspath(path)}': several runs are averaged for --task=segment alone: give one"
        )
    opened = [
        open_model(name, task_name, mesh, calibrated=calibrated, dtype=dtype) for name in names
    ]
    return averaged_model([with_planes(one, planes) for one in opened])


def chosen_planes(
    known: tuple[str, ...], planes: str | Sequence[str], whose: str
) -> tuple[str, ...]:
    """The planes to predict in; () if they are only the first plane of the training.

    Args:
      known: the planes of the training, in order.
      planes: as in `open_models`.
      whose: what was trained, for the error.

    Raises:
      BratsError: a plane that is not known.
    """
    names = planes.split(",") if isinstance(planes, str) else planes
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise BratsError(f"planes={planes!r}: give {ALL_PLANES}, or names, such as 'axial,coronal'")
    chosen = tuple(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
    if ALL_PLANES in chosen:
        chosen = known
    if unknown := [name for name in chosen if name not in known]:
        raise BratsError(
            f"{whose} was trained on {joined(known)} slices, not {joined(unknown, 'or')}; give "
            f"{ALL_PLANES}, or some of these; config.data.other_planes trains on more"
        )
    return () if chosen == known[:1] else chosen


def with_planes(trained: TrainedRun, planes: str | Sequence[str]) -> TrainedRun:
    """The same run, to predict in slices of these planes; arguments and errors of `open_models`."""
    chosen = chosen_planes(trained.record.planes, planes, f"--planes: {trained.place}")
    if len(chosen) > 1 and not trained.segments:
        raise BratsError(
            f"--planes={','.join(chosen)}: planes are averaged for --task=segment alone: give one"
        )
    return dataclasses.replace(trained, chosen_planes=chosen)


def averaged_model(opened: Sequence[TrainedRun]) -> TrainedRun:
    """One model of several runs of the second stage.

    Raises:
      BratsError: the same networks twice, other outputs, or another normalisation.
    """
    first, *others = opened
    if not others:
        return first
    hashes = [member.hash for one in opened for member in one.members]
    # Exported weights are rounded, which changes their hash.
    origins = [
        one.weights.tasks[one.task_name].exported_from if one.weights else one.hash
        for one in opened
    ]
    if len(set(hashes)) < len(hashes) or len(set(origins)) < len(origins):
        raise BratsError(f"{_names(opened)}: the same network is in two of them: give it once")
    facts = [
        {"outputs": ", ".join(one.task.outputs), "normalisation": one.normalisation}
        for one in opened
    ]
    for name, of_first in facts[0].items():
        for other, own in zip(others, facts[1:], strict=True):
            if own[name] != of_first:
                raise BratsError(
                    f"{first.place} has the {name} {of_first}, {other.place} has {own[name]}: runs "
                    "are averaged only where they are alike"
                )
    notes = [f"{one.name}: {note}" for one in opened for note in one.notes]
    return dataclasses.replace(first, others=tuple(others), notes=tuple(notes))


def _names(opened: Sequence[TrainedRun]) -> str:
    return ", ".join(one.place for one in opened)
