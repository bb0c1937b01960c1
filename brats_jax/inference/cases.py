"""From cases to files: reads ahead, predicts, writes behind.

The network has the device to itself while the next cases are read and normalised and the last
ones cleaned and written, in threads (zlib and NumPy let go of the interpreter). How many cases are
in memory at once is bounded, whatever their number.
"""

import collections
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.scans.case_files import CaseFiles, group_by_case
from brats_jax.data.scans.scan import Scan, read_scan
from brats_jax.data.scans.truth import read_truth
from brats_jax.data.sources.base import folder_files
from brats_jax.errors import BratsError
from brats_jax.inference import outputs, sidecars
from brats_jax.inference.model import Model
from brats_jax.inference.outputs import OutputOptions
from brats_jax.runtime.console import print_line, progress_bar
from brats_jax.runtime.files import remove_stale
from brats_jax.runtime.threads import available_cpus

_MOST_READERS = 4
_WRITERS = 2

# Of a tumour in air. Good models leave a voxel or two there in a thousand, at the head's edge.
SUSPICIOUS_SHARE = 0.02


@dataclass
class Outcome:
    """What became of the cases, by name.

    Attributes:
      written: the main file of each.
      kept: why nothing was done.
      failed: one line each.
    """

    written: dict[str, Path] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def find_cases(folder: Path) -> list[CaseFiles]:
    """The cases at or below a folder, by the names of any BraTS release.

    Raises:
      BratsError: no folder, or no images in it.
    """
    if not folder.is_dir():
        raise BratsError(f"--input={folder} is no folder: give a case's folder, or one of cases")
    files = folder_files(folder)
    cases = group_by_case(files, labels=False)
    if not cases:
        raise BratsError(
            f"{folder} holds no BraTS images among its {len(files)} files: they are called "
            "CASE_{flair,t1,t1ce,t2}.nii.gz or CASE-{t2f,t1n,t1c,t2w}.nii.gz; name others with "
            "--t1 --t1gd --t2 --flair"
        )
    return sorted(cases.values(), key=lambda case: case.name)


def predict_cases(
    model: Model,
    cases: Sequence[CaseFiles],
    directory: Path,
    wanted: OutputOptions,
    *,
    resampled: bool = False,
) -> Outcome:
    """Predicts cases and writes them into a folder; a case that fails does not stop the others.

    Args:
      model: segments or reconstructs.
      cases: their files.
      directory: where to write.
      wanted: what to write.
      resampled: bring onto a grid that fits what does not.
    """
    outcome = Outcome()
    remove_stale(directory, outputs.NAMES)
    todo = []
    for case in cases:
        try:
            kept = outputs.earlier(directory, case.name, model, wanted)
        except Exception as error:
            _fail(outcome, case.name, error)
            continue
        if kept:
            outcome.kept[case.name] = kept
            print_line(f"{case.name}: {kept}")
        else:
            todo.append(case)
    ahead = min(_MOST_READERS, available_cpus())
    readers = ThreadPoolExecutor(ahead, "read")
    writers = ThreadPoolExecutor(_WRITERS, "write")
    work = _Work(model, directory, wanted, resampled)
    try:
        with progress_bar(len(todo), "cases", "case") as progress:
            for case, written in _behind(writers, work, _ahead(readers, ahead, work.read, todo)):
                _note(outcome, case.name, written)
                progress.update()
    finally:
        for pool in (readers, writers):
            pool.shutdown(wait=True, cancel_futures=True)
        sidecars.write_table(directory)
    return outcome


class _Work:
    """The three parts of one case, each in a thread of its own kind."""

    def __init__(
        self, model: Model, directory: Path, wanted: OutputOptions, resampled: bool
    ) -> None:
        self.model, self.directory = model, directory
        self.wanted, self.resampled = wanted, resampled

    def read(self, case: CaseFiles) -> tuple[Scan, np.ndarray]:
        """In the background: the scan, and what the network sees of it."""
        scan = read_scan(
            case,
            self.model.inputs,
            in_plane=self.model.trained.in_plane,
            resampled=self.resampled,
        )
        return scan, self.model.normalise(scan)

    @property
    def compares(self) -> bool:
        """Whether what the network saw is still needed when its answer is written."""
        return self.model.trained.task_name == "reconstruct"

    def predict(self, case: CaseFiles, images: np.ndarray) -> Any:
        """On the device."""
        if self.model.trained.task_name == "segment":
            details = self._wanted(case.name).details
            return self.model.ensemble.segment(images, details=details)
        return self.model.ensemble.reconstruct(images)

    def write(
        self, scan: Scan, images: np.ndarray | None, found: Any, started: float
    ) -> tuple[Path, str]:
        """In the background: all that is written of a case, and what is said of it."""
        model, notes = self.model, list(scan.notes)
        if model.trained.task_name == "segment":
            segmented, truth = model.finish(scan, found), None
            wanted = self._wanted(scan.name)
            if wanted.picture or wanted.page:
                try:
                    truth = read_truth(scan)
                except BratsError as error:  # it is only to be looked at
                    notes.append(f"shown without truth, because {error}")
            path = outputs.write_segmentation(self.directory, segmented, model, wanted, truth)
            if (share := segmented.share_in_air) > SUSPICIOUS_SHARE:
                notes.append(
                    f"{share:.0%} of this tumour lies in air, where every modality is 0: do not "
                    "trust it; was the model trained to the end, and on images like these?"
                )
            volumes = ", ".join(f"{n} {segmented.volumes[n].ml:.1f} ml" for n in ("WT", "TC", "ET"))
        else:
            assert images is not None
            made = model.compare(scan, images, found)
            path = outputs.write_reconstruction(self.directory, made, model)
            volumes = f"{made.target}" + ("" if made.mse is None else f", MSE {made.mse:.3f}")
        took = time.monotonic() - started
        return path, f"{volumes}; {path} ({took:.1f} s)" + "".join(f"; {n}" for n in notes)

    def _wanted(self, case: str) -> OutputOptions:
        return outputs.with_earlier(self.directory, case, self.model, self.wanted)


_Read = Iterator[tuple[CaseFiles, Future]]


def _ahead(
    pool: ThreadPoolExecutor, ahead: int, read: Callable, cases: Sequence[CaseFiles]
) -> _Read:
    """Cases and what is read of them, in order; no more than `ahead` are begun."""
    waiting: collections.deque[tuple[CaseFiles, Future]] = collections.deque()
    left = iter(cases)
    while True:
        while len(waiting) < ahead and (case := next(left, None)) is not None:
            waiting.append((case, pool.submit(read, case)))
        if not waiting:
            return
        yield waiting.popleft()


def _behind(
    pool: ThreadPoolExecutor, work: _Work, read: _Read
) -> Iterator[tuple[CaseFiles, Future]]:
    """Cases and what was written of them, in order; no more are unwritten than there are threads.

    What could not be read or predicted comes out as it is, failed.
    """
    unwritten: collections.deque[tuple[CaseFiles, Future]] = collections.deque()
    for case, reading in read:
        started = time.monotonic()
        writing: Future = Future()
        try:
            scan, images = reading.result()
            found = work.predict(case, images)
            if not work.compares:
                images = None
            writing = pool.submit(work.write, scan, images, found, started)
            del scan, images, found
        except Exception as error:  # of any kind: one case does not stop the others
            writing.set_exception(error)
        unwritten.append((case, writing))
        del reading
        while len(unwritten) > _WRITERS or (unwritten and unwritten[0][1].done()):
            yield unwritten.popleft()
    yield from unwritten


def _note(outcome: Outcome, name: str, written: Future) -> None:
    try:
        path, told = written.result()
    except Exception as error:
        _fail(outcome, name, error)
    else:
        outcome.written[name] = path
        print_line(f"{name}: {told}")


def _fail(outcome: Outcome, name: str, error: Exception) -> None:
    outcome.failed[name] = problem = _problem(error)
    print_line(f"{name}: FAILED: {problem}")


def _problem(error: Exception) -> str:
    """One line on what became of a case."""
    if isinstance(error, BratsError):
        return str(error)
    if isinstance(error, OSError):  # a full disk, a folder that may not be written
        return f"{error.filename or 'a file'}: {error.strerror or error}; free space or rights"
    if isinstance(error, MemoryError):
        return "not enough memory for this case: close other programs, or crop it"
    kind = type(error).__name__
    first = (str(error).strip() or "no message").splitlines()[0][:200]
    if "RESOURCE_EXHAUSTED" in str(error):  # the device's own memory, as JAX tells it
        return f"{kind}: {first}: give a smaller --batch_size"
    return f"{kind}: {first}"
