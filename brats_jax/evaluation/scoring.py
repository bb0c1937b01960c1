"""One pass of a network over the test set, and the statistics of every segmented slice."""

from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np

from brats_jax.data.store.reader import Store
from brats_jax.evaluation.conventions import Scores, scores_of
from brats_jax.evaluation.image_scoring import score_pretraining
from brats_jax.evaluation.slices import (
    ProgressCallback,
    describe_slices,
    no_progress,
    predicted_labels,
    voxel_spacing_mm,
)
from brats_jax.evaluation.tallies import (
    LESION_FIELDS,
    LESION_REGIONS,
    SCORED,
    SURFEL_FIELDS,
    SURFEL_REGIONS,
    PretrainingTally,
    SegmentationTally,
    Slices,
)
from brats_jax.evaluation.yardsticks import Yardstick
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.metrics import lesions, overlap, surface, surface_by_area
from brats_jax.metrics.surface import SurfaceStatistics
from brats_jax.runtime import devices
from brats_jax.runtime.console import progress_bar

Labels = jax.Array | np.ndarray


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
    planes: str = "",
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
      planes: average a segmentation over slices of these planes, as in config.evaluation.

    Returns:
      (tally, all its scores).
    """
    batch_size = devices.round_up(batch_size, network.mesh)
    tally: SegmentationTally | PretrainingTally
    with progress_bar(len(indices), title, "slice") as progress:
        done = progress.update
        if network.segments:
            tally = score_segmentation(
                network, store, indices, batch_size, tolerance_mm, done, over, tta, planes
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
    done: ProgressCallback = no_progress,
    over: str = "all",
    tta: bool = False,
    planes: str = "",
) -> SegmentationTally:
    """Tallies a network's labels; arguments as for `score`, `done` reports the progress."""

    def predicted() -> Iterator[tuple[Labels, Labels, np.ndarray]]:
        for batch in predicted_labels(network, store, indices, batch_size, tta=tta, planes=planes):
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
