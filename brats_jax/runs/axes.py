"""The axes of a grid: what its cells differ in."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from brats_jax.runtime.document import Part


@dataclass(frozen=True)
class Axes(Part):
    """What a grid goes over; the defaults are the paper's experiment.

    Attributes:
      losses, ssl, seeds, folds: of the segmentations; seeds and folds also of the pretrainings.
      percents: label budgets, in percent of the training patients.
      patients: further label budgets, in patients.
      pretexts: tasks of the pretraining, each with '+DECODER' if it is not the one of the settings.
      transfers: what is transferred, one of `TRANSFER_PARTS`.
      unlabelled: percentages of the patients without labels that a pretraining uses.

    pretexts, transfers and unlabelled are empty if the grid has only the value of its settings. If
    it has others too, the value of the settings is '' among them, or AS_SET among percentages.
    """

    losses: tuple[str, ...] = ("dice_ce", "dice_focal", "focal")
    ssl: tuple[bool, ...] = (False, True)
    percents: tuple[int, ...] = (100,)
    seeds: tuple[int, ...] = (0,)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    patients: tuple[int, ...] = ()
    pretexts: tuple[str, ...] = ()
    transfers: tuple[str, ...] = ()
    unlabelled: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields of version 0.1.0, defaults too, and of the others those that are given."""
        every = dataclasses.asdict(self)
        return {name: value for name, value in every.items() if value or name not in _ADDED}

    @property
    def description(self) -> str:
        """The axes with several values, 'seeds 0, 1; label budgets 1 patient, 100 %'."""
        budgets = [f"{n} patient{'s' * (n > 1)}" for n in self.patients]
        budgets += [f"{percent} %" for percent in self.percents]
        named = {
            "losses": self.losses,
            "pretraining": ["with" if ssl else "without" for ssl in self.ssl],
            "label budgets": budgets,
            "pretexts": [name or SETTING for name in self.pretexts],
            "transfers": [name or SETTING for name in self.transfers],
            "unlabelled patients": [
                SETTING if percent == AS_SET else f"{percent} %" for percent in self.unlabelled
            ],
            "seeds": self.seeds,
            "folds": self.folds,
        }
        found = [
            f"{name} {', '.join(map(str, values))}"
            for name, values in named.items()
            if len(values) > 1
        ]
        return "; ".join(found)


_ADDED = ("patients", "pretexts", "transfers", "unlabelled")
SETTING = "as the settings say"
AS_SET = -1  # of `unlabelled`: the value of the settings
