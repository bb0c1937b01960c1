"""Prepares a store from sources: cases in parallel, audits, resumable at any time."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from brats_jax.data.normalise import NORMALISATIONS
from brats_jax.data.planes import AXIAL, PLANES
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.base import Source, known_problems
from brats_jax.data.sources.detect import open_sources
from brats_jax.data.sources.joined import (
    SEVERAL,
    JoinedSources,
    description_of,
    descriptions_in,
    place_of,
)
from brats_jax.data.sources.reopen import reopen
from brats_jax.data.store import growth, other_planes, writer
from brats_jax.data.store.layout import (
    MANIFEST,
    PREPARATION,
    Manifest,
    PreparationSettings,
)
from brats_jax.data.store.preparation import Preparation
from brats_jax.data.store.reader import read_manifest
from brats_jax.errors import BratsError
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import check_folder
from brats_jax.runtime.text import plural

AnySource = str | os.PathLike[str] | Source
LONGEST_NAME = 200  # in bytes; a name of a file has at most 255


def prepare(
    source: AnySource | Sequence[AnySource],
    store: str | os.PathLike[str],
    *,
    normalisation: str | None = None,
    plane: str | None = None,
    patients: int | None = None,
    seed: int | None = None,
    shape: Sequence[int] | None = None,
    channel_order: Sequence[str] | None = None,
    labels: str = "",
    options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
    workers: int | None = None,
    ignore_audit: bool = False,
    skip_bad_cases: bool = False,
    add: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Prepares a store from sources, adds sources to one, or continues after an interruption.

    A finished store to which sources are added can be used all the time: its files stay as they
    are, and the new manifest replaces its own at the end.

    Args:
      source: a folder, 'phantom', or an open source; or several.
      store: the folder to write: new, empty, left by the same preparation, or a finished store
        of some of these sources.
      normalisation: 'slice' (the paper's), 'volume' or 'robust' (see `data.normalise`); None for
        'slice' or, with `add`, that of the store.
      plane: of the slices, one of `data.planes.PLANES`; None for 'axial' or, with `add`, that of
        the store.
      patients, seed, shape, channel_order, labels, options: see `sources.detect.open_source`; of
        several sources each takes those that fit it.
      workers: number of processes; None for one per available processor, 1 for this process alone.
      ignore_audit: continue even if the labels contradict the names of the channels.
      skip_bad_cases: leave out cases that cannot be read instead of stopping at the first.
      add: the sources of the store come before the given ones, with the options that they had.
      say: called with lines for the user: notices and progress.

    Returns:
      The manifest of the finished store.

    Raises:
      BratsError: bad source, bad case, contradicted audit, full disk, or a store prepared with
        other options. Finished cases stay, so that the same command continues; nothing else stays.
    """
    store = Path(store)
    before = read_manifest(store) if (store / MANIFEST).is_file() else None
    if add and before is None:
        raise BratsError(f"--add: there is no store {store} to add to; leave out --add to make it")
    if normalisation is None:
        normalisation = before.normalisation if add and before else "slice"
    if normalisation not in NORMALISATIONS:
        raise BratsError(
            f"unknown normalisation '{normalisation}'; valid: {', '.join(NORMALISATIONS)}"
        )
    if plane is None:
        plane = before.plane if add and before else AXIAL
    if plane not in PLANES:
        raise BratsError(f"unknown plane '{plane}'; valid: {', '.join(PLANES)}")
    other_planes.check_normalisation(plane, normalisation)
    if workers is not None and workers < 1:
        raise BratsError(f"--workers={workers} must be at least 1")
    given = [source] if isinstance(source, str | os.PathLike) or not _is_list(source) else source
    opened = open_sources(
        given,  # type: ignore[arg-type]
        patients=patients,
        seed=seed,
        shape=shape,
        channel_order=channel_order,
        labels=labels,
        options=options,
    )
    known = _known_sources(store, before)
    if add:
        new = [source for source in opened if description_of(source) not in known]
        opened = [*(reopen(one, options) for one in known), *new]
    sources = JoinedSources(opened)
    sources.check_normalisation(normalisation)
    if sources.holds(known):
        sources = sources.ordered(known)
    settings = PreparationSettings(
        source=sources.description,
        normalisation=normalisation,
        version=Manifest.VERSION,
        plane=plane,
    )
    if before is not None:
        _check_same_settings(store, before.settings, settings, grows=sources.holds(known))
        _check_same_cases(store, before, sources)
        if len(known) == len(sources.sources):
            growth.clear(store, settings, say)
            say(f"{store} is complete: nothing to do")
            return before
    skipped = known_problems(sources) | _long_names(sources)
    if before is not None:
        skipped = {
            name: problem
            for name, problem in skipped.items()
            if name not in {*before.patients, *before.skipped}
        }
    if sources.duplicates.keys() & skipped and not skip_bad_cases:
        line, *others = sources.duplicates.values()
        more = f" ({plural(len(others), 'more case')} likewise)" if others else ""
        raise BratsError(f"{line}{more}, or keep the first of each with --skip_bad_cases")
    if skipped and not skip_bad_cases:
        first = "; ".join(list(skipped.values())[:3])
        more = f"; and {plural(len(skipped) - 3, 'more case')}" if len(skipped) > 3 else ""
        raise BratsError(
            f"{first}{more}; fetch what is missing, or leave such cases out with --skip_bad_cases"
        )
    check_folder(store, "--store")
    with writer.sole_writer(store):
        _begin(store, settings, sources, before)
        job = Preparation(
            store,
            sources,
            normalisation,
            workers,
            skip_bad_cases,
            options.require_labels,
            skipped,
            say,
            before,
            plane,
        )
        try:
            audit = job.run(ignore_audit)
            return job.finish(audit, settings)
        finally:
            writer.remove_leftovers(store)
            job.discard_if_nothing_is_done()


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not hasattr(value, "read")


def _known_sources(store: Path, before: Manifest | None) -> list[dict[str, Any]]:
    """The descriptions of the sources of a store, finished or not; none of a new one."""
    if before is not None:
        return descriptions_in(before.source)
    if (store / PREPARATION).is_file():
        return descriptions_in(read_document(store / PREPARATION, PreparationSettings).source)
    return []


def _check_same_cases(store: Path, before: Manifest, sources: JoinedSources) -> None:
    """Refuses sources whose cases are not those that the store was prepared from (BratsError)."""
    known = len(descriptions_in(before.source))
    own = {name for name in sources.patients() if sources.number_of(name) < known}
    names = {*before.patients, *before.skipped}
    if not own <= names or not names <= own | sources.duplicates.keys():
        raise BratsError(
            f"{store} is complete with {plural(len(before.patients), 'patient')}, the "
            f"source now has {len(own)}: choose another --store, or delete it"
        )


def _long_names(source: Source) -> dict[str, str]:
    """Cases whose names leave no room for the names of their files in a store."""
    lengths = {name: len(os.fsencode(name)) for name in source.patients()}
    return {
        name: f"the name of the case {name[:40]}... has {length} bytes, more than {LONGEST_NAME}: "
        "rename its files"
        for name, length in lengths.items()
        if length > LONGEST_NAME
    }


def _begin(
    store: Path, settings: PreparationSettings, sources: JoinedSources, before: Manifest | None
) -> None:
    """Continues the same preparation, or starts one in an empty folder or a finished store."""
    if (store / PREPARATION).is_file():
        begun = read_document(store / PREPARATION, PreparationSettings)
        if before is not None and begun.source == before.settings.source:
            begun = settings  # a preparation that was killed at its very end
        grows = sources.holds(descriptions_in(begun.source))
        _check_same_settings(store, begun, settings, grows=grows)
        writer.remove_leftovers(store)
    elif before is None:
        others = [path.name for path in store.iterdir() if not path.name.startswith(".")]
        if others:
            raise BratsError(
                f"{store} holds other files ({others[0]}, ...) and no store: choose an empty "
                "--store"
            )
    writer.write_document(store / PREPARATION, settings)


def _check_same_settings(
    store: Path, before: PreparationSettings, now: PreparationSettings, *, grows: bool
) -> None:
    """Refuses other settings (BratsError); with `grows` the sources may be more than before."""
    if not grows and SEVERAL in (before.source["kind"], now.source["kind"]):
        held, given = (
            ", ".join(place_of(one) for one in descriptions_in(settings.source))
            for settings in (before, now)
        )
        raise BratsError(
            f"{store} was prepared from other sources ({held}) than given ({given}), or with other "
            "settings of theirs: add sources to it with --add, or choose another --store"
        )
    old, new = _by_name(before), _by_name(now)
    changes = [
        f"{name} was {old.get(name)}, now {new.get(name)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not (grows and name.startswith("source."))
    ]
    if changes:
        raise BratsError(
            f"{store} was prepared with other settings ({'; '.join(changes)}): choose another "
            "--store, or delete it"
        )


def _by_name(settings: PreparationSettings) -> dict[str, Any]:
    """The settings by name, as JSON has them."""
    document = json.loads(json.dumps(settings.to_json()))
    source = document.pop("source")
    return {
        "plane": settings.plane,
        **document,
        **{f"source.{name}": value for name, value in source.items()},
    }
