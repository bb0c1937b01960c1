"""The evaluation of one fold: its best models on its test set, as tallies, tables and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from brats_jax.data.splits import Split, select_slices
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.runs import checkpoints
from brats_jax.runs.evaluated import EVALUATION_VERSION, is_current
from brats_jax.runtime.console import print_line
from brats_jax.runtime.files import write_json
from brats_jax.tasks import Task


@dataclass(frozen=True)
class EvaluationOptions:
    """The settings of an evaluation.

    Attributes:
      slices: 'all' or 'tumour', the slices of the test set that are scored.
      tolerance_mm: boundary pixels nearer than this count as found (NSD).
      batch_size: slices at a time, a multiple of the number of devices.
      panels: number of slices in the pictures.
    """

    slices: str
    tolerance_mm: float
    batch_size: int
    panels: int


@dataclass(frozen=True)
class FoldEvaluation:
    """The evaluation of a fold, which is not there yet or is out of date.

    Attributes:
      options: the settings.
      facts: the run's settings in evaluation.json: inputs and target of the first stage, loss, ssl.
      tasks: the stages to evaluate, by name.
      store, split, split_by, fold: the test set.
      directory: the fold's folder, with the checkpoints.
      mesh: the devices of this process.
    """

    options: EvaluationOptions
    facts: Mapping[str, Any]
    tasks: Mapping[str, Task]
    store: Store
    split: Split
    split_by: str
    fold: int
    directory: Path
    mesh: Mesh

    def is_current(self) -> bool:
        """Whether the fold has an evaluation with these options of its best checkpoints."""
        if not (self.directory / "evaluation.json").exists():
            return False
        best = {s: checkpoints.read_meta(self.directory / s / "best") for s in self.tasks}
        steps = {stage: meta["step"] for stage, meta in best.items()}
        return is_current(
            self.directory,
            steps,
            slices=self.options.slices,
            tolerance_mm=self.options.tolerance_mm,
        )

    def run(self, *, again: bool) -> None:
        """Evaluates the fold unless its evaluation is current; with `again` in any case."""
        if not again and self.is_current():
            print_line(f"fold {self.fold} evaluation: complete, skipped")
            return
        for stage in self.tasks:
            if not (self.directory / stage / "complete.json").exists():
                print_line(
                    f"fold {self.fold} {stage}: NOT TRAINED TO THE END; this is its best so far"
                )
        # Imported here: the first training step need not wait for Matplotlib and SciPy.
        from brats_jax.evaluation import panels

        options = self.options
        indices = select_slices(self.store, self.split.test, options.slices)
        if len(indices) == 0:
            raise BratsError(
                f"fold {self.fold}: no test slice with tumour; give --config.evaluation.slices=all"
            )
        drawn = panels.slices_to_draw(self.store, self.split.test, options.panels)
        best: dict[str, dict[str, Any]] = {}
        rows: list[dict[str, Any]] = []
        for stage in self.tasks:
            print_line(f"fold {self.fold} {stage}: evaluating {len(indices)} test slices")
            best[stage], of_stage = self._evaluate(stage, indices, drawn)
            rows += of_stage
        write_json(
            self.directory / "evaluation.json",
            {
                "schema": "brats_jax.evaluation",
                "version": EVALUATION_VERSION,
                "fold": self.fold,
                "set": "test",
                "slices": options.slices,
                "split_by": self.split_by,
                "patients": len(np.unique(self.store.patient_of[indices])),
                **self.facts,
                "tolerance_mm": options.tolerance_mm,
                "checkpoints": best,
                "rows": rows,
            },
        )

    def _evaluate(
        self, stage: str, indices: np.ndarray, drawn: np.ndarray
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Writes tally, tables and panel of a stage; returns its checkpoint and its rows."""
        from brats_jax.evaluation import panels, rows, scoring

        network = RestoredNetwork(self.tasks[stage], self.directory / stage, self.mesh)
        tally, scores = scoring.score(
            network,
            self.store,
            indices,
            self.options.batch_size,
            self.options.tolerance_mm,
            f"fold {self.fold} {stage}",
        )
        # A stop below must not leave an evaluation.json beside tallies of another evaluation.
        (self.directory / "evaluation.json").unlink(missing_ok=True)
        best = {name: network.meta[name] for name in ("step", "epoch", "value")}
        facts = {"fold": self.fold, "split_by": self.split_by, "checkpoint": best}
        tally.save(self.directory / f"tally_{stage}.npz", facts)
        rows.write_unit_tables(self.directory, stage, tally, scores)
        if len(drawn):
            note = f"test set, split by {self.split_by}"
            panels.draw(self.directory / "panels", network, self.store, drawn, note)
        return best, rows.rows_of(stage, scores)
