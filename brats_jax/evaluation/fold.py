"""The evaluation of a fold: its best models on its test slices, tallies, tables and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from brats_jax.data.splits import Split, select_slices
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.runs import checkpoints
from brats_jax.runs.evaluated import ASKED, EVALUATION_VERSION, is_current
from brats_jax.runtime.console import say
from brats_jax.runtime.files import write_json
from brats_jax.tasks import Task


@dataclass(frozen=True)
class FoldEvaluation:
    """What is evaluated, and where it is written.

    Attributes:
      config: the settings.
      tasks: the stages, by name.
      store, split, split_by, fold: the test set.
      directory: the fold's folder, with the checkpoints.
      mesh: devices of this process.
    """

    config: ConfigDict
    tasks: Mapping[str, Task]
    store: Store
    split: Split
    split_by: str
    fold: int
    directory: Path
    mesh: Mesh

    def is_there(self) -> bool:
        """Whether there is an evaluation, as configured, of the checkpoints that are best now."""
        if not (self.directory / "evaluation.json").exists():
            return False
        best = {s: checkpoints.read_meta(self.directory / s / "best") for s in self.tasks}
        steps = {stage: meta["step"] for stage, meta in best.items()}
        asked = {name: self.config.evaluation[name] for name in ASKED}
        return is_current(self.directory, steps, **asked)

    def run(self, *, again: bool) -> None:
        """Writes it, unless it is there; `again` makes it anew all the same."""
        if not again and self.is_there():
            say(f"fold {self.fold} evaluation: complete, skipped")
            return
        for stage in self.tasks:
            if not (self.directory / stage / "complete.json").exists():
                say(f"fold {self.fold} {stage}: NOT TRAINED TO THE END; this is its best so far")
        settings_ = self.config.evaluation
        indices = select_slices(self.store, self.split.test, settings_.slices)
        if len(indices) == 0:
            raise BratsError(
                f"fold {self.fold}: no test slice with tumour; give --config.evaluation.slices=all"
            )
        document: dict[str, Any] = {
            "schema": "brats_jax.evaluation",
            "version": EVALUATION_VERSION,
            "fold": self.fold,
            "set": "test",
            "slices": settings_.slices,
            "split_by": self.split_by,
            "patients": len(np.unique(self.store.patient_of[indices])),
            "inputs": list(self.config.pretrain.inputs),
            "target": self.config.pretrain.target,
            "loss": self.config.loss,
            "ssl": self.config.ssl,
            "tolerance_mm": settings_.tolerance_mm,
            "checkpoints": {},
            "rows": [],
        }
        # Here, because the first step need not wait for Matplotlib and SciPy.
        from brats_jax.evaluation import panels, scoring, summary

        drawn = panels.slices_to_draw(self.store, self.split.test, settings_.panels)
        for stage, task in self.tasks.items():
            say(f"fold {self.fold} {stage}: evaluating {len(indices)} test slices")
            network = RestoredNetwork(task, self.directory / stage, self.mesh)
            tally, scores = scoring.score(
                network,
                self.store,
                indices,
                settings_.batch_size,
                settings_.tolerance_mm,
                f"fold {self.fold} {stage}",
            )
            # It must not speak of tallies that it was not written with, should this be stopped.
            (self.directory / "evaluation.json").unlink(missing_ok=True)
            chosen = {name: network.meta[name] for name in ("step", "epoch", "value")}
            document["checkpoints"][stage] = chosen
            document["rows"] += summary.rows_of(stage, scores)
            facts = {"fold": self.fold, "split_by": self.split_by, "checkpoint": chosen}
            tally.save(self.directory / f"tally_{stage}.npz", facts)
            summary.write_unit_tables(self.directory, stage, tally)
            if len(drawn):
                note = f"test set, split by {self.split_by}"
                panels.draw(self.directory / "panels", network, self.store, drawn, note)
        write_json(self.directory / "evaluation.json", document)
