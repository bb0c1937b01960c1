"""The state of a folder at one moment, while a program writes into it."""

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from brats_jax.errors import BratsError
from brats_jax.runtime.files import sha256_of

# Not part of a state: locks, claims, and what is being written.
_LEFT_OUT = re.compile(
    r"(.*\.)?lock(\.alive|\.deciding)?(\.[0-9a-f]+)?|\..*\.brats_jax-.*|.*\.orbax-checkpoint-tmp.*"
)
# Files that grow, and may end anywhere: their readers skip a line that is cut off.
_GROWING = re.compile(r"(.*/)?(metrics\.jsonl|(tensorboard|wandb|logs)/.*)")
_ATTEMPTS = 50

Facts = tuple[int, int, int]  # inode, size, time of the last change


def state_of(folder: Path) -> dict[str, Facts]:
    """What the files of a folder are now, by path; growing ones left out.

    Two equal answers mean that nothing was replaced in between.
    """
    return {path: facts for path, facts in _files(folder) if not _GROWING.fullmatch(path)}


def files_of(folder: Path) -> dict[str, tuple[Path, str]]:
    """The files of a folder that nobody changes, and their SHA-256, by path."""
    paths = {path: folder / path for path, _ in _files(folder)}
    return {path: (file, sha256_of(file)) for path, file in paths.items()}


def _files(folder: Path) -> Iterator[tuple[str, Facts]]:
    waiting = [folder]
    while waiting:
        # A folder or a file may be removed meanwhile.
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if _LEFT_OUT.fullmatch(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                    continue
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        path = Path(entry.path).relative_to(folder).as_posix()
                        yield path, (found.st_ino, found.st_size, found.st_mtime_ns)


class Snapshots:
    """Copies a folder's state at one moment into a folder beside it, by links where possible.

    Everything but the growing files is written by a rename, so that a link keeps the content that a
    file has now. A copy is of one moment if the folder was the same before and after it.

    Args:
      folder: the folder.
      beside: where the copy is kept; on the same file system, links are made.
    """

    def __init__(self, folder: Path, beside: Path) -> None:
        self._folder, self._beside = folder, beside
        self._digests: dict[Facts, str] = {}

    def take(self) -> tuple[dict[str, Facts], dict[str, tuple[Path, str]]]:
        """(`state_of` the moment; by path, the copy and its SHA-256).

        Raises:
          BratsError: the folder changes faster than it can be copied.
        """
        for attempt in range(_ATTEMPTS):
            state = state_of(self._folder)
            if self._copy(state) and state_of(self._folder) == state:
                return state, self._with_digests(state)
            time.sleep(min(0.02 * 1.3**attempt, 2.0))
        raise BratsError(f"{self._folder} changes faster than it can be copied")

    def _copy(self, state: dict[str, Facts]) -> bool:
        shutil.rmtree(self._beside, ignore_errors=True)
        self._beside.mkdir(parents=True)
        try:
            for path in state:
                target = self._beside / path
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(self._folder / path, target)
                except FileNotFoundError:
                    raise
                except OSError:  # no links here
                    shutil.copy2(self._folder / path, target)
        except FileNotFoundError:  # removed meanwhile
            return False
        return True

    def _with_digests(self, state: dict[str, Facts]) -> dict[str, tuple[Path, str]]:
        # After the others: a log has at least the lines of its checkpoint.
        for path, _ in _files(self._folder):
            if _GROWING.fullmatch(path):
                target = self._beside / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(self._folder / path, target)
        known, self._digests, found = self._digests, {}, {}
        for path, _ in _files(self._beside):
            file, facts = self._beside / path, state.get(path)
            digest = known.get(facts) if facts is not None else None
            found[path] = (file, digest or sha256_of(file))
            if facts is not None:
                self._digests[facts] = found[path][1]
        return found
