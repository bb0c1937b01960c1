"""The layout of a folder of exported programs.

EXPORT/TASK.stablehlo, TASK.json     a program and its description
EXPORT/TASK_fold_K.safetensors       the weights of each of its folds
EXPORT/TASK.onnx, TASK.onnx.json     the same in another format, which holds its weights
"""

from dataclasses import dataclass
from pathlib import Path

from brats_jax.runs.folder import fold_name

# The formats of exported programs.
PROGRAMS = (STABLEHLO, ONNX) = ("stablehlo", "onnx")


@dataclass(frozen=True)
class ExportFolder:
    """The folder of exported models; `task` is 'segment' or 'reconstruct'.

    Attributes:
      path: of the folder.
      format: of the programs, of `PROGRAMS`.
    """

    path: Path
    format: str = STABLEHLO

    @property
    def has_weights(self) -> bool:
        """Whether the weights are written beside the program."""
        return self.format == STABLEHLO

    @property
    def _infix(self) -> str:
        return "" if self.format == STABLEHLO else f".{self.format}"

    def program(self, task: str) -> Path:
        """The program."""
        return self.path / f"{task}.{self.format}"

    def ledger_json(self, task: str) -> Path:
        """The hashes of the files of a task while they are being written."""
        return self.path / f".{task}{self._infix}.writing.json"

    def description_json(self, task: str) -> Path:
        """Inputs, outputs, folds and versions of the program."""
        return self.path / f"{task}{self._infix}.json"

    def weights(self, task: str, fold: int) -> Path:
        """The weights of a fold; both tasks may stand in one folder."""
        return self.path / f"{task}_{fold_name(fold)}.safetensors"
