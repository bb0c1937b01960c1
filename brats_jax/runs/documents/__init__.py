"""The JSON documents in run, grid, prediction and export folders: a frozen dataclass each.

`runtime.document` reads and writes them. Those of the stages and of the evaluation are re-exported.
"""

from brats_jax.runs.documents.calibration import (
    Calibration,
    CalibrationScores,
    CalibrationSet,
)
from brats_jax.runs.documents.config import (
    CellRecord,
    GridConfig,
    RunConfig,
)
from brats_jax.runs.documents.evaluation import (
    CROSS_VALIDATION,
    REEVALUATE_HINT,
    SCORE_KEYS,
    TEST_SET,
    EvaluatedCheckpoint,
    Evaluation,
    FoldsScore,
    Score,
    Summary,
    TallyHead,
)
from brats_jax.runs.documents.stage import (
    PretrainingSource,
    StageResult,
    StageTraining,
    TrainingFacts,
)

__all__ = [
    "CROSS_VALIDATION",
    "REEVALUATE_HINT",
    "SCORE_KEYS",
    "TEST_SET",
    "Calibration",
    "CalibrationScores",
    "CalibrationSet",
    "CellRecord",
    "EvaluatedCheckpoint",
    "Evaluation",
    "FoldsScore",
    "GridConfig",
    "PretrainingSource",
    "RunConfig",
    "Score",
    "StageResult",
    "StageTraining",
    "Summary",
    "TallyHead",
    "TrainingFacts",
]
