"""The choice of a stage's best checkpoint by its validations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Selection:
    """The rule by which a validated network replaces the checkpoint `best`.

    Attributes:
      metric: the score that decides, by its name in metrics.jsonl.
      larger_is_better: its direction.
      keep_last: every validated network replaces `best`, whatever its score is.
    """

    metric: str
    larger_is_better: bool
    keep_last: bool = False

    def improves(self, value: float, best: float | None) -> bool:
        """Whether a score is better than the best so far; None: there is none."""
        if best is None or self.keep_last:
            return True
        return value > best if self.larger_is_better else value < best

    def best_so_far(self, records: Iterable[Mapping[str, Any]]) -> dict[int, float]:
        """The scores of the validations that were the best when they were made, by step.

        Args:
          records: lines of metrics.jsonl, in order.
        """
        best: dict[int, float] = {}
        for record in records:
            value = record.get(self.metric)
            if record["event"] != "validation" or not isinstance(value, float):
                continue
            if self.improves(value, next(reversed(best.values()), None)):
                best[record["step"]] = value
        return best
