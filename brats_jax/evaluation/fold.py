"""The evaluation of one fold: its best models on its test set, as tallies, tables and pictures."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh

from brats_jax.data.selection import note_on_left_out, select_slices, usable_slices
from brats_jax.data.splits import Split
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation import yardsticks
from brats_jax.evaluation.over_planes import check_whole
from brats_jax.evaluation.panel_slices import slices_to_draw
from brats_jax.evaluation.published_files import line_on_edit
from brats_jax.evaluation.tallies import PretrainingTally
from brats_jax.evaluation.yardsticks import Yardstick
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.inference.several_runs import chosen_planes
from brats_jax.runs import checkpoints
from brats_jax.runs.averaged_label import averaged_label
from brats_jax.runs.documents import REEVALUATE_HINT, EvaluatedCheckpoint, Evaluation, Score
from brats_jax.runs.evaluated import EVALUATION_SETTINGS, edited_files, files_of, is_current
from brats_jax.runs.folder import FoldFolder, checkpoint_steps
from brats_jax.runs.settings import Settings
from brats_jax.runtime.console import print_line
from brats_jax.runtime.document import read_document, read_if_there
from brats_jax.runtime.files import refuse_link
from brats_jax.runtime.text import plural
from brats_jax.tasks import Pretraining, Task


@dataclass(frozen=True)
class FoldEvaluation:
    """The evaluation of a fold, which may be missing or out of date.

    Attributes:
      settings: of the run.
      tasks: the stages to evaluate, by name.
      store, split, split_by: the test set.
      set: as in `Evaluation`.
      folder: of the fold, with the checkpoints.
      mesh: the devices of this process.
      trained_on: by stage, int64[n] global indices of the slices that it trains on.
    """

    settings: Settings
    tasks: Mapping[str, Task]
    store: Store
    split: Split
    split_by: str
    set: str
    folder: FoldFolder
    mesh: Mesh
    trained_on: Mapping[str, np.ndarray]

    @property
    def title(self) -> str:
        """'fold K'."""
        return f"fold {self.folder.number}"

    def is_current(self) -> bool:
        """Whether the fold has an evaluation with these settings of its best checkpoints."""
        if not self.folder.evaluation_json.exists():
            return False
        best = {s: checkpoints.read_meta(self.folder.stage(s).best) for s in self.tasks}
        steps = {stage: meta.step for stage, meta in best.items()}
        wanted = {name: getattr(self.settings.evaluation, name) for name in EVALUATION_SETTINGS}
        wanted["planes"] = self._planes
        panels = self.settings.evaluation.panels > 0
        holes = self._with_holes(self._indices())
        return is_current(self.folder, steps, panels=panels, with_holes=holes, **wanted)

    @functools.cached_property
    def _planes(self) -> str:
        """The planes that the segmentation is averaged over, with commas; '' for its own alone.

        Raises:
          BratsError: planes that it was not trained on.
        """
        asked = self.settings.evaluation.planes
        if not asked or "segment" not in self.tasks:
            return ""
        record = checkpoints.read_meta(self.folder.stage("segment").best).record
        return ",".join(chosen_planes(record.planes, asked, "config.evaluation.planes: this run"))

    def _indices(self, *stages: str) -> np.ndarray:
        """The slices to evaluate, of the patients that at least one of the stages can use.

        Args:
          stages: their names; default: all stages.
        """
        usable = [self._usable(stage) for stage in stages or self.tasks]
        found = usable_slices(self.store, self.split.test, np.any(usable, axis=0))
        return select_slices(self.store, found, self.settings.evaluation.slices)

    def _usable(self, stage: str) -> np.ndarray:
        """bool[P]: patients with the modalities that the evaluation of a stage needs."""
        return self.tasks[stage].testable(self.store.present)

    def _with_holes(self, indices: np.ndarray) -> int:
        """The number of patients among slices whose volume lacks slices."""
        return int(np.count_nonzero(~self.store.whole[np.unique(self.store.patient_of[indices])]))

    def run(self, *, again: bool) -> bool:
        """Evaluates the fold unless its evaluation is current; with `again` in any case.

        Returns:
          Whether it was evaluated.
        """
        evaluated = self._evaluate_test_set(again=again)
        if self.settings.evaluation.subsets and "segment" in self.tasks:
            self._evaluate_subsets(again=again)
        return evaluated

    def _evaluate_subsets(self, *, again: bool) -> None:
        from brats_jax.evaluation.subsets import SubsetsOfFold  # here, because it imports SciPy

        evaluation = read_document(self.folder.evaluation_json, Evaluation)
        SubsetsOfFold(
            self.tasks["segment"],
            self.store,
            self.split.test,
            self.set,
            self.split_by,
            self.folder,
            self.mesh,
            self.settings.evaluation.batch_size,
            self.settings.evaluation.tta,
            self._planes,
        ).run(evaluation.checkpoints["segment"], again=again)

    @property
    def _other_slices(self) -> str:
        """How a user gets other test slices."""
        every = "--config.evaluation.slices=all, or "
        split = "another split (--config.data.split_seed) in another --workdir"
        return every * (self.settings.evaluation.slices != "all") + split

    def _evaluate_test_set(self, *, again: bool) -> bool:
        if not again and self.is_current():
            print_line(f"{self.title} evaluation: complete, skipped")
            for path in edited_files(self.folder):
                print_line(line_on_edit(path))
            return False
        self._note_damage()
        self._check_trained()
        settings, planes = self.settings, self._planes
        if planes:
            check_whole(self.store, self._indices("segment"))
        indices = self._indices()
        if len(indices) == 0:
            tumour = "" if settings.evaluation.slices == "all" else " with tumour"
            raise BratsError(f"{self.title}: no test slice{tumour}; give {self._other_slices}")
        patients = len(np.unique(self.store.patient_of[indices]))
        if holes := self._with_holes(indices):
            also = " and over all slices" if settings.evaluation.slices == "all" else ""
            print_line(
                f"{self.title}: of {holes} of {plural(patients, 'test patient')} slices are "
                f"missing: left out of scores of volumes{also}"
            )
        for_all = np.all([self._usable(stage) for stage in self.tasks], axis=0)
        shown = usable_slices(self.store, self.split.test, for_all)
        drawn = slices_to_draw(self.store, shown, settings.evaluation.panels)
        best: dict[str, EvaluatedCheckpoint] = {}
        rows: list[Score] = []
        files: list[str] = []
        left_out = {}
        fitted: Sequence[Yardstick] = ()
        for stage, task in self.tasks.items():
            own = self._indices(stage)
            if count := self._note_left_out(stage, task):
                left_out[stage] = count
            if not len(own):
                raise BratsError(
                    f"{self.title} {stage}: no test slice of a patient with "
                    f"{', '.join(task.test_needs)}; give {self._other_slices}"
                )
            print_line(f"{self.title} {stage}: evaluating {len(own)} test slices")
            of_stage = self._yardsticks(stage)
            fitted = of_stage or fitted
            best[stage], rows_of_stage = self._evaluate(stage, own, drawn, of_stage)
            rows += rows_of_stage
            volumes = self.folder.patients_csv(stage).exists()
            files += files_of(self.folder, stage, volumes=volumes, panels=len(drawn) > 0)
        Evaluation(
            fold=self.folder.number,
            set=self.set,
            slices=settings.evaluation.slices,
            split_by=self.split_by,
            patients=patients,
            inputs=settings.pretrain.inputs,
            target=settings.pretrain.target,
            pretext=settings.pretrain.task,
            loss=settings.loss,
            ssl=settings.ssl,
            tolerance_mm=settings.evaluation.tolerance_mm,
            tta=settings.evaluation.tta,
            planes=planes,
            checkpoints=best,
            rows=tuple(rows),
            files=tuple(files),
            with_holes=holes,
            left_out=left_out,
            yardsticks={one.name: one.to_json() for one in fitted},
        ).write(self.folder.evaluation_json)
        return True

    def _note_damage(self) -> None:
        """Prints a line on an evaluation.json that cannot be read, before it is made again."""
        try:
            read_if_there(self.folder.evaluation_json, Evaluation)
        except BratsError as error:
            print_line(
                f"{self.title}: {str(error).removesuffix(f'; {REEVALUATE_HINT}')}: made again"
            )

    def _check_trained(self) -> None:
        """Refuses a stage without a checkpoint (BratsError); prints a line on an incomplete one."""
        for stage in self.tasks:
            folder = self.folder.stage(stage)
            if folder.is_complete:
                continue
            if not checkpoint_steps(folder.best):
                raise BratsError(
                    f"{self.title} {stage}: no epoch of it is trained, so there is nothing to "
                    "evaluate; give --mode=train, which continues"
                )
            print_line(f"{self.title} {stage}: NOT TRAINED TO THE END; this is its best so far")

    def _note_left_out(self, stage: str, task: Task) -> int:
        """Counts the test patients that a stage cannot be evaluated on; prints a line on them."""
        usable = self._usable(stage)
        note = note_on_left_out(self.store, self.split.test, usable, task.test_needs, "test")
        if not note:
            return 0
        print_line(f"{self.title} {stage}: {note}")
        tested = np.unique(self.store.patient_of[self.split.test])
        return int(np.count_nonzero(~usable[tested]))

    def _yardsticks(self, stage: str) -> tuple[Yardstick, ...]:
        """The yardsticks of a stage, fitted to its training slices.

        Only a modality that is predicted from others has any.
        """
        task = self.tasks[stage]
        if not isinstance(task, Pretraining) or not task.synthetic:
            return ()
        # A pretext may train on patients that lack what the yardsticks are fitted to.
        indices = usable_slices(self.store, self.trained_on[stage], self._usable(stage))
        if not len(indices):
            return ()
        print_line(
            f"{self.title} {stage}: fitting the regression and the mean to {len(indices)} "
            "training slices"
        )
        return yardsticks.fit(self.store, indices, task.inputs, task.tested)

    def _evaluate(
        self,
        stage: str,
        indices: np.ndarray,
        drawn: np.ndarray,
        fitted: Sequence[Yardstick],
    ) -> tuple[EvaluatedCheckpoint, list[Score]]:
        """Writes tally, tables and panel of a stage; returns its checkpoint and its rows."""
        # Imported here: the first training step need not wait for SciPy.
        from brats_jax.evaluation import conventions, rows, scoring

        network = RestoredNetwork(self.tasks[stage], self.folder.stage(stage), self.mesh)
        tally, scores = scoring.score(
            network,
            self.store,
            indices,
            self.settings.evaluation.batch_size,
            self.settings.evaluation.tolerance_mm,
            f"{self.title} {stage}",
            over=self.settings.evaluation.slices,
            yardsticks=fitted,
            tta=self.settings.evaluation.tta,
            planes=self._planes,
        )
        # A stop below must not leave an evaluation.json beside tallies of another evaluation.
        refuse_link(self.folder.evaluation_json)
        self.folder.evaluation_json.unlink(missing_ok=True)
        meta = network.meta
        best = EvaluatedCheckpoint(step=meta.step, epoch=meta.epoch, value=meta.value)
        facts = {
            "fold": self.folder.number,
            "split_by": self.split_by,
            "checkpoint": best.to_json(),
        }
        tally.save(self.folder.tally(stage), facts)
        rows.write_unit_tables(self.folder, stage, tally, scores)
        if len(drawn):
            from brats_jax.evaluation import panels  # here, because Matplotlib takes its time

            tta = self.settings.evaluation.tta
            planes = self._planes if network.segments else ""
            note = f"test set, split by {self.split_by}{averaged_label(tta, planes, ', ')}"
            panels.draw(self.folder, network, self.store, drawn, note, tta=tta, planes=planes)
        found = rows.rows_of(stage, scores)
        if isinstance(tally, PretrainingTally):
            for name, of_yardstick in conventions.yardstick_scores(tally).items():
                found += rows.rows_of(name, of_yardstick)
        return best, found
