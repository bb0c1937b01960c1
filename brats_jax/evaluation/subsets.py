"""The segmentation of a fold's test set from every subset of its input modalities.

One pass for each subset: the other modalities are taken away from the normalised slices, and the
voxels of WT, TC and ET are counted. A network that was not trained for missing modalities gets
zeros in their place, the mean intensity of its input.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from brats_jax.data.modalities import REGIONS, channel_indices
from brats_jax.data.selection import select_slices, usable_slices
from brats_jax.data.store.reader import Store
from brats_jax.data.subsets import (
    Subset,
    as_mask,
    dots,
    keep_only,
    subsets_of,
)
from brats_jax.errors import BratsError
from brats_jax.evaluation.over_planes import OverPlanes
from brats_jax.evaluation.published_files import publish
from brats_jax.evaluation.slices import describe_slices, device_batches, facts_of
from brats_jax.evaluation.subset_scores import TRAINED, ZEROS, table_of, with_subset
from brats_jax.inference.flips import OverFlips
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.metrics import overlap
from brats_jax.models import Weights
from brats_jax.runs.documents import EvaluatedCheckpoint
from brats_jax.runs.documents.subsets import SubsetEvaluation, SubsetFiles
from brats_jax.runs.folder import FoldFolder
from brats_jax.runtime import devices
from brats_jax.runtime.console import print_line, progress_bar
from brats_jax.runtime.document import read_if_there
from brats_jax.runtime.files import refuse_link
from brats_jax.runtime.text import plural
from brats_jax.tasks import Batch, Task


class SubsetCounter:
    """Counts the voxels of WT, TC and ET that a network finds from some of the modalities.

    One compiled program serves all subsets.

    Args:
      network: a segmentation.
      tta: average over flips.
      planes: average over slices of these planes; () for those of the store alone.
    """

    def __init__(
        self, network: RestoredNetwork, *, tta: bool = False, planes: Sequence[str] = ()
    ) -> None:
        self.network, self.flips = network, OverFlips(network) if tta and not planes else None
        self.planes = OverPlanes(network, planes, tta=tta) if planes else None
        self._given = jax.jit(keep_only)
        self._read = jax.jit(network.task.test_input)
        self._predict = jax.jit(self._predicted)

    def _predicted(self, params: Weights, stats: Weights, batch: Batch) -> jax.Array:
        x = self.network.task.test_input(batch)
        return self.network.prediction(self.network.output(params, stats, x))

    def labels(self, batch: Batch, given: np.ndarray) -> jax.Array:
        """Labels uint8[B, H, W] of a batch of whole slices, of which bool[4] `given` are there."""
        batch = self._given(batch, jnp.asarray(given))
        if self.flips is not None:
            return self.flips.labels(self._read(batch))
        return self._predict(self.network.params, self.network.stats, batch)

    def count(
        self, store: Store, indices: np.ndarray, subset: Subset, batch_size: int, title: str
    ) -> np.ndarray:
        """Counts over whole slices, from the modalities of a subset.

        Args:
          store, indices: the slices.
          subset: the modalities that are there.
          batch_size: slices at a time, a multiple of the number of devices.
          title: of the progress bar.

        Returns:
          int64[N, 3, 3]: of each slice and region (tp, fp, fn) in pixels.
        """
        found = []
        with progress_bar(len(indices), title, "slice") as progress:
            for labels, truth, valid in self._of_slices(store, indices, subset, batch_size):
                counts = overlap.region_counts(labels, truth, tuple(REGIONS.values()))
                found.append(np.asarray(counts)[valid])
                progress.update(int(valid.sum()))
        return np.concatenate(found).astype(np.int64)

    def _of_slices(
        self, store: Store, indices: np.ndarray, subset: Subset, batch_size: int
    ) -> Iterator[tuple[jax.Array | np.ndarray, jax.Array | np.ndarray, np.ndarray]]:
        """(prediction, truth, valid) of the slices, as `slices.predicted_labels`."""
        if self.planes is not None:
            yield from self.planes.labels(store, indices, batch_size, subset)
            return
        facts, given = facts_of(self.network.task, store), as_mask(subset)
        for batch, valid in device_batches(self.network.mesh, store, indices, batch_size, facts):
            yield self.labels(batch, given), batch["label"], valid


@dataclass(frozen=True)
class SubsetsOfFold:
    """The evaluation of a fold from every subset of its inputs.

    Attributes:
      task: the segmentation.
      store, test: the data, and the global indices of the test set.
      set, split_by: as in `Evaluation`.
      folder: of the fold, with the checkpoint.
      mesh: the devices of this process.
      batch_size, tta: as in config.evaluation.
      planes: as in `Evaluation`.
    """

    task: Task
    store: Store
    test: np.ndarray
    set: str
    split_by: str
    folder: FoldFolder
    mesh: Mesh
    batch_size: int
    tta: bool
    planes: str

    @property
    def title(self) -> str:
        """'fold K segment'."""
        return f"fold {self.folder.number} segment"

    def run(self, checkpoint: EvaluatedCheckpoint, *, again: bool) -> SubsetEvaluation | None:
        """Evaluates the subsets that subsets.json does not have; with `again` all of them.

        A command that was stopped halfway goes on, also with `again`. A fold in which no test
        patient has all inputs and all slices is named and left out (None): the others go on.
        """
        path, every = SubsetFiles(self.folder.path).json, subsets_of(self.task.inputs)
        refuse_link(path)
        found = self._new_document(checkpoint)
        if found is None:
            print_line(
                f"{self.title}: no test patient has {', '.join(self.task.inputs)} and all slices: "
                "not evaluated from subsets of the modalities"
            )
            return None
        document, indices, patient = found
        before = self._before()
        if before is not None and before.same_as(document):
            if before.is_complete and not again:
                print_line(f"{self.title}: all {len(every)} subsets evaluated, skipped")
                return before
            document = document if before.is_complete else before  # complete: all again
        network = RestoredNetwork(self.task, self.folder.stage("segment"), self.mesh)
        planes = self.planes.split(",") if self.planes else ()
        counter = SubsetCounter(network, tta=self.tta, planes=planes)
        batch_size = devices.round_up(self.batch_size, self.mesh)
        document.write(path)
        print_line(
            f"{self.title}: evaluating {plural(len(document.patients), 'test patient')} from "
            f"{len(every)} subsets of the modalities "
            f"({TRAINED if document.trained_for_missing else ZEROS})"
        )
        done = {one.modalities for one in document.subsets}
        for k, subset in enumerate(every, 1):
            if subset in done:
                continue
            title = f"{self.title} {dots(subset, self.task.inputs)} ({k} of {len(every)})"
            of_slices = counter.count(self.store, indices, subset, batch_size, title)
            counts = np.zeros((len(document.patients), *of_slices.shape[1:]), np.int64)
            np.add.at(counts, patient, of_slices)
            document = with_subset(document, subset, counts)
            document.write(path)
        publish(self.folder, SubsetFiles(self.folder.path).csv, table_of(document))
        return document

    def _before(self) -> SubsetEvaluation | None:
        """The document of an earlier call; one that cannot be read is named, and made again."""
        try:
            return read_if_there(SubsetFiles(self.folder.path).json, SubsetEvaluation)
        except BratsError as error:
            print_line(f"{self.title}: {error}")
            return None

    def _new_document(
        self, checkpoint: EvaluatedCheckpoint
    ) -> tuple[SubsetEvaluation, np.ndarray, np.ndarray] | None:
        """(document without subsets, slices to evaluate, patient of each in the document's order).

        None if no test patient has all inputs and all slices.
        """
        store, inputs = self.store, self.task.inputs
        with_all = np.all(store.present[:, list(channel_indices(inputs))], axis=1)
        indices = select_slices(store, usable_slices(store, self.test, with_all), "all")
        slices = describe_slices(store, indices) if len(indices) else None
        if slices is None or not slices.whole.any():
            return None
        kept = slices.whole[slices.patient]
        place = np.cumsum(slices.whole) - 1
        document = SubsetEvaluation(
            fold=self.folder.number,
            set=self.set,
            split_by=self.split_by,
            inputs=tuple(inputs),
            trained_for_missing=self.task.takes_missing,
            checkpoint=checkpoint,
            tta=self.tta,
            planes=self.planes,
            patients=tuple(str(name) for name in slices.patients[slices.whole]),
            left_out=len(np.unique(store.patient_of[self.test])) - int(slices.whole.sum()),
        )
        return document, indices[kept], place[slices.patient[kept]]
