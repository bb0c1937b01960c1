"""tracking.json: the identity of a stage in experiment trackers."""

import secrets
from dataclasses import dataclass
from typing import ClassVar

from brats_jax.runs.folder import StageFolder
from brats_jax.runtime.document import Document, read_if_readable


@dataclass(frozen=True)
class TrackingId(Document):
    """tracking.json; only where a tracker was on.

    Attributes:
      id: W&B's id of the stage's run, and its tag `brats_jax.id` in MLflow.
    """

    SCHEMA: ClassVar[str] = "brats_jax.tracking"
    id: str


def tracking_id(folder: StageFolder) -> str:
    """The id of a stage, the same after a stop; made, and written first, where there is none."""
    found = read_if_readable(folder.tracking_json, TrackingId)
    if found is None or not found.id.isalnum():
        found = TrackingId(secrets.token_hex(8))
        found.write(folder.tracking_json)
    return found.id
