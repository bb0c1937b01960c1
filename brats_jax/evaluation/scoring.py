"""One pass of a network over the test set: predicts every slice and tallies its statistics."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from brats_jax.data.brain import brain_mask
from brats_jax.data.modalities import channel_indices
from brats_jax.data.planes import spacing_along
from brats_jax.data.store.reader import Store
from brats_jax.evaluation.conventions import Scores, scores_of
from brats_jax.evaluation.slices import completed, device_batches, facts_of, predicted_labels
from brats_jax.evaluation.tallies import (
    FIXED_RANGE,
    IMAGE_METRICS,
    LESION_FIELDS,
    LESION_REGIONS,
    SCORED,
    SURFEL_FIELDS,
    SURFEL_REGIONS,
    YARDSTICK_METRICS,
    PretrainingTally,
    SegmentationTally,
    Slices,
)
from brats_jax.evaluation.yardsticks import Yardstick
from brats_jax.inference.flips import OverFlips
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.metrics import image, lesions, overlap, surface, surface_by_area
from brats_jax.metrics.surface import SurfaceStatistics
from brats_jax.models import Weights
from brats_jax.runtime import devices
from brats_jax.runtime.console import progress_bar
from brats_jax.tasks import Batch, Pretraining

Labels = jax.Array | np.ndarray
ProgressCallback = Callable[[int], Any]  # takes the number of slices done since the last call


def _no_progress(slices: int) -> None:
    pass


def score(
    network: RestoredNetwork,
    store: Store,
    indices: np.ndarray,
    batch_size: int,
    tolerance_mm: float,
    title: str,
    *,
    over: str = "all",
    yardsticks: Sequence[Yardstick] = (),
    tta: bool = False,
) -> tuple[SegmentationTally | PretrainingTally, list[Scores]]:
    """Predicts and scores the slices of a test set.

    Args:
      network: the stage's best model.
      store, indices: the slices, by ascending global index.
      batch_size: slices at a time, rounded up to a multiple of the number of devices.
      tolerance_mm: boundary pixels nearer than this count as found (NSD).
      title: label of the progress bar.
      over: 'all' or 'tumour': which slices of each patient these are.
      yardsticks: of a pretraining, to be scored beside it.
      tta: average over flips (see `inference.flips`).

    Returns:
      (tally, all its scores).
    """
    batch_size = devices.round_up(batch_size, network.mesh)
    tally: SegmentationTally | PretrainingTally
    with progress_bar(len(indices), title, "slice") as progress:
        done = progress.update
        if network.segments:
            tally = score_segmentation(
                network, store, indices, batch_size, tolerance_mm, done, over, tta
            )
        else:
            tally = score_pretraining(
                network, store, indices, batch_size, done, over, yardsticks, tta
            )
    return tally, scores_of(tally)


def score_segmentation(
    network: RestoredNetwork,
    store: Store,
    indices: np.ndarray,
    batch_size: int,
    tolerance_mm: float,
    done: ProgressCallback = _no_progress,
    over: str = "all",
    tta: bool = False,
) -> SegmentationTally:
    """Tallies a network's labels; arguments as for `score`, `done` reports the progress."""

    def predicted() -> Iterator[tuple[jax.Array, jax.Array, np.ndarray]]:
        for batch in predicted_labels(network, store, indices, batch_size, tta=tta):
            yield batch
            done(int(batch[2].sum()))

    slices = describe_slices(store, indices, over)
    spacing = np.array([voxel_spacing_mm(store, p) for p in slices.patients], np.float32)
    return tally_segmentation(predicted(), slices, store.slice_shape, spacing, tolerance_mm)


def tally_segmentation(
    predicted: Iterable[tuple[Labels, Labels, np.ndarray]],
    slices: Slices,
    shape: tuple[int, int],
    spacing_mm: np.ndarray,
    tolerance_mm: float,
) -> SegmentationTally:
    """Counts and boundary statistics of every slice, and of every whole volume.

    Args:
      predicted: batches of equal size (prediction, truth, valid): labels uint8[B, H, W] twice, and
        bool[B]. The valid slices follow the order of `slices`.
      slices: patient and number of each slice, patient by patient.
      shape: (H, W).
      spacing_mm: float32[P, 3], voxel size of each patient.
      tolerance_mm: boundary pixels nearer than this count as found (NSD).
    """
    regions = tuple(SCORED.values())
    volumes = _Volumes(slices, shape, spacing_mm, tolerance_mm)
    counts, edges = [], []
    first = 0
    for prediction, truth, valid in predicted:
        rows = np.arange(first, first + int(valid.sum()))
        first += len(rows)
        in_plane = np.resize(spacing_mm[slices.patient[rows], :2], (len(valid), 2))
        edges.append(
            _select(_in_plane_statistics(prediction, truth, in_plane, tolerance_mm), valid)
        )
        counts.append(np.asarray(overlap.region_counts(prediction, truth, regions))[valid])
        volumes.add(rows, np.asarray(prediction)[valid], np.asarray(truth)[valid])
    return SegmentationTally(
        slices=slices,
        pixels=shape[0] * shape[1],
        spacing_mm=spacing_mm,
        tolerance_mm=tolerance_mm,
        counts=np.concatenate(counts),
        surface=_joined(edges),
        volume_surface=_joined(volumes.edges),
        surfels=np.array(volumes.surfels, np.float32),
        lesions=np.array(volumes.lesions, np.float32),
    )


class _Volumes:
    """Stacks the slices of each patient into a volume and scores it when it is whole.

    Slices arrive patient by patient: one volume is in memory at a time.
    """

    def __init__(
        self, slices: Slices, shape: tuple[int, int], spacing_mm: np.ndarray, tolerance_mm: float
    ) -> None:
        self._slices, self._shape = slices, shape
        self._spacing_mm, self._tolerance_mm = spacing_mm, tolerance_mm
        self._left = np.bincount(slices.patient, minlength=len(slices.patients))
        self._open: list[tuple[np.ndarray, np.ndarray]] = []
        self.edges: list[SurfaceStatistics] = []
        self.surfels: list[np.ndarray] = []
        self.lesions: list[np.ndarray] = []

    def add(self, rows: np.ndarray, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Adds labels uint8[n, H, W] of the tally's slices `rows`."""
        for patient, p, t in zip(self._slices.patient[rows], prediction, truth, strict=True):
            self._open.append((p, t))
            self._left[patient] -= 1
            if not self._left[patient]:
                self._finish(patient)

    def _finish(self, patient: int) -> None:
        taken, self._open = self._open, []
        spacing = tuple(float(s) for s in self._spacing_mm[patient])
        if self._slices.whole[patient]:
            prediction, truth = (np.stack(s, axis=-1) for s in zip(*taken, strict=True))
            lesion_rows = _lesion_scores(prediction, truth, spacing)
            surfel_rows = _surfel_scores(prediction, truth, spacing, self._tolerance_mm)
        else:  # no scores in 3D: empty masks have boundaries of the background only
            prediction = truth = np.zeros((*self._shape, 1), np.uint8)
            lesion_rows = np.full((len(LESION_REGIONS), len(LESION_FIELDS)), np.nan)
            surfel_rows = np.full((len(SURFEL_REGIONS), len(SURFEL_FIELDS)), np.nan)
        self.edges.append(
            jax.device_get(
                surface.region_surface_statistics(
                    prediction[None],
                    truth[None],
                    tuple(SCORED.values()),
                    spacing,
                    tolerance_mm=self._tolerance_mm,
                )
            )
        )
        self.lesions.append(lesion_rows)
        self.surfels.append(surfel_rows)


def _surfel_scores(
    prediction: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...], tolerance_mm: float
) -> np.ndarray:
    """float64[regions, fields] of one volume; NaN where a mask is empty."""
    rows = []
    for name in SURFEL_REGIONS:
        predicted, true = (np.isin(labels, SCORED[name]) for labels in (prediction, truth))
        elements = surface_by_area.surface_elements(predicted, true, spacing_mm)
        hd95 = np.nan if elements is None else surface_by_area.hd95(elements)
        rows.append([hd95, surface_by_area.surface_dice(elements, tolerance_mm)])
    return np.array(rows)


def _lesion_scores(
    prediction: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]
) -> np.ndarray:
    """float64[regions, fields] of one volume."""
    regions = [SCORED[name] for name in LESION_REGIONS]
    found = lesions.region_lesion_scores(prediction, truth, regions, spacing_mm)
    return np.array([[float(getattr(one, field)) for field in LESION_FIELDS] for one in found])


def _in_plane_statistics(
    prediction: Labels, truth: Labels, spacing_mm: np.ndarray, tolerance_mm: float
) -> SurfaceStatistics:
    """Boundary statistics [B, R] of a batch; `spacing_mm` float32[B, 2] may differ by slice."""
    parts: list[tuple[np.ndarray, SurfaceStatistics]] = []
    for spacing in np.unique(spacing_mm, axis=0):
        here = np.flatnonzero((spacing_mm == spacing).all(axis=1))
        alone = len(here) == len(spacing_mm)
        found = surface.region_surface_statistics(
            prediction if alone else prediction[here],
            truth if alone else truth[here],
            tuple(SCORED.values()),
            tuple(float(s) for s in spacing),
            tolerance_mm=tolerance_mm,
        )
        parts.append((here, jax.device_get(found)))
    order = np.argsort(np.concatenate([here for here, _ in parts]))
    return _select(_joined([found for _, found in parts]), order)


def _joined(parts: list[SurfaceStatistics]) -> SurfaceStatistics:
    return SurfaceStatistics(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _select(statistics: SurfaceStatistics, which: np.ndarray) -> SurfaceStatistics:
    return SurfaceStatistics(*(np.asarray(array)[which] for array in statistics))


def score_pretraining(
    network: RestoredNetwork,
    store: Store,
    indices: np.ndarray,
    batch_size: int,
    done: ProgressCallback = _no_progress,
    over: str = "all",
    yardsticks: Sequence[Yardstick] = (),
    tta: bool = False,
) -> PretrainingTally:
    """Image quality of every predicted slice: over the whole slice, the brain and the tumour.

    Of several modalities the mean of each number, and the numbers of each. Of hidden blocks, the
    pixels of the regions that were hidden.

    Arguments as for `score`; `done` reports the progress. The yardsticks predict `Task.tested`.
    """
    task = network.task
    assert isinstance(task, Pretraining)

    @jax.jit
    def step(
        params: Weights, stats: Weights, batch: Batch, averaged: jax.Array | None
    ) -> dict[str, jax.Array]:
        example, output = task.test_example(batch), averaged
        if output is None:
            output = network.output(params, stats, example.input)
        output = completed(task, output, example)
        places = [task.outputs.index(name) for name in task.tested]
        counted = None
        if example.weight is not None:
            counted = jnp.broadcast_to(example.weight, output.shape) > 0
        found = {
            name: _image_quality(
                output[..., k],
                example.target[..., k],
                _regions(batch),
                None if counted is None else counted[..., k],
            )
            for name, k in zip(task.tested, places, strict=True)
        }
        return {f"/{of}": value for of, value in _over_modalities(found).items()}

    # A program of its own: the bits of the network's numbers do not depend on the yardsticks.
    @jax.jit
    def beside(batch: Batch) -> dict[str, jax.Array]:
        images = batch["image"].astype(jnp.float32)
        values: dict[str, jax.Array] = {}
        for one in yardsticks:
            guess = one.predict(images)
            targets = images[..., jnp.array(channel_indices(one.targets))]
            found = {
                name: _image_quality(
                    guess[..., k], targets[..., k], _regions(batch), None, YARDSTICK_METRICS
                )
                for k, name in enumerate(one.targets)
            }
            values |= {f"{one.name}/{of}": value for of, value in _over_modalities(found).items()}
        return values

    flips, read = OverFlips(network), jax.jit(lambda batch: task.test_example(batch).input)
    facts = facts_of(task, store)
    rows: list[dict[str, np.ndarray]] = []
    for batch, valid in device_batches(network.mesh, store, indices, batch_size, facts):
        averaged = flips.images(read(batch)) if tta else None
        values = jax.device_get(step(network.params, network.stats, batch, averaged))
        values |= jax.device_get(beside(batch))
        rows.append({name: value[valid] for name, value in values.items()})
        done(int(valid.sum()))
    joined: dict[str, dict[str, np.ndarray]] = {}
    for key in rows[0]:
        whose, _, name = key.partition("/")
        joined.setdefault(whose, {})[name] = np.concatenate([row[key] for row in rows])
    values = joined.pop("")
    return PretrainingTally(describe_slices(store, indices, over), values, joined)


def _regions(batch: Batch) -> dict[str, jax.Array | None]:
    """bool[B, H, W] by name; None: the whole slice."""
    return {"slice": None, "brain": brain_mask(batch["image"]), "tumour": batch["label"] > 0}


def _over_modalities(found: Mapping[str, Mapping[str, jax.Array]]) -> dict[str, jax.Array]:
    """The numbers of the only modality; of several their means, and 'modality number' of each."""
    first = next(iter(found.values()))
    if len(found) == 1:
        return dict(first)
    means = {of: jnp.nanmean(jnp.stack([each[of] for each in found.values()]), 0) for of in first}
    each = {f"{name} {of}": value for name, own in found.items() for of, value in own.items()}
    return {**means, **each}


def _image_quality(
    prediction: jax.Array,
    target: jax.Array,
    regions: Mapping[str, jax.Array | None],
    counted: jax.Array | None,
    metrics: Sequence[str] = IMAGE_METRICS,
) -> dict[str, jax.Array]:
    """float32[B] of each 'region/metric'; `counted` restricts every region."""
    data_range = image.data_range(target, "target")
    functions: dict[str, Callable[[jax.Array | None], jax.Array]] = dict(
        zip(
            IMAGE_METRICS,
            (
                lambda mask: image.mse(prediction, target, mask),
                lambda mask: image.psnr(prediction, target, data_range, mask),
                lambda mask: image.psnr(prediction, target, FIXED_RANGE, mask),
                lambda mask: image.ssim(prediction, target, data_range, mask),
                lambda mask: image.ssim(prediction, target, data_range, mask, window="gaussian11"),
            ),
            strict=True,
        )
    )
    values = {}
    for region, whole in regions.items():
        mask = whole if counted is None else (counted if whole is None else whole & counted)
        for metric in metrics:
            values[f"{region}/{metric}"] = functions[metric](mask)
    return values


def describe_slices(store: Store, indices: np.ndarray, over: str = "all") -> Slices:
    """Patient and number of the slices at `indices`, int64[N] global indices.

    Args:
      store: the store.
      indices: of the slices.
      over: 'all' or 'tumour'. Volumes that lack slices are left out of scores over all slices.
    """
    numbers, patient = np.unique(store.patient_of[indices], return_inverse=True)
    names = [store.patients[p] for p in numbers]
    held = np.bincount(patient, minlength=len(names))
    return Slices(
        index=np.asarray(indices, np.int64),
        patient=patient.astype(np.int32),
        number=np.asarray(store.slice_number[indices], np.int32),
        patients=np.array(names),
        whole=(held == [len(store.slices_of(name)) for name in names]) & store.whole[numbers],
        tumour=store.has_tumour[indices],
        holes=~store.whole[numbers] if over == "all" else np.zeros(len(names), bool),
    )


def voxel_spacing_mm(store: Store, patient: str) -> tuple[float, float, float]:
    """Voxel size along height, width and slices; 1 mm where the source has none (BraTS)."""
    spacing = store.case(patient).spacing_mm
    return spacing_along(spacing, store.plane) if spacing else (1.0, 1.0, 1.0)
