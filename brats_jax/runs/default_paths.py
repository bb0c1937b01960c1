"""The store and the run folder that the commands use if no flag names them."""

import os
import runpy
from pathlib import Path

STORE_VARIABLE = "BRATS_JAX_STORE"


def default_store() -> str:
    """$BRATS_JAX_STORE, or stores/default."""
    return os.environ.get(STORE_VARIABLE) or "stores/default"


def default_workdir(config_file: str, loss: str) -> Path:
    """runs/NAME for configs/NAME.py; runs/NAME-LOSS if `loss` differs from that of the file."""
    name = Path(config_file).stem
    own_loss = runpy.run_path(config_file)["get_config"]().loss
    return Path("runs") / (name if loss == own_loss else f"{name}-{loss}")
