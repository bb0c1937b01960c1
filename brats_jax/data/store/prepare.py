"""Source to store: every case in parallel, audited on the way, resumable at any moment."""

import contextlib
import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from brats_jax import about
from brats_jax.data.modalities import CLASSES, MODALITIES
from brats_jax.data.normalise import NORMALISATIONS, PERCENTILE
from brats_jax.data.scans.volumes import ORIENTATION
from brats_jax.data.sources.base import Source, known_problems, notices, state_of
from brats_jax.data.sources.detect import PHANTOM, open_source
from brats_jax.data.store import case_pool
from brats_jax.data.store import channel_audit as channel_audit
from brats_jax.data.store import reader as layout
from brats_jax.data.store import writer as writer
from brats_jax.errors import BratsError
from brats_jax.runtime import threads
from brats_jax.runtime.console import ProgressBar, progress_bar
from brats_jax.runtime.files import check_folder
from brats_jax.runtime.text import plural

# Cases whose channels are audited before the rest is read, spread over the whole set.
AUDIT_SAMPLE = 8


def prepare(
    source: str | os.PathLike[str] | Source,
    store: str | os.PathLike[str],
    *,
    normalisation: str = "slice",
    patients: int | None = None,
    seed: int | None = None,
    shape: Sequence[int] | None = None,
    channel_order: Sequence[str] | None = None,
    workers: int | None = None,
    ignore_audit: bool = False,
    skip_bad_cases: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Prepares a store from a source, or goes on with one that was cut short.

    Args:
      source: a folder, 'phantom', or a source already open.
      store: the folder to write; new, empty, or left by the same preparation cut short.
      normalisation: 'slice' (the paper's) or 'volume'.
      patients, seed, shape, channel_order: see `recognise.open_source`.
      workers: processes; all processors this one may use if None, none of its own if 1.
      ignore_audit: go on although the labels contradict the names of the channels.
      skip_bad_cases: leave out cases that cannot be read instead of stopping at the first.
      say: called with lines for the user: notices and progress.

    Returns:
      The manifest of the finished store.

    Raises:
      BratsError: bad source, bad case, contradicted audit, full disk, or a store prepared with
        other options. Whole cases stay, for the same command to go on from; nothing else.
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
        )
    if normalisation not in source.normalisations:
        raise BratsError(
            f"normalisation '{normalisation}' needs intensities that compare between slices, but "
            f"the {source.name} files were z-scored slice by slice when they were made: use "
            f"--normalisation={source.normalisations[0]}, or the NIfTI release"
        )
    store = Path(store)
    settings = {
        "source": {"kind": source.name, **source.description},
        "normalisation": normalisation,
        "version": layout.VERSION,
    }
    if (store / layout.MANIFEST).is_file():
        manifest = layout.read_manifest(store)
        _same_settings(store, manifest["settings"], settings)
        layout.check_files(store, manifest)
        if {*manifest["patients"], *manifest["skipped"]} != set(source.patients()):
            raise BratsError(
                f"{store} is complete with {plural(len(manifest['patients']), 'patient')}, the "
                f"source now holds {len(source.patients())}: choose another --store, or delete it"
            )
        say(f"{store} is complete: nothing to do")
        return manifest
    skipped = known_problems(source)
    if skipped and not skip_bad_cases:
        first = "; ".join(list(skipped.values())[:3])
        more = f"; and {plural(len(skipped) - 3, 'more case')}" if len(skipped) > 3 else ""
        raise BratsError(
            f"{first}{more}: fetch what is missing, or leave such cases out with --skip_bad_cases"
        )
    check_folder(store, "--store")
    with writer.sole_writer(store):
        _begin(store, settings)
        job = _Preparation(store, source, normalisation, workers, skip_bad_cases, skipped, say)
        try:
            audit = job.run(ignore_audit)
            return job.finish(audit, settings)
        finally:
            writer.remove_left_overs(store)
            if not (store / layout.MANIFEST).is_file() and not job.sidecars:
                writer.discard(store)


def _begin(store: Path, settings: dict[str, Any]) -> None:
    """Takes over what the same preparation left, or starts one in an empty folder."""
    if (store / layout.PREPARATION).is_file():
        before = layout.read_json(store / layout.PREPARATION, "delete the store and start again")
        _same_settings(store, before, settings)
        writer.remove_left_overs(store)
        return
    others = [path.name for path in store.iterdir() if not path.name.startswith(".")]
    if others:
        raise BratsError(
            f"{store} holds other files ({others[0]}, ...) and no store: choose an empty --store"
        )
    writer.write_json(store / layout.PREPARATION, settings)


def _same_settings(store: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = _flat(before), _flat(now)
    changes = [
        f"{key} was {old.get(key)}, now {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if changes:
        raise BratsError(
            f"{store} was prepared otherwise ({'; '.join(changes)}): choose another --store, or "
            "delete it"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


class _Preparation:
    """One run over the cases that are not there yet."""

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
        self.sidecars = {
            name: sidecar
            for name in self.patients
            if (sidecar := writer.finished_case(store, name, state_of(source, name))) is not None
        }
        writer.discard_others(store, self.sidecars)
        if self.sidecars:
            say(f"{len(self.sidecars)} of {plural(len(self.patients), 'case')} already there")

    def run(self, ignore_audit: bool) -> dict[str, Any]:
        """Writes every case that is missing; returns the audit over all of them."""
        count = len(self.patients)
        if not count:
            raise BratsError(f"no case of {self.source.description} can be read: nothing to store")
        places = {i * count // AUDIT_SAMPLE for i in range(AUDIT_SAMPLE)}
        sample = [name for i, name in enumerate(self.patients) if i in places]
        rest = [name for i, name in enumerate(self.patients) if i not in places]
        missing = count - len(self.sidecars)
        # Nothing is written any more once the pool is closed, so what is left can be tidied.
        with (
            progress_bar(count, "cases", "case", len(self.sidecars), self.say) as progress,
            contextlib.closing(
                case_pool.CasePool(
                    self.store, self.source, self.normalisation, max(1, min(self.workers, missing))
                )
            ) as pool,
        ):
            self._write(sample, pool, progress)
            self._audit(ignore_audit)
            self._write(rest, pool, progress)
        return self._audit(ignore_audit)

    def _write(
        self, patients: Sequence[str], pool: case_pool.CasePool, progress: ProgressBar
    ) -> None:
        todo = [name for name in patients if name not in self.sidecars]
        for patient, result in pool.write(todo):
            progress.update()
            problem = result if isinstance(result, str) else self._misfit(result)
            if problem is None:
                assert not isinstance(result, str)
                self.sidecars[patient] = result
                continue
            writer.discard_case(self.store, patient)
            if not self.skip_bad_cases:
                raise self._stop(problem)
            self.skipped[patient] = problem

    def _misfit(self, sidecar: Mapping[str, Any]) -> str | None:
        """What is wrong with a case beside the others."""
        if not self.sidecars:
            return None
        name, other = next(iter(self.sidecars.items()))
        if sidecar["slice_shape"] == other["slice_shape"]:
            return None
        ours, theirs = ("{} x {}".format(*case["slice_shape"]) for case in (sidecar, other))
        files = sidecar["provenance"].get("files", sidecar["patient"])
        file = next(iter(files.values())) if isinstance(files, Mapping) else files
        return (
            f"{file} has slices of {ours}, those of {name} are {theirs}: a store has one slice "
            "shape, prepare them apart"
        )

    def _audit(self, ignore: bool) -> dict[str, Any]:
        audit = channel_audit.judge(case["contrast"] for case in self.sidecars.values())
        if audit["verdict"] != "contradicted":
            return {**audit, "ignored": False}
        # The phantom is drawn, not read: its channels cannot be mistaken, though noise may
        # contradict a coarse one.
        if ignore or self.source.name == PHANTOM:
            return {**audit, "ignored": True}
        complaint = channel_audit.complaint(audit, getattr(self.source, "channel_order", None))
        # What is written has the wrong names: of no use to any other command.
        self.sidecars.clear()
        raise BratsError(f"{self.source.description.get('folder', self.source.name)}: {complaint}")

    def _stop(self, problem: str) -> BratsError:
        problem = f"{problem}, or leave such cases out with --skip_bad_cases"
        kept = len(self.sidecars)
        if not kept:
            return BratsError(problem)
        return BratsError(
            f"{problem} ({plural(kept, 'finished case')} kept; the same command goes on from there)"
        )

    def finish(self, audit: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """Writes the index and, last, the manifest."""
        if not self.sidecars:
            raise BratsError(f"no case is fit: {next(iter(self.skipped.values()))}")
        patients = [name for name in self.patients if name in self.sidecars]
        sidecars = [self.sidecars[name] for name in patients]
        manifest = {
            "schema": layout.SCHEMA,
            "version": layout.VERSION,
            "package_version": about.__version__,
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "source": settings["source"],
            "normalisation": self.normalisation,
            "percentile": PERCENTILE,
            "modalities": list(MODALITIES),
            "classes": list(CLASSES),
            "slice_shape": sidecars[0]["slice_shape"],
            "orientation": ORIENTATION,
            "patients": patients,
            "subjects": [sidecar["subject"] for sidecar in sidecars],
            "audit": audit,
            "notices": self.notices,
            "notes": {
                sidecar["patient"]: sidecar["notes"] for sidecar in sidecars if sidecar["notes"]
            },
            "skipped": self.skipped,
            "settings": settings,
            **writer.write_index(self.store, sidecars),
        }
        writer.write_json(self.store / layout.MANIFEST, manifest)
        (self.store / layout.PREPARATION).unlink(missing_ok=True)
        return manifest
