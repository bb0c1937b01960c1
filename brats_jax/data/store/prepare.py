"""Prepares a store from a source: cases in parallel, a channel audit, resumable at any time."""

import contextlib
import dataclasses
import datetime
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from brats_jax import about
from brats_jax.data.modalities import CLASS_LABELS, CLASSES, MODALITIES
from brats_jax.data.normalise import NORMALISATIONS, PERCENTILE
from brats_jax.data.scans.grids import ORIENTATION
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.base import Source, known_problems, notices, state_of
from brats_jax.data.sources.detect import PHANTOM, open_source
from brats_jax.data.store import channel_audit, set_checks, writer
from brats_jax.data.store.case_pool import CasePool
from brats_jax.data.store.channel_audit import ChannelAudit
from brats_jax.data.store.layout import (
    MANIFEST,
    PREPARATION,
    CaseRecord,
    Manifest,
    PreparationSettings,
)
from brats_jax.data.store.reader import read_manifest
from brats_jax.errors import BratsError
from brats_jax.runtime import threads
from brats_jax.runtime.console import ProgressBar, progress_bar
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import check_folder
from brats_jax.runtime.text import plural

# Cases whose channels are audited before the others are read; spread over the whole set.
AUDIT_SAMPLE = 8
T = TypeVar("T")
LONGEST_NAME = 200  # in bytes; a name of a file has at most 255


def prepare(
    source: str | os.PathLike[str] | Source,
    store: str | os.PathLike[str],
    *,
    normalisation: str = "slice",
    patients: int | None = None,
    seed: int | None = None,
    shape: Sequence[int] | None = None,
    channel_order: Sequence[str] | None = None,
    labels: str = "",
    options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
    workers: int | None = None,
    ignore_audit: bool = False,
    skip_bad_cases: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Prepares a store from a source, or continues an interrupted preparation.

    Args:
      source: a folder, 'phantom', or an open source.
      store: the folder to write: new, empty, or left by the same preparation.
      normalisation: 'slice' (the paper's) or 'volume'.
      patients, seed, shape, channel_order, labels, options: see `sources.detect.open_source`.
      workers: number of processes; None for one per available processor, 1 for this process alone.
      ignore_audit: continue even if the labels contradict the names of the channels.
      skip_bad_cases: leave out cases that cannot be read instead of stopping at the first.
      say: called with lines for the user: notices and progress.

    Returns:
      The manifest of the finished store.

    Raises:
      BratsError: bad source, bad case, contradicted audit, full disk, or a store prepared with
        other options. Finished cases stay, so that the same command continues; nothing else stays.
    """
    if normalisation not in NORMALISATIONS:
        raise BratsError(
            f"unknown normalisation '{normalisation}'; valid: {', '.join(NORMALISATIONS)}"
        )
    if workers is not None and workers < 1:
        raise BratsError(f"--workers={workers} must be at least 1")
    if isinstance(source, str | os.PathLike):
        source = open_source(
            os.fspath(source),
            patients=patients,
            seed=seed,
            shape=shape,
            channel_order=channel_order,
            labels=labels,
            options=options,
        )
    if normalisation not in source.normalisations:
        raise BratsError(
            f"normalisation '{normalisation}' needs intensities that compare between slices, but "
            f"the {source.name} files were z-scored slice by slice when they were made: use "
            f"--normalisation={source.normalisations[0]}, or the NIfTI release"
        )
    store = Path(store)
    settings = PreparationSettings(
        source={"kind": source.name, **source.description},
        normalisation=normalisation,
        version=Manifest.VERSION,
    )
    if (store / MANIFEST).is_file():
        manifest = read_manifest(store)
        _check_same_settings(store, manifest.settings, settings)
        if {*manifest.patients, *manifest.skipped} != set(source.patients()):
            raise BratsError(
                f"{store} is complete with {plural(len(manifest.patients), 'patient')}, the "
                f"source now has {len(source.patients())}: choose another --store, or delete it"
            )
        say(f"{store} is complete: nothing to do")
        return manifest
    skipped = known_problems(source) | _long_names(source)
    if skipped and not skip_bad_cases:
        first = "; ".join(list(skipped.values())[:3])
        more = f"; and {plural(len(skipped) - 3, 'more case')}" if len(skipped) > 3 else ""
        raise BratsError(
            f"{first}{more}; fetch what is missing, or leave such cases out with --skip_bad_cases"
        )
    check_folder(store, "--store")
    with writer.sole_writer(store):
        _begin(store, settings)
        job = _Preparation(store, source, normalisation, workers, skip_bad_cases, skipped, say)
        try:
            audit = job.run(ignore_audit)
            return job.finish(audit, settings)
        finally:
            writer.remove_leftovers(store)
            if not (store / MANIFEST).is_file() and not job.records:
                writer.discard(store, source.patients())


def _long_names(source: Source) -> dict[str, str]:
    """Cases whose names leave no room for the names of their files in a store."""
    lengths = {name: len(os.fsencode(name)) for name in source.patients()}
    return {
        name: f"the name of the case {name[:40]}... has {length} bytes, more than {LONGEST_NAME}: "
        "rename its files"
        for name, length in lengths.items()
        if length > LONGEST_NAME
    }


def _begin(store: Path, settings: PreparationSettings) -> None:
    """Continues the same preparation, or starts one in an empty folder."""
    if (store / PREPARATION).is_file():
        before = read_document(store / PREPARATION, PreparationSettings)
        _check_same_settings(store, before, settings)
        writer.remove_leftovers(store)
        return
    others = [path.name for path in store.iterdir() if not path.name.startswith(".")]
    if others:
        raise BratsError(
            f"{store} holds other files ({others[0]}, ...) and no store: choose an empty --store"
        )
    writer.write_document(store / PREPARATION, settings)


def _check_same_settings(
    store: Path, before: PreparationSettings, now: PreparationSettings
) -> None:
    old, new = _by_name(before), _by_name(now)
    changes = [
        f"{name} was {old.get(name)}, now {new.get(name)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
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
    return {**document, **{f"source.{name}": value for name, value in source.items()}}


def _unless(usual: T, column: Sequence[T]) -> tuple[T, ...]:
    """A column of the manifest; empty where every entry is the usual one."""
    return () if all(entry == usual for entry in column) else tuple(column)


class _Preparation:
    """The cases of a preparation: those that are written, and the work on the others."""

    def __init__(
        self,
        store: Path,
        source: Source,
        normalisation: str,
        workers: int | None,
        skip_bad_cases: bool,
        skipped: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.store = store
        self.source = source
        self.normalisation = normalisation
        self.workers = workers or threads.available_cpus()
        self.skip_bad_cases = skip_bad_cases
        self.skipped = dict(skipped)
        self.say = say
        self.notices = notices(source)
        for notice in self.notices:
            say(notice)
        self.patients = [name for name in source.patients() if name not in skipped]
        found = threads.parallel_map(
            lambda name: writer.finished_case(store, name, state_of(source, name)), self.patients
        )
        self.records: dict[str, CaseRecord] = {
            name: record
            for name, record in zip(self.patients, found, strict=True)
            if record is not None
        }
        writer.discard_others(store, self.records, source.patients())
        if self.records:
            say(f"{len(self.records)} of {plural(len(self.patients), 'case')} already there")

    def run(self, ignore_audit: bool) -> ChannelAudit:
        """Writes every case that is missing; returns the audit over all cases."""
        count = len(self.patients)
        if not count:
            raise BratsError(f"no case of {self.source.description} can be read: nothing to store")
        places = {i * count // AUDIT_SAMPLE for i in range(AUDIT_SAMPLE)}
        sample = [name for i, name in enumerate(self.patients) if i in places]
        rest = [name for i, name in enumerate(self.patients) if i not in places]
        missing = count - len(self.records)
        # Closes the pool at the end, so that no process writes while leftovers are removed.
        with (
            progress_bar(count, "cases", "case", len(self.records), self.say) as progress,
            contextlib.closing(
                CasePool(
                    self.store, self.source, self.normalisation, max(1, min(self.workers, missing))
                )
            ) as pool,
        ):
            self._write(sample, pool, progress)
            self._audit(ignore_audit)
            self._write(rest, pool, progress)
        return self._audit(ignore_audit)

    def _write(self, patients: Sequence[str], pool: CasePool, progress: ProgressBar) -> None:
        todo = [name for name in patients if name not in self.records]
        for patient, result in pool.write(todo):
            progress.update()
            problem = result if isinstance(result, str) else self._misfit(result)
            if problem is None:
                assert not isinstance(result, str)
                self.records[patient] = result
                continue
            writer.discard_case(self.store, patient)
            if not self.skip_bad_cases:
                raise self._stop(problem)
            self.skipped[patient] = problem

    def _misfit(self, record: CaseRecord) -> str | None:
        """The reason why a case does not fit the others, or None."""
        if not self.records:
            return None
        name, other = next(iter(self.records.items()))
        if record.slice_shape == other.slice_shape:
            return None
        ours, theirs = ("{} x {}".format(*case.slice_shape) for case in (record, other))
        files = record.provenance.get("files", record.patient)
        file = next(iter(files.values())) if isinstance(files, Mapping) else files
        return (
            f"{file} has slices of {ours}, those of {name} are {theirs}: a store has one slice "
            "shape, prepare them in two stores"
        )

    def _audit(self, ignore: bool) -> ChannelAudit:
        records = [self.records[name] for name in self.patients if name in self.records]
        audit = channel_audit.judge(record.contrast for record in records)
        complaint = ""
        if audit.verdict == "contradicted":
            order = getattr(self.source, "channel_order", None)
            complaint = channel_audit.complaint(audit, order)
        elif not ignore and self.source.name != PHANTOM:
            complaint = set_checks.common_contradiction(records)
        if not complaint:
            return audit
        # The channels of a phantom are correct by construction, though noise may contradict a
        # coarse one.
        if ignore or self.source.name == PHANTOM:
            return dataclasses.replace(audit, ignored=True)
        # The written cases have the wrong names: no other command can use them.
        self.records.clear()
        raise BratsError(f"{self.source.description.get('folder', self.source.name)}: {complaint}")

    def _stop(self, problem: str) -> BratsError:
        problem = f"{problem}, or leave such cases out with --skip_bad_cases"
        kept = len(self.records)
        if not kept:
            return BratsError(problem)
        return BratsError(
            f"{problem} ({plural(kept, 'finished case')} kept; the same command continues)"
        )

    def finish(self, audit: ChannelAudit, settings: PreparationSettings) -> Manifest:
        """Writes the index and, last, the manifest."""
        if not self.records:
            raise BratsError(f"no case is fit: {next(iter(self.skipped.values()))}")
        patients = [name for name in self.patients if name in self.records]
        records = [self.records[name] for name in patients]
        found = set_checks.check_set(records)
        for notice in found.notices:
            self.say(f"note: {notice}")
        files, summary = writer.write_index(self.store, records, [self.source.name] * len(records))
        summary = dataclasses.replace(summary, subjects=len(set(found.subjects)))
        notes = {one.patient: (*one.notes, *found.notes.get(one.patient, ())) for one in records}
        manifest = Manifest(
            package_version=about.__version__,
            made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            source=settings.source,
            normalisation=self.normalisation,
            percentile=PERCENTILE,
            modalities=MODALITIES,
            classes=CLASSES,
            slice_shape=records[0].slice_shape,
            orientation=ORIENTATION,
            patients=tuple(patients),
            subjects=tuple(found.subjects),
            audit=audit,
            notices=(*self.notices, *found.notices),
            notes={name: lines for name, lines in notes.items() if lines},
            skipped=self.skipped,
            read_as={
                record.patient: record.provenance["read_as"]
                for record in records
                if "read_as" in record.provenance
            },
            settings=settings,
            files=files,
            summary=summary,
            contradictions=found.contradictions,
            label_schemes=found.label_schemes,
            label_kinds=_unless(CLASS_LABELS, [one.label_kind for one in records]),
            present=_unless(MODALITIES, [one.present for one in records]),
        ).sealed()
        writer.write_document(self.store / MANIFEST, manifest)
        (self.store / PREPARATION).unlink(missing_ok=True)
        return manifest
