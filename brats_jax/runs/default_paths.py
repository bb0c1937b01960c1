"""Store and run folder that the commands use if no flag names them; checks of the store."""

import os
import runpy
from pathlib import Path

from ml_collections import ConfigDict

from brats_jax.errors import BratsError

STORE_VARIABLE = "BRATS_JAX_STORE"


def default_store() -> str:
    """$BRATS_JAX_STORE, or stores/default."""
    return os.environ.get(STORE_VARIABLE) or "stores/default"


def fill_store(config: ConfigDict) -> bool:
    """Sets config.data.store to `default_store` where it is empty; returns whether it was.

    Raises:
      BratsError: the configuration has no config.data.store.
    """
    try:
        if config.data.store:
            return False
        config.data.store = default_store()
    except (AttributeError, KeyError, TypeError):
        raise BratsError(
            "the configuration has no config.data.store: base it on configs/base.py"
        ) from None
    return True


def check_stores(config: ConfigDict, *, others: bool) -> None:
    """Refuses a store that is missing or unfinished, without JAX, whose import takes seconds.

    Args:
      config: with config.data.store.
      others: whether the stores of config.data.other_planes are needed, too.

    Raises:
      BratsError: as in `read_manifest`, which checks the rest.
    """
    from brats_jax.data.store.reader import check_finished

    names = str(config.data.get("other_planes", "")).split(",") if others else []
    for name in (config.data.store, *(name.strip() for name in names)):
        if name:
            check_finished(Path(name))


def note_on_store(config_file: str, store: str) -> str:
    """A note where a configuration recommends another normalisation than a store has; else ''.

    A configuration recommends one by a constant NORMALISATION beside its `get_config`.
    """
    from brats_jax.data.store.layout import MANIFEST, Manifest
    from brats_jax.runtime.document import read_if_readable

    wanted = runpy.run_path(config_file).get("NORMALISATION", "")
    manifest = read_if_readable(Path(store) / MANIFEST, Manifest) if wanted else None
    if manifest is None or manifest.normalisation == wanted:
        return ""
    return (
        f"note: {Path(config_file).name} recommends a store prepared with "
        f"--normalisation={wanted}; {store} is normalised by {manifest.normalisation}"
    )


def default_workdir(config_file: str, loss: str) -> Path:
    """runs/NAME for configs/NAME.py; runs/NAME-LOSS if `loss` differs from that of the file."""
    name = Path(config_file).stem
    own_loss = runpy.run_path(config_file)["get_config"]().get("loss", loss)
    return Path("runs") / (name if loss == own_loss else f"{name}-{loss}")
