"""Continues run and grid folders with the settings and the store that they were begun with."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax

from brats_jax import about
from brats_jax.data.store.reader import Store
from brats_jax.data.store.several_planes import SeveralPlanes
from brats_jax.data.store.summary import count_kinds
from brats_jax.errors import BratsError
from brats_jax.runs.documents import GridConfig, RunConfig
from brats_jax.runs.folder import GridFolder, RunFolder
from brats_jax.runs.settings import Settings
from brats_jax.runs.settings_comparison import BEFORE, differences
from brats_jax.runs.store_facts import StoreFacts
from brats_jax.runtime.console import print_line
from brats_jax.runtime.document import read_document, read_if_readable

Started = TypeVar("Started", RunConfig, GridConfig)


def describe_store(store: Store, planes: SeveralPlanes | None = None) -> StoreFacts:
    """The store, as config.json and grid.json have it, with those of other planes."""
    return StoreFacts(
        fingerprint=store.fingerprint,
        source=store.manifest.source,
        normalisation=store.manifest.normalisation,
        patients=count_kinds(store.manifest),
        plane=store.manifest.plane,
        other_planes=fingerprints(planes),
    )


def fingerprints(planes: SeveralPlanes | None) -> dict[str, str]:
    """By plane the fingerprints of the stores besides the first one."""
    return {one.plane: one.fingerprint for one in planes.stores[1:]} if planes else {}


def check_planes(run: Path, started: StoreFacts, planes: SeveralPlanes | None) -> None:
    """Refuses to continue a run with other stores of other planes (BratsError)."""
    before, now = started.other_planes, fingerprints(planes)
    if before != now:
        differing = sorted(
            plane for plane in {*before, *now} if before.get(plane) != now.get(plane)
        )
        raise BratsError(
            f"{run} was started with other slices of the {' and '.join(differing)} plane "
            f"(config.data.other_planes): give the stores it was started with, or another --workdir"
        )


def versions() -> dict[str, str]:
    """The versions of this program and its libraries."""
    return {
        "brats_jax": about.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def recorded_settings(folder: RunFolder) -> dict[str, Any] | None:
    """The settings that a run was begun with; None for a new run."""
    document = read_if_readable(folder.config_json, RunConfig)
    return None if document is None else document.config


def recorded_fingerprint(settings: Settings, folder: RunFolder) -> str:
    """The fingerprint that a store had when the patients of a run were fixed; '' for a new run.

    It is recorded by the run itself, else by the grid that the run belongs to, else by the run that
    it takes its pretraining from.
    """
    found: list[RunConfig | GridConfig | None] = [read_if_readable(folder.config_json, RunConfig)]
    for parent in folder.path.resolve().parents[:2]:
        found.append(read_if_readable(GridFolder(parent).grid_json, GridConfig))
    if settings.pretrain.run:
        other = RunFolder(Path(settings.pretrain.run))
        found.append(read_if_readable(other.config_json, RunConfig))
    return next((document.store.fingerprint for document in found if document), "")


def as_begun(settings: Settings, recorded: Mapping[str, Any] | None) -> Settings:
    """The settings with which a run or grid that an earlier version began goes on.

    A setting of `BEFORE` that the earlier version did not have keeps the meaning of that version.

    Args:
      settings: of the command.
      recorded: the settings in config.json or grid.json; None for a new run or grid.
    """
    for name, before in BEFORE.items():
        group, own = name.split(".")
        if recorded is None or own in recorded.get(group, {}):
            continue
        if settings.value(name) != before and settings.uses_few_labels:
            print_line(
                f"begun by an earlier version: goes on with config.{name}={before}, which chooses "
                "checkpoints by labels outside of the budget"
            )
        settings = settings.with_value(group, own, before)
    return settings


def read_unchanged(
    path: Path,
    kind: type[Started],
    document: Mapping[str, Any],
    store: Store,
    *,
    free: Sequence[str] = (),
) -> Started:
    """Reads what a folder was started with; refuses to continue it with anything else.

    Args:
      path: config.json or grid.json.
      kind: its class.
      document: the settings now, as JSON has them.
      store: the data now.
      free: beginnings of names that may differ, besides those that never change a result.

    Raises:
      BratsError: names every setting that differs; or the file cannot be read.
    """
    started = read_document(path, kind)
    changed = differences(started.config, document)
    changed = [line for line in changed if not line.startswith(tuple(free))]
    if changed:
        raise BratsError(
            f"{path.parent} was started with other settings ({'; '.join(changed)}); give another "
            "--workdir, or the settings it was started with"
        )
    if started.store.fingerprint != store.fingerprint:
        raise BratsError(
            f"{path.parent} was started on another store than {store.path}; give another "
            "--workdir, or the store it was started with"
        )
    return started
