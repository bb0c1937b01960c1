"""The work of a preparation: cases written in parallel, audits, index and manifest."""

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from brats_jax import about
from brats_jax.data.modalities import CLASS_LABELS, CLASSES, MODALITIES
from brats_jax.data.normalise import PERCENTILE
from brats_jax.data.planes import AXIAL
from brats_jax.data.scans.grids import ORIENTATION
from brats_jax.data.sources.base import state_of
from brats_jax.data.sources.detect import PHANTOM
from brats_jax.data.sources.joined import JoinedSources, descriptions_in, place_of
from brats_jax.data.store import channel_audit, growth, index_writer, set_checks, writer
from brats_jax.data.store.case_pool import CasePool
from brats_jax.data.store.channel_audit import ChannelAudit
from brats_jax.data.store.layout import (
    MANIFEST,
    PREPARATION,
    CaseRecord,
    Manifest,
    PreparationSettings,
)
from brats_jax.errors import BratsError
from brats_jax.runtime import threads
from brats_jax.runtime.console import ProgressBar, progress_bar
from brats_jax.runtime.text import plural

# Cases whose channels are audited before the others are read; spread over the whole set.
AUDIT_SAMPLE = 8
T = TypeVar("T")


def _unless(usual: T, column: Sequence[T]) -> tuple[T, ...]:
    """A column of the manifest; empty where every entry is the usual one."""
    return () if all(entry == usual for entry in column) else tuple(column)


class Preparation:
    """The cases of a preparation: those that are written, and the work on the others."""

    def __init__(
        self,
        store: Path,
        sources: JoinedSources,
        normalisation: str,
        workers: int | None,
        skip_bad_cases: bool,
        require_labels: bool,
        skipped: dict[str, str],
        say: Callable[[str], None],
        before: Manifest | None,
        plane: str = AXIAL,
    ) -> None:
        self.store = store
        self.sources = sources
        self.normalisation = normalisation
        self.plane = plane
        self.workers = workers or threads.available_cpus()
        self.skip_bad_cases = skip_bad_cases
        self.require_labels = require_labels
        self.skipped = dict(skipped)
        self.say = say
        self.before = before
        # Sources of a finished store are not read again.
        self.first = 0 if before is None else len(descriptions_in(before.source))
        for number in range(self.first, len(sources.sources)):
            for notice in sources.notices_of(number):
                say(notice)
        self.records: dict[str, CaseRecord] = {}
        if before is not None:
            self.records = growth.records_of(store, before)
            growth.note_changes(self.records, sources, say)
        self.patients = [
            name
            for name in sources.patients()
            if name not in skipped and sources.number_of(name) >= self.first
        ]
        found = threads.parallel_map(
            lambda name: writer.finished_case(store, name, state_of(sources, name)), self.patients
        )
        self.kept = len(self.records)
        for name, record in zip(self.patients, found, strict=True):
            if record is not None:
                self.records[name] = record
        writer.discard_others(store, self.records, self.patients)
        if there := len(self.records) - self.kept:
            say(f"{there} of {plural(len(self.patients), 'case')} already there")

    def discard_if_nothing_is_done(self) -> None:
        """Removes what an unfinished preparation has written, if that is no case."""
        if len(self.records) > self.kept or not (self.store / PREPARATION).is_file():
            return
        if self.before is not None:
            (self.store / PREPARATION).unlink(missing_ok=True)
        else:
            writer.discard(self.store, self.sources.patients())

    def run(self, ignore_audit: bool) -> ChannelAudit:
        """Writes every case that is missing; returns the audit over all cases."""
        count = len(self.patients)
        if not count:
            reasons = "; ".join(list(self.skipped.values())[:3])
            raise BratsError(f"no case can be read, so that there is nothing to store: {reasons}")
        places = {i * count // AUDIT_SAMPLE for i in range(AUDIT_SAMPLE)}
        sample = [name for i, name in enumerate(self.patients) if i in places]
        rest = [name for i, name in enumerate(self.patients) if i not in places]
        done = len(self.records) - self.kept
        missing = count - done
        # Closes the pool at the end, so that no process writes while leftovers are removed.
        with (
            progress_bar(count, "cases", "case", done, self.say) as progress,
            contextlib.closing(
                CasePool(
                    self.store,
                    self.sources,
                    self.normalisation,
                    max(1, min(self.workers, missing)),
                    self.plane,
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
        if self.require_labels and record.label_kind != CLASS_LABELS:
            return f"the case {record.patient} has no labels of the classes"
        if self.require_labels and record.present != MODALITIES:
            missing = [name for name in MODALITIES if name not in record.present]
            return f"the case {record.patient} has no {' and no '.join(missing)}"
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
        """Audits the cases of each new source, so that none hides behind another one."""
        ignored = self.before is not None and self.before.audit.ignored
        for number in range(self.first, len(self.sources.sources)):
            ignored |= self._audit_source(number, ignore)
        records = self._ordered()
        if not ignored:  # a few cases that contradict are noted
            of_source = {number: self._of_source(number, records) for number in self._numbers()}
            left = {one.patient for own in of_source.values() for one in set_checks.audited(own)}
            records = [one for one in records if one.patient in left]
        audit = channel_audit.judge(record.contrast for record in records)
        if audit.verdict == "contradicted" and not ignored and set_checks.is_undecided(records):
            audit = dataclasses.replace(audit, verdict="undecided")
        return dataclasses.replace(audit, ignored=ignored)

    def _numbers(self) -> range:
        return range(len(self.sources.sources))

    def _of_source(self, number: int, records: Sequence[CaseRecord]) -> list[CaseRecord]:
        return [one for one in records if self.sources.number_of(one.patient) == number]

    def _audit_source(self, number: int, ignore: bool) -> bool:
        """Whether the cases of a source contradict its names, and that is ignored."""
        source = self.sources.sources[number]
        written = [self.records[name] for name in self.patients if name in self.records]
        records = self._of_source(number, written)
        # The channels of a phantom are correct by construction, though noise may contradict a
        # coarse one.
        if ignore or source.name == PHANTOM:
            audit = channel_audit.judge(record.contrast for record in records)
            return audit.verdict == "contradicted"
        complaint = set_checks.complaint(records, getattr(source, "channel_order", None))
        if not complaint:
            return False
        # The written cases have the wrong names: no other command can use them.
        for record in records:
            writer.discard_case(self.store, record.patient)
            del self.records[record.patient]
        raise BratsError(f"{place_of(self.sources.descriptions[number])}: {complaint}")

    def _ordered(self) -> list[CaseRecord]:
        """The cases that are written, in the order of the store."""
        names = [*(self.before.patients if self.before else ()), *self.patients]
        return [self.records[name] for name in names if name in self.records]

    def _stop(self, problem: str) -> BratsError:
        problem = f"{problem}, or leave such cases out with --skip_bad_cases"
        kept = len(self.records) - self.kept
        if not kept:
            return BratsError(problem)
        return BratsError(
            f"{problem} ({plural(kept, 'finished case')} kept; the same command continues)"
        )

    def finish(self, audit: ChannelAudit, settings: PreparationSettings) -> Manifest:
        """Writes the index and, last, the manifest."""
        if len(self.records) == self.kept:
            raise BratsError(f"no case is fit: {next(iter(self.skipped.values()))}")
        records = self._ordered()
        source_of = [self.sources.number_of(one.patient) for one in records]
        found = set_checks.check_set(records, source_of, growth.subjects_of(self.before))
        said = self.before.notices if self.before else ()
        for notice in found.notices:
            if notice not in said:
                self.say(f"note: {notice}")
        kinds = [self.sources.descriptions[number]["kind"] for number in source_of]
        index = growth.index_names(self.before)
        files, summary = index_writer.write_index(self.store, records, kinds, index)
        summary = dataclasses.replace(summary, subjects=len(set(found.subjects)))
        notes = {one.patient: (*one.notes, *found.notes.get(one.patient, ())) for one in records}
        notices = [
            line
            for number in range(len(self.sources.sources))
            for line in self.sources.notices_of(number)
        ]
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
            patients=tuple(one.patient for one in records),
            subjects=tuple(found.subjects),
            audit=audit,
            notices=(*notices, *found.notices),
            notes={name: lines for name, lines in notes.items() if lines},
            skipped={**(self.before.skipped if self.before else {}), **self.skipped},
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
            source_of=_unless(0, source_of),
            index=index[0],
            tumour_pixels=index[1],
            earlier=growth.earlier_stores(self.before),
            plane=self.plane,
        ).sealed()
        # Until here a store that grows is the one that it was.
        writer.write_document(self.store / MANIFEST, manifest)
        (self.store / PREPARATION).unlink(missing_ok=True)
        return manifest
