"""Numbers and titles of folds, and of the training on all patients (config.folds=all)."""

from collections.abc import Mapping, Sequence
from typing import Any

# In place of a fold's number: no validation set and no test set, all patients train.
ALL = -1
ALL_NAME = "all"  # its name in settings and folders


def fold_title(number: int) -> str:
    """'fold K', or 'all patients'."""
    return "all patients" if number == ALL else f"fold {number}"


def fold_titles(numbers: Sequence[int]) -> str:
    """'fold K', 'folds K, L', or 'all patients'."""
    if len(numbers) == 1:
        return fold_title(numbers[0])
    return f"folds {', '.join(map(str, numbers))}"


def fold_entropy(number: int) -> int:
    """The number of a fold for a seed, which must not be negative: 2**32 - 1 for all patients."""
    return number % 2**32


def with_fold_numbers(document: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them, `folds` as a list of numbers: [ALL] for 'all'.

    Raises:
      ValueError: another text.
    """
    found = dict(document)
    folds = found.get("folds")
    if is_all(folds):
        found["folds"] = [ALL]
    elif texts := _texts(folds):
        raise ValueError(
            f"'folds' is '{','.join(texts)}': give numbers with commas, such as 0,1, or "
            f"{ALL_NAME} alone"
        )
    return found


def is_all(setting: Any) -> bool:
    """Whether the setting config.folds, as JSON has it, asks for a training on all patients.

    On the command line 'all' becomes a list of one text.
    """
    return setting in (ALL_NAME, [ALL_NAME], (ALL_NAME,))


def _texts(folds: Any) -> list[str]:
    """The texts in the setting, each of which should be a number."""
    if isinstance(folds, str):
        return [folds]
    return [one for one in folds if isinstance(one, str)] if isinstance(folds, list | tuple) else []
