"""The file that `Model.segment` and `Model.reconstruct` write, and its description beside it."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

from brats_jax.data.scans import provenance
from brats_jax.errors import BratsError
from brats_jax.inference import sidecars
from brats_jax.runs.folder import PredictionFolder
from brats_jax.runs.sidecars import (
    LATER_S,
    SegmentationOutputSidecar,
    SegmentationSidecar,
    SyntheticOutputSidecar,
    SyntheticSidecar,
    missing_files,
)
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.files import atomic_group, json_text, refuse_link
from brats_jax.runtime.own_files import OwnFiles, check_replaceable
from brats_jax.runtime.whole_files import is_whole

_KINDS: tuple[type[SegmentationSidecar | SyntheticSidecar], ...] = (
    SegmentationOutputSidecar,
    SyntheticOutputSidecar,
    SegmentationSidecar,
    SyntheticSidecar,
)


@dataclass(frozen=True)
class OutputFile:
    """NAME.nii.gz (or .nii), and NAME.json with its hash, which is written with it."""

    path: Path

    @property
    def sidecar(self) -> Path:
        """NAME.json."""
        return sidecars.path_beside(self.path)

    def check(self) -> None:
        """Refuses to replace a file that this program did not write, or that was edited since.

        Raises:
          BratsError: names the file.
        """
        if self.sidecar.exists() and not sidecars.is_ours(self.sidecar):
            raise BratsError(
                f"{self.sidecar} is there and was not written by this program, which writes its "
                "description there: give another output"
            )
        remedy = "move it away, or give another output"
        for path in (self.path, self.sidecar):
            refuse_link(path, remedy)
        if self.path.is_file() and not is_whole(self.path):  # nobody can use it
            return
        own = self._own_files()
        if not own.knows(self.path.name) and provenance.is_predicted(self.path):
            raise BratsError(
                f"{self.path} is there without the description that was written with it: kept; "
                f"{remedy}"
            )
        check_replaceable(own, [self.path.name], remedy)

    def write(self, data: bytes, description: SegmentationSidecar | SyntheticSidecar) -> None:
        """Replaces the file and its description together.

        Raises:
          BratsError: the file has changed since the last `check`.
        """
        self.check()
        name = self.path.name
        own = self._own_files()
        described = dataclasses.replace(
            description, files={name: len(data)}, sha256={name: hashlib.sha256(data).hexdigest()}
        )
        own.begin({name: data})
        try:
            with atomic_group(self.sidecar) as open_file:
                open_file(self.path).write(data)
                open_file(self.sidecar).write(json_text(described.sealed().to_json()).encode())
        except BaseException:  # Ctrl-C, too: the hash of a file that was not written must not stay
            if self.sidecar.exists() or not self.path.exists():
                own.discard_ledger()
            raise
        own.discard_ledger()

    def _own_files(self) -> OwnFiles:
        folder, name = self.path.parent, self.path.name
        found = (read_if_readable(self.sidecar, kind) for kind in _KINDS)
        before = next((document for document in found if document is not None), None)
        own = OwnFiles(
            folder,
            PredictionFolder(folder).ledger_json(self.sidecar),
            before.sha256 if before else {},
        )
        if before is not None and not before.sha256 and name in before.files and self.path.exists():
            # Version 0.1.0 wrote sizes alone, and the description last.
            whole = not missing_files(folder, {name: before.files[name]})
            written = self.sidecar.stat().st_mtime + LATER_S
            own.adopt(name, unchanged=whole and self.path.stat().st_mtime <= written)
        return own
