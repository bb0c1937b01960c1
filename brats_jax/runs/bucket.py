"""A folder in a bucket: objects named by their SHA-256, and manifests that name them by path.

    URL/objects/HH/SHA256          the content of a file
    URL/manifests/GENERATION-WRITER.json
                                   the files of a state: written last, which makes the state valid
    URL/lease.json                 the machine that writes, see `bucket_lease`

URL is one of fsspec: s3://, gs://, file://, memory:// and others. An upload that ends at any moment
leaves the state before it: objects come first, the manifest after all of them are there, and what
no kept manifest names is removed after that. The newest two states are kept. A download compares
the SHA-256 of every file.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from brats_jax.errors import BratsError
from brats_jax.runtime.document import SealedDocument
from brats_jax.runtime.files import sha256_of
from brats_jax.runtime.redact import first_line, without_secrets

KEPT = 2  # states
_TRANSFERS = 4  # at a time
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MANIFEST = re.compile(r"(\d{8})-([0-9a-f]{16})\.json")


@dataclass(frozen=True)
class Manifest(SealedDocument):
    """A state of the folder.

    Attributes:
      generation: its number; a later state has a larger one.
      writer: the token of the program that wrote it.
      digests, sizes: by path within the folder.
    """

    SCHEMA: ClassVar[str] = "brats_jax.bucket"
    REMEDY: ClassVar[str] = "give another URL"
    generation: int
    writer: str
    digests: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its object."""
        return f"{self.generation:08}-{self.writer}.json"

    @property
    def objects(self) -> dict[str, int]:
        """Sizes by digest."""
        return {digest: self.sizes[path] for path, digest in self.digests.items()}

    def differing(self, folder: Path) -> list[str]:
        """The files of this state that are missing in a folder, or have another SHA-256 there."""

        def same(path: str) -> bool:
            file = folder / path
            there = file.is_file() and file.stat().st_size == self.sizes[path]
            return there and sha256_of(file) == self.digests[path]

        return [path for path in sorted(self.digests) if not same(path)]


class Superseded(BratsError):
    """Another machine has written into the bucket meanwhile."""


class Bucket:
    """The place of one folder in a bucket.

    Args:
      url: of fsspec.

    Attributes:
      shown: the URL for messages.
      writer: a token of this program's start.

    Raises:
      BratsError: not a URL; fsspec or the part of it for this URL is not installed; no such kind
        of URL.
    """

    def __init__(self, url: str) -> None:
        self.shown = without_secrets(url.rstrip("/"))
        self.writer = secrets.token_hex(8)
        kind, colon, path = url.partition("://")
        if not (kind and colon and path.strip("/")):  # a folder of this name would be made
            raise BratsError(
                f"{self.shown or repr(url)}: give a URL, such as s3://BUCKET/PATH, or "
                "file:///PATH for a folder"
            )
        try:
            import fsspec
        except ImportError:
            raise BratsError(_missing(self.shown)) from None
        try:
            self.fs, root = fsspec.core.url_to_fs(url)
        except ImportError:
            raise BratsError(_missing(self.shown)) from None
        except ValueError as error:
            raise BratsError(f"{self.shown}: {first_line(error)}") from None
        self._root = root.rstrip("/")

    def path(self, *parts: str) -> str:
        """A path within the bucket."""
        return "/".join((self._root, *parts))

    def _object(self, digest: str) -> str:
        return self.path("objects", digest[:2], digest)

    def list(self, folder: str) -> dict[str, int]:
        """Size by name of all objects in a folder, however deep; no folder: none."""
        self.fs.invalidate_cache()
        try:
            found = self.fs.find(self.path(folder), detail=True)
        except FileNotFoundError:
            return {}
        return {path.rsplit("/", 1)[-1]: int(facts["size"]) for path, facts in found.items()}

    def read(self, *parts: str) -> bytes | None:
        """The content of a small object; None if it is not there."""
        try:
            return self.fs.cat_file(self.path(*parts))
        except FileNotFoundError:
            return None

    def write(self, content: bytes, *parts: str) -> None:
        """Writes a small object."""
        self._make_folder(self.path(*parts[:-1]))
        self.fs.pipe_file(self.path(*parts), content)

    def _make_folder(self, path: str) -> None:
        # Object stores have none; s3fs would ask for the right to make a bucket.
        if not self.fs.async_impl:
            self.fs.makedirs(path, exist_ok=True)

    def remove(self, *parts: str) -> None:
        """Removes an object, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path(*parts))

    def newest(self) -> Manifest | None:
        """The newest state whose objects are all there; None in an empty bucket.

        Raises:
          BratsError: there are manifests, and none is of a whole state.
        """
        names = sorted(filter(_MANIFEST.fullmatch, self.list("manifests")), reverse=True)
        there = self.list("objects") if names else {}
        for name in names:
            content = self.read("manifests", name)
            manifest = _parse(content) if content else None
            if manifest is not None and manifest.objects.items() <= there.items():
                return manifest
        if names:
            raise BratsError(f"{self.shown}: no state in it is whole; give another URL")
        return None

    def settle(self, newest: Manifest) -> None:
        """Removes other manifests of the newest whole state's generation, and later ones.

        A race of two machines leaves such manifests. Only the holder of the lease may call this.

        Args:
          newest: as `newest` returned it.
        """
        for name in self.list("manifests"):
            if name != newest.name and name > f"{newest.generation:08}":
                self.remove("manifests", name)

    def push(
        self,
        files: Mapping[str, tuple[Path, str]],
        before: Manifest | None,
        check: Callable[[], None] = lambda: None,
    ) -> Manifest:
        """Uploads a state: what the bucket lacks, then its manifest; then removes older states.

        Args:
          files: by path within the folder, a file that does not change, and its SHA-256.
          before: the state that this one follows.
          check: called before the manifest is written; raises if it may not be.

        Returns:
          The new state.

        Raises:
          Superseded: another program has written a state meanwhile.
        """
        sizes = {path: file.stat().st_size for path, (file, _) in files.items()}
        manifest = Manifest(
            generation=before.generation + 1 if before else 1,
            writer=self.writer,
            digests={path: digest for path, (_, digest) in sorted(files.items())},
            sizes=dict(sorted(sizes.items())),
        )
        self._check_newest(before)
        there = self.list("objects")
        missing = {d: f for f, d in files.values() if there.get(d) != f.stat().st_size}
        folders = {self._object(digest).rsplit("/", 1)[0] for digest in missing}
        for folder in sorted(folders):
            self._make_folder(folder)
        _each(lambda item: self.fs.put_file(str(item[1]), self._object(item[0])), missing.items())
        there = self.list("objects")
        if not manifest.objects.items() <= there.items():
            raise OSError(f"{self.shown}: an uploaded object is not there, or is not whole")
        check()
        self._check_newest(before)
        content = json.dumps(manifest.sealed().to_json()).encode()
        self.write(content, "manifests", manifest.name)
        try:
            self._check_newest(before, manifest)
        except Superseded:
            self.remove("manifests", manifest.name)
            raise
        self._clean(manifest, before, there)
        return manifest

    def _check_newest(self, before: Manifest | None, mine: Manifest | None = None) -> None:
        """Refuses to go on if another program has written a state since `before`.

        Args:
          before: the state that this program last read or wrote; None: the bucket was empty.
          mine: a state that this program has just written.

        Raises:
          Superseded: there is a manifest after `before` that is not `mine`.
        """
        own = {manifest.name for manifest in (before, mine) if manifest is not None}
        least = f"{before.generation:08}" if before else ""
        others = [name for name in self.list("manifests") if name not in own and name > least]
        if any(_MANIFEST.fullmatch(name) for name in others):
            raise Superseded(
                f"{self.shown}: another machine has written into it; this one ends, and uploads "
                "nothing more"
            )

    def _clean(self, manifest: Manifest, before: Manifest | None, there: Mapping[str, int]) -> None:
        """Removes older manifests, then the objects that no kept one names."""
        kept = ([manifest, before] if before else [manifest])[:KEPT]
        names = {state.name for state in kept}
        for name in self.list("manifests"):
            if name not in names:
                self.remove("manifests", name)
        used = {digest for state in kept for digest in state.objects}
        unused = [digest for digest in there if digest not in used]
        _each(lambda digest: self.remove("objects", digest[:2], digest), unused)

    def pull(
        self, manifest: Manifest, folder: Path, before_it_appears: Callable[[], None] = lambda: None
    ) -> None:
        """Downloads a state into a new folder, which appears whole or not at all.

        Files that an interrupted call has downloaded are used again.

        Raises:
          BratsError: `folder` exists, with content; a file has another SHA-256.
        """
        if os.path.lexists(folder) and not is_empty(folder):
            raise BratsError(f"{folder} exists: move it away")
        incoming = folder.with_name(f".{folder.name}.incoming")
        paths = {path: incoming / path for path in manifest.digests}
        for file in paths.values():
            file.parent.mkdir(parents=True, exist_ok=True)
        _each(lambda item: self._fetch(manifest, item[0], item[1]), paths.items())
        wanted = set(paths.values())
        for file in [*incoming.rglob("*")]:  # of another state
            if file.is_file() and file not in wanted:
                file.unlink()
        incoming.mkdir(parents=True, exist_ok=True)
        before_it_appears()
        os.rename(incoming, folder)

    def _fetch(self, manifest: Manifest, path: str, file: Path) -> None:
        digest = manifest.digests[path]
        if file.is_file() and sha256_of(file) == digest:
            return
        part = file.with_name(f".{file.name}.part")
        found = hashlib.sha256()
        try:
            with self.fs.open(self._object(digest), "rb") as source, part.open("wb") as target:
                while block := source.read(2**22):
                    found.update(block)
                    target.write(block)
                target.flush()
                os.fsync(target.fileno())
        except FileNotFoundError:
            raise BratsError(
                f"{self.shown}: {path} was removed while it was read; give the same command again"
            ) from None
        if found.hexdigest() != digest:
            part.unlink()
            raise BratsError(f"{self.shown}: {path} is damaged (its SHA-256 differs)")
        os.replace(part, file)


def is_empty(folder: Path) -> bool:
    """Whether this is a folder without content, which a download may replace."""
    return folder.is_dir() and not folder.is_symlink() and next(folder.iterdir(), None) is None


def _each(work: Callable[[Any], Any], items: Iterable[Any]) -> None:
    """Applies `work` to each, some at a time; raises the first exception."""
    with ThreadPoolExecutor(_TRANSFERS) as pool:
        for _ in pool.map(work, items):
            pass


def _parse(content: bytes) -> Manifest | None:
    """A manifest; None if it is damaged or names paths outside of the folder."""
    try:
        manifest = Manifest.from_json(json.loads(content))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if set(manifest.digests) != set(manifest.sizes):
        return None
    for path, digest in manifest.digests.items():
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or not _DIGEST.fullmatch(digest):
            return None
    return manifest


def _missing(url: str) -> str:
    kind = url.split("://")[0]
    return (
        f"{url}: the library for {kind}:// is not installed; pip install 'brats_jax[bucket]' for "
        "s3://, or what https://filesystem-spec.readthedocs.io names for others"
    )
