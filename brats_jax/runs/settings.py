"""The settings of a run, nested as in configs/base.py: types, valid values, and their effect.

config.json of a run holds them as JSON, with the settings of the user's own that this program does
not know.
"""

import dataclasses
import enum
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from brats_jax.data.device_store import PLACEMENTS
from brats_jax.data.folds import ALL, ALL_NAME, is_all, with_fold_numbers
from brats_jax.data.modalities import MODALITIES, VALID_NAMES, canonical_names
from brats_jax.data.patches import SAMPLINGS
from brats_jax.data.planes import ALL_PLANES, PLANES
from brats_jax.data.splits import SPLIT_BY
from brats_jax.errors import BratsError
from brats_jax.losses import RECONSTRUCTION_LOSSES, SEGMENTATION_LOSSES
from brats_jax.models import DECODERS, FUSIONS
from brats_jax.models.fusion import WEIGHTS
from brats_jax.pretexts import PRETEXTS
from brats_jax.runtime.devices import DTYPES, GRADIENT_SUMS
from brats_jax.runtime.document import Part
from brats_jax.runtime.flag_types import LARGEST_SEED, MOST_SLICES_AT_ONCE
from brats_jax.tasks.segmentation import SELECTION_METRICS
from brats_jax.tasks.segmentation_outputs import DEFAULT_OUTPUTS, OUTPUTS


@dataclass(frozen=True)
class Rule:
    """The valid values of a setting, and the end of the message about any other."""

    is_valid: Callable[[Any], bool]
    hint: str


def within(least: float, most: float) -> Rule:
    """Numbers from `least` to `most`."""
    return Rule(lambda value: least <= value <= most, f"give at least {least}, at most {most:,}")


def at_least(least: int) -> Rule:
    """Numbers from `least` up, as far as 32 bits count."""
    return within(least, 2**31 - 1)


def one_of(valid: Iterable[str]) -> Rule:
    """One of the words."""
    words = tuple(valid)
    return Rule(lambda value: value in words, f"valid values are {', '.join(words)}")


POSITIVE = Rule(lambda value: 0 < value < math.inf, "must be positive and finite")
NOT_NEGATIVE = Rule(lambda value: 0 <= value < math.inf, "give 0 or more, and a finite number")
STAGE_RATE = Rule(lambda value: 0 <= value < math.inf, "give 0, for that of config.optim, or more")
SEED = within(0, LARGEST_SEED)
BATCH = within(1, MOST_SLICES_AT_ONCE)
ALPHA = Rule(
    lambda weights: all(0 <= w < math.inf for w in weights) and (not weights or max(weights) > 0),
    "give weights of 0 or more, one of them above 0",
)
_WIDTHS = "give a multiple of 4, at most 1,024"
SHARE_BELOW_ONE = Rule(lambda value: 0 <= value < 1, "give 0 or more, below 1")
CONTEXT = within(0, 2)  # slices on each side
PROBABILITY = Rule(lambda value: 0 <= value <= 1, "give 0 to 1")
SLICES = one_of(("tumour", "all"))
SELECTIONS = ("budget", "validation")  # where a checkpoint is chosen, with labels of some patients
# What a segmentation takes from its pretraining (`training.transfer.is_in_part`), and the values of
# the stem's channels of other modalities; the first of each is the paper's.
TRANSFER_PARTS = ("encoder", "encoder_decoder", "stem", "all_but_stem", "batch_norm_statistics")
OTHER_STEMS = ("random", "encoder_init")
# Each once, and at least one.
SOME_MODALITIES = Rule(
    lambda names: bool(names) and set(names) <= {*MODALITIES} and len(set(names)) == len(names),
    f"name each of {VALID_NAMES} at most once",
)
TARGETS = Rule(lambda text: SOME_MODALITIES.is_valid(text.split(",")), SOME_MODALITIES.hint)
SOME_PLANES = Rule(
    lambda text: text in ("", ALL_PLANES) or set(text.split(",")) <= {*PLANES},
    f"give {ALL_PLANES}, or with commas: {', '.join(PLANES)}",
)
STORES = Rule(
    lambda text: not text or all(name.strip() for name in text.split(",")),
    "give the folders of stores, with commas between them",
)
TRACKERS = ("wandb", "mlflow")
AUTO, NONE = "auto", "none"  # those that environment variables switch on; none
TRACKER_NAMES = Rule(
    lambda text: text in (AUTO, NONE) or set(text.split(",")) <= {*TRACKERS},
    f"give {AUTO}, {NONE}, or with commas: {', '.join(TRACKERS)}",
)
MASK_RATIO = Rule(
    lambda shares: len(shares) in (1, 2) and 0 < shares[0] <= shares[-1] < 1,
    "give a share between 0 and 1, or the lowest and the highest: 0.6,0.75",
)


class Mark(enum.Enum):
    """What may change when a run is continued; a setting without a mark must keep its value.

    FREE: it may have another value. It changes how fast or how often something is done, never the
      result.
    PATH: it may name another folder, because only the content of the folder counts.
    ADDED: a run of an earlier version, which does not have it, may go on with its default; with any
      value if the class states no default.
    """

    FREE = enum.auto()
    PATH = enum.auto()
    ADDED = enum.auto()


FREE, PATH, ADDED = Mark.FREE, Mark.PATH, Mark.ADDED


@dataclass(frozen=True)
class ModelSettings(Part):
    """config.model."""

    width: Annotated[int, Rule(lambda n: 1 <= n <= 1024 and n % 4 == 0, _WIDTHS)]
    slope: Annotated[float, SHARE_BELOW_ONE, ADDED] = 0.0
    fusion: Annotated[str, one_of(FUSIONS), ADDED] = "early"
    fusion_weights: Annotated[str, one_of(WEIGHTS), ADDED] = WEIGHTS[0]


@dataclass(frozen=True)
class DataSettings(Part):
    """config.data."""

    store: Annotated[str, FREE]
    split_by: Annotated[str, one_of(SPLIT_BY)]
    test_fraction: Annotated[float, Rule(lambda share: 0 <= share < 1, "at least 0 and below 1")]
    num_folds: Annotated[int, within(2, 1000)]  # a single fold would have nothing to train on
    split_seed: Annotated[int, within(0, 2**63 - 1)]
    label_fraction: Annotated[float, Rule(lambda share: 0 < share <= 1, "above 0, at most 1 (all)")]
    patch_size: Annotated[int, within(1, 4096)]
    workers: Annotated[int, within(0, 1024), FREE]
    threads: Annotated[int, within(1, 1024), FREE]
    placement: Annotated[str, one_of(PLACEMENTS), FREE]
    label_patients: Annotated[int, at_least(0), ADDED] = 0
    selection: Annotated[str, one_of(SELECTIONS), ADDED] = SELECTIONS[0]
    training_only: Annotated[str, ADDED] = ""  # names or patterns, with commas
    other_planes: Annotated[str, STORES, PATH, ADDED] = ""

    @property
    def other_stores(self) -> tuple[str, ...]:
        """The folders of `other_planes`."""
        return tuple(name.strip() for name in self.other_planes.split(",") if name.strip())


@dataclass(frozen=True)
class OptimSettings(Part):
    """config.optim."""

    learning_rate: Annotated[float, POSITIVE]
    decay_factor: Annotated[float, POSITIVE]
    decay_every_epochs: Annotated[int, at_least(1)]
    schedule: Annotated[str, one_of(("halve", "cosine")), ADDED] = "halve"
    optimizer: Annotated[str, one_of(("adam", "adamw")), ADDED] = "adam"
    weight_decay: Annotated[float, NOT_NEGATIVE, ADDED] = 0.01
    warmup_epochs: Annotated[float, NOT_NEGATIVE, ADDED] = 0.0
    clip_norm: Annotated[float, NOT_NEGATIVE, ADDED] = 0.0


@dataclass(frozen=True)
class TrainSettings(Part):
    """config.train."""

    batch_size: Annotated[int, BATCH]
    validation_batch_size: Annotated[int, BATCH]
    float32_epochs: Annotated[int, at_least(0), ADDED]
    log_every_steps: Annotated[int, at_least(1), FREE]
    save_every_steps: Annotated[int, at_least(1), FREE]
    steps_per_dispatch: Annotated[int, at_least(0), FREE]
    deterministic: Annotated[bool, FREE]
    ema: Annotated[float, SHARE_BELOW_ONE, ADDED] = 0.0
    norm_group: Annotated[int, at_least(0), ADDED] = 0
    gradient_sum_dtype: Annotated[str, one_of(GRADIENT_SUMS), ADDED] = GRADIENT_SUMS[0]


@dataclass(frozen=True)
class StageSettings(Part):
    """The settings that both stages have."""

    inputs: Annotated[tuple[str, ...], SOME_MODALITIES]
    epochs: Annotated[int, within(1, 1_000_000)]
    steps_per_epoch: Annotated[int, at_least(0)]
    slices: Annotated[str, SLICES]
    tumour_probability: Annotated[float, PROBABILITY]
    augmentation: dict[str, Any]  # fields of data.augment.Augmentation


@dataclass(frozen=True)
class PretrainSettings(StageSettings):
    """config.pretrain."""

    run: Annotated[str, PATH]
    target: Annotated[str, TARGETS]  # one modality, or several with commas
    unlabelled_fraction: Annotated[float, PROBABILITY, ADDED]
    task: Annotated[str, one_of(PRETEXTS), ADDED] = "cross_modality"
    decoder: Annotated[str, one_of(DECODERS), ADDED] = "transposed"
    loss: Annotated[str, one_of(RECONSTRUCTION_LOSSES), ADDED] = "mse"
    mask_ratio: Annotated[tuple[float, ...], MASK_RATIO, ADDED] = (0.6, 0.75)
    mask_block: Annotated[int, within(1, 1024), ADDED] = 16
    mask_together: Annotated[bool, ADDED] = True
    noise: Annotated[float, within(0, 100), ADDED] = 0.5
    learning_rate: Annotated[float, STAGE_RATE, ADDED] = 0.0
    context: Annotated[int, CONTEXT, ADDED] = 0

    @property
    def targets(self) -> tuple[str, ...]:
        """The modalities of `target`."""
        return tuple(self.target.split(","))


@dataclass(frozen=True)
class SegmentSettings(StageSettings):
    """config.segment."""

    learning_rate: Annotated[float, STAGE_RATE, ADDED] = 0.0
    outputs: Annotated[str, one_of(OUTPUTS), ADDED] = DEFAULT_OUTPUTS
    label_smoothing: Annotated[float, SHARE_BELOW_ONE, ADDED] = 0.0
    dice_present: Annotated[bool, ADDED] = False
    sampling: Annotated[str, one_of(SAMPLINGS), ADDED] = SAMPLINGS[0]
    selection_metric: Annotated[str, one_of(SELECTION_METRICS), ADDED] = SELECTION_METRICS[0]
    deep_supervision: Annotated[bool, ADDED] = False
    context: Annotated[int, CONTEXT, ADDED] = 0
    modality_dropout: Annotated[float, PROBABILITY, ADDED] = 0.0


@dataclass(frozen=True)
class TransferSettings(Part):
    """config.transfer."""

    parts: Annotated[str, one_of(TRANSFER_PARTS), ADDED] = TRANSFER_PARTS[0]
    freeze_epochs: Annotated[int, within(0, 1_000_000), ADDED] = 0
    learning_rate_factor: Annotated[float, POSITIVE, ADDED] = 1.0
    other_stem: Annotated[str, one_of(OTHER_STEMS), ADDED] = OTHER_STEMS[0]

    @property
    def slows_down(self) -> bool:
        """Whether what was transferred is trained otherwise than the rest."""
        return self.freeze_epochs > 0 or self.learning_rate_factor != 1


@dataclass(frozen=True)
class EvaluationSettings(Part):
    """config.evaluation."""

    slices: Annotated[str, SLICES]
    tolerance_mm: Annotated[float, POSITIVE]
    batch_size: Annotated[int, BATCH, FREE]
    panels: Annotated[int, within(0, 1000), FREE]
    tta: Annotated[bool, ADDED] = False
    planes: Annotated[str, SOME_PLANES, ADDED] = ""  # with commas
    subsets: Annotated[bool, FREE] = False  # it adds files, and changes none


@dataclass(frozen=True)
class Settings(Part):
    """All settings; configs/base.py has their meaning and defaults.

    Attributes:
      document: the same as JSON, as config.json has them, with those not known here.
    """

    seed: Annotated[int, SEED]
    folds: Annotated[tuple[int, ...], FREE]
    ssl: bool
    loss: Annotated[str, one_of(SEGMENTATION_LOSSES)]
    focal_gamma: Annotated[float, within(0, 100)]
    focal_alpha: Annotated[tuple[float, ...], ALPHA]
    encoder_init: str
    dtype: Annotated[str, one_of(DTYPES)]
    compilation_cache: Annotated[str, FREE]
    model: ModelSettings
    data: DataSettings
    optim: OptimSettings
    train: TrainSettings
    pretrain: PretrainSettings
    segment: SegmentSettings
    evaluation: EvaluationSettings
    transfer: TransferSettings = TransferSettings()
    trackers: Annotated[str, TRACKER_NAMES, FREE, ADDED] = AUTO
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses settings.

        Raises:
          BratsError: a setting is missing or of another type.
        """
        document = with_canonical_modalities(document)
        if is_all(document.get("folds")):
            document["folds"] = ALL_NAME
        try:
            settings = super().from_json(with_fold_numbers(document))
        except ValueError as error:
            raise BratsError(f"config: {error}") from None
        return dataclasses.replace(settings, document=document)

    def check(self) -> None:
        """Refuses values that a setting by itself cannot have.

        Raises:
          BratsError: names the setting, its value and the valid ones.
        """
        rules = [(n, m) for n, marks in marks_of(Settings) for m in marks if isinstance(m, Rule)]
        for name, rule in rules:
            value = self.value(name)
            if not rule.is_valid(value):
                shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
                raise BratsError(f"config.{name}={shown}: {rule.hint}")

    def value(self, name: str) -> Any:
        """The value of a setting by its dotted name, such as 'data.store'."""
        value: Any = self
        for part in name.split("."):
            value = getattr(value, part)
        return value

    @property
    def trains_on_all(self) -> bool:
        """Whether all patients train (config.folds=all): no validation set, no test set."""
        return self.folds == (ALL,)

    @property
    def uses_few_labels(self) -> bool:
        """Whether the segmentation is asked to use the labels of some patients only."""
        return self.data.label_fraction < 1 or self.data.label_patients > 0

    def with_value(self, group: str, name: str, value: Any) -> Self:
        """The same settings with another value, also in the document."""
        document = dict(self.document)
        document[group] = {**document[group], name: value}
        return type(self).from_json(document)

    def stage(self, name: str) -> PretrainSettings | SegmentSettings:
        """The settings of the stage 'pretrain' or 'segment'."""
        return self.pretrain if name == "pretrain" else self.segment


def tracker_names(setting: str) -> tuple[str, ...]:
    """The trackers that config.trackers names; none for 'auto' and 'none'."""
    return () if setting in (AUTO, NONE) else tuple(dict.fromkeys(setting.split(",")))


def with_canonical_modalities(document: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them, every modality in its canonical spelling ('t1ce' -> 't1gd').

    A spelling thus never makes two runs differ.
    """
    found = dict(document)
    for stage in ("pretrain", "segment"):
        group = found.get(stage)
        if isinstance(group, Mapping):
            found[stage] = {
                name: _canonical(value) if name in ("inputs", "target") else value
                for name, value in group.items()
            }
    return found


def _canonical(value: Any) -> Any:
    if isinstance(value, str):
        return ",".join(canonical_names(value.split(",")))
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        # --config.segment.inputs=t1ce,flair arrives as one text in a tuple.
        return canonical_names([name for text in value for name in text.split(",")])
    return canonical_names(value)


def marks_of(kind: type, prefix: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(dotted name, rules and marks) of every setting of a class and the classes within."""
    for name, annotation in typing.get_type_hints(kind, include_extras=True).items():
        if isinstance(annotation, type) and issubclass(annotation, Part):
            yield from marks_of(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", getattr(annotation, "__metadata__", ())
