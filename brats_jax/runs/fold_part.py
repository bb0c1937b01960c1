"""Parts of documents that belong to a fold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from brats_jax.data.folds import ALL, ALL_NAME
from brats_jax.runtime.document import Part


@dataclass(frozen=True)
class FoldPart(Part):
    """A part of a document on one fold.

    Attributes:
      fold: its number; in the file 'all' for a training on all patients.
    """

    fold: int

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the object; raises as `Part.from_json`."""
        is_of_all = document.get("fold") == ALL_NAME
        return super().from_json({**document, "fold": ALL} if is_of_all else document)

    def to_json(self) -> dict[str, Any]:
        """The object as it stands in the file."""
        found = super().to_json()
        return {**found, "fold": ALL_NAME} if self.fold == ALL else found
