"""The modes of `main`. Imports no library, so that a wrong mode is found at once."""

from brats_jax.errors import BratsError

MODES = ("train", "pretrain", "evaluate")


def check_mode(mode: str) -> None:
    """Raises BratsError unless it is one of `MODES`."""
    if mode not in MODES:
        raise BratsError(f"unknown --mode={mode}; valid: {', '.join(MODES)}")
