"""Adding sources to a finished store, which stays usable until its new manifest is written.

The files of its cases stay as they are. The index of the grown store has another name than the
one that the old manifest lists, and the old one stays: trainings that run go on with it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from brats_jax.data.sources.base import state_of
from brats_jax.data.sources.joined import JoinedSources, descriptions_in
from brats_jax.data.store.layout import (
    INDEX,
    PREPARATION,
    TUMOUR_PIXELS,
    CaseRecord,
    EarlierStore,
    Manifest,
    PreparationSettings,
    case_files,
    fingerprint_of,
)
from brats_jax.runtime import threads
from brats_jax.runtime.document import read_document, read_if_readable
from brats_jax.runtime.text import abridged, plural


def records_of(store: Path, manifest: Manifest) -> dict[str, CaseRecord]:
    """The records of the cases of a finished store, by name and in its order."""
    found = threads.parallel_map(
        lambda name: read_document(store / case_files(name)[2], CaseRecord), manifest.patients
    )
    return dict(zip(manifest.patients, found, strict=True))


def note_changes(
    records: Mapping[str, CaseRecord], sources: JoinedSources, say: Callable[[str], None]
) -> None:
    """Says which cases of a store have other files in their source now."""
    changed = [
        name for name, record in records.items() if record.source_state != state_of(sources, name)
    ]
    if changed:
        say(
            f"note: the files of {plural(len(changed), 'case')} changed after the store was "
            f"prepared ({abridged(changed)}): kept as they are in the store"
        )


def subjects_of(before: Manifest | None) -> dict[str, str]:
    """The person of each case of a store, which runs on it know."""
    return {} if before is None else dict(zip(before.patients, before.subjects, strict=True))


def index_names(before: Manifest | None) -> tuple[str, str]:
    """Names of the index and of the tumour pixels that the store does not use yet."""
    if before is None:
        return INDEX, TUMOUR_PIXELS
    number = len(before.earlier) + 2
    return f"index_{number}.npz", f"tumour_pixels_{number}.npy"


def earlier_stores(before: Manifest | None) -> tuple[EarlierStore, ...]:
    """The store before it grew, and before it grew the times before."""
    if before is None:
        return ()
    own = EarlierStore(fingerprint_of(before), before.subjects, len(descriptions_in(before.source)))
    return (*before.earlier, own)


def clear(store: Path, settings: PreparationSettings, say: Callable[[str], None]) -> None:
    """Removes what a preparation left that was killed after it had written the manifest.

    Says so if sources were being added: their cases are kept for the command that continues.
    """
    begun = read_if_readable(store / PREPARATION, PreparationSettings)
    if begun is not None and begun.source != settings.source:
        say(
            f"note: sources were being added to {store}, and {PREPARATION} says which: their "
            "command continues, and the store is usable as it is"
        )
    elif begun is not None:
        (store / PREPARATION).unlink(missing_ok=True)
