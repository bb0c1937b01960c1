"""Whether what an evaluation left in a fold's folder is still what this program would write."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Of evaluation.json. An evaluation of another version, or one that was asked for otherwise, is
# made again; no number of it is taken for one of this version.
EVALUATION_VERSION = 3
ASKED = ("slices", "tolerance_mm")

# What to do about one that cannot be used.
AGAIN = "give the command that trained again: it evaluates anew, and trains nothing"


def is_current(directory: Path, steps: Mapping[str, int], **asked: Any) -> bool:
    """Whether a fold has an evaluation of this version, and the tallies that belong to it.

    Args:
      directory: the fold's folder.
      steps: of each stage, the step of the checkpoint that must have been evaluated.
      asked: what the evaluation must have been asked for, of `ASKED`.
    """
    try:
        document = json.loads((directory / "evaluation.json").read_text())
        wanted = {"version": EVALUATION_VERSION, **asked}
        same = all(document[name] == value for name, value in wanted.items())
        same &= all(document["checkpoints"][s]["step"] == step for s, step in steps.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not same:
        return False
    from brats_jax.evaluation import tallies  # brings SciPy, which a training need not wait for

    return all(tallies.is_current(directory / f"tally_{s}.npz", s) for s in steps)
