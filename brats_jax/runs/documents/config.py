"""config.json and grid.json: what runs and grids were started with; the record of a cell."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from brats_jax.runs.axes import Axes
from brats_jax.runs.recorded_settings import RecordedSettings
from brats_jax.runs.store_facts import StoreFacts
from brats_jax.runtime.document import Sealed, SealedDocument

_SETTINGS_HINT = (
    "undo the change if it was edited, copy it again if it was copied, or give another --workdir"
)
# People edit these documents on purpose.
_EDITED = Sealed.CHANGED.removesuffix(")") + "; to keep an edit, remove its entry 'sha256')"


@dataclass(frozen=True)
class RunConfig(SealedDocument):
    """config.json of a run: what it was started with.

    Attributes:
      config: the settings, as JSON has them.
      store: the data.
      versions: of this program and its libraries, by name.
      devices: in words.
    """

    SCHEMA: ClassVar[str] = "brats_jax.config"
    REMEDY: ClassVar[str] = _SETTINGS_HINT
    CHANGED: ClassVar[str] = _EDITED
    config: dict[str, Any]
    store: StoreFacts
    versions: dict[str, str] = field(default_factory=dict)
    devices: str = ""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the document.

        Raises:
          ValueError: as in `Document`, also for one of the `settings`.
        """
        parsed = super().from_json(document)
        RecordedSettings.from_json(parsed.config)
        return parsed

    @functools.cached_property
    def settings(self) -> RecordedSettings:
        """The settings that are read after training."""
        return RecordedSettings.from_json(self.config)


@dataclass(frozen=True)
class GridConfig(SealedDocument):
    """grid.json: what a grid was started with.

    Attributes:
      config: the settings that all cells share.
      store, versions: as in `RunConfig`.
      axes: what was asked for, one part for each command.
    """

    SCHEMA: ClassVar[str] = "brats_jax.grid"
    REMEDY: ClassVar[str] = _SETTINGS_HINT
    CHANGED: ClassVar[str] = _EDITED
    config: dict[str, Any]
    store: StoreFacts
    versions: dict[str, str]
    axes: tuple[Axes, ...]


@dataclass(frozen=True)
class CellRecord(SealedDocument):
    """cells/CELL.json: the attempts at one cell of a grid.

    Attributes:
      cell: its name.
      attempts: so far.
      host, process, started, command: of the last attempt.
      state: 'running', 'done', 'stopped' or 'failed'.
      error: of an attempt that has ended; '' unless it failed.
      ended_s: seconds since 1970, of an attempt that has ended.
      seconds: spent in all attempts.
    """

    SCHEMA: ClassVar[str] = "brats_jax.cell"
    REMEDY: ClassVar[str] = "remove it: only the number and the time of its attempts are lost"
    cell: str
    attempts: int
    host: str
    process: int
    started: str
    command: tuple[str, ...]
    state: str
    error: str | None = None
    ended_s: float | None = None
    seconds: float = field(kw_only=True)
