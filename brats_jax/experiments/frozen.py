"""What a folder was started with: written once, compared every time it is continued."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from brats_jax import about
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.experiments import config as settings


def describe(config: dict[str, Any], store: Store) -> dict[str, Any]:
    """JSON-able: settings, store and versions."""
    return {
        "config": config,
        "store": {
            "fingerprint": store.fingerprint,
            "source": store.manifest.source,
            "normalisation": store.manifest.normalisation,
        },
        "versions": {
            "brats_jax": about.__version__,
            "jax": jax.__version__,
            "python": platform.python_version(),
        },
    }


def check_same(
    path: Path, config: dict[str, Any], store: Store, *, free: Sequence[str] = ()
) -> dict[str, Any]:
    """Refuses to continue a folder with other settings or data than it was started with.

    Args:
      path: the file in the folder that holds what `describe` gave.
      config: the settings now, as JSON has them.
      store: the data now.
      free: beginnings of names that may differ, besides those that never change a result.

    Returns:
      The document at `path`.

    Raises:
      BratsError: names every setting that differs; or the file cannot be read.
    """
    try:
        document = json.loads(path.read_text())
        changed = settings.differences(document["config"], config)
        changed = [name for name in changed if not name.startswith(tuple(free))]
        same_store = document["store"]["fingerprint"] == store.fingerprint
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BratsError(f"{path}: cannot be read ({error}); give another --workdir") from None
    if changed:
        raise BratsError(
            f"{path.parent} was started with other settings ({'; '.join(changed)}); give another "
            "--workdir, or the settings it was started with"
        )
    if not same_store:
        raise BratsError(
            f"{path.parent} was started on another store than {store.path}; give another "
            "--workdir, or the store it was started with"
        )
    return document
