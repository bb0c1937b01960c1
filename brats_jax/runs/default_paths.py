"""The store and the run folder that the commands use if no flag names them."""

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


def default_workdir(config_file: str, loss: str) -> Path:
    """runs/NAME for configs/NAME.py; runs/NAME-LOSS if `loss` differs from that of the file."""
    name = Path(config_file).stem
    own_loss = runpy.run_path(config_file)["get_config"]().get("loss", loss)
    return Path("runs") / (name if loss == own_loss else f"{name}-{loss}")
