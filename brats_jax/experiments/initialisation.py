"""The parameters that a stage starts from: random, of a weight file, or of a pretraining."""

from dataclasses import dataclass
from pathlib import Path

from jax.sharding import Mesh

from brats_jax import models
from brats_jax.experiments import config as experiment_config
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.models import Weights
from brats_jax.runs.folder import StageFolder
from brats_jax.runs.settings import Settings
from brats_jax.runtime.console import print_line
from brats_jax.tasks import Task
from brats_jax.training import transfer
from brats_jax.training.encoder_weights import load_encoder
from brats_jax.training.trainer import Initialiser

PART_WORDS = {
    "encoder": "encoder",
    "encoder_decoder": "encoder and decoder",
    "stem": "stem",
    "all_but_stem": "encoder without its stem",
    "batch_norm_statistics": "BatchNorm statistics of the encoder",
}


@dataclass(frozen=True)
class Initialisation:
    """The start of one stage of a fold.

    Attributes:
      settings: of the experiment.
      task: of the stage.
      pretrained: the folder of the fold's first stage.
      mesh: the devices.
      title: of the fold, for the terminal.
    """

    settings: Settings
    task: Task
    pretrained: StageFolder
    mesh: Mesh
    title: str

    def initialiser(self) -> Initialiser | None:
        """What edits the random parameters of the stage; None where they stay as they are."""
        if self._from_pretraining:
            return self._transfer
        if self._from_file:
            return lambda params, stats: _loaded(self.settings, self.task, params, stats)
        return None

    def transferred(self) -> Weights | None:
        """Marks the parameters that are frozen or slowed down; None: all are trained alike.

        These are the parameters of the pretraining, or without one those of the weight file.
        """
        chosen = self.settings.transfer
        if self.task.name != "segment" or not chosen.slows_down:
            return None
        ours = self.task.stem_channels
        shapes = models.shapes(lambda: self.task.build_to_train(0))
        if self._from_pretraining:
            theirs = experiment_config.pretraining(self.settings).stem_channels
            return transfer.transfer_mask(shapes, theirs, ours, chosen.parts)
        return transfer.transfer_mask(shapes, ours, ours) if self._from_file else None

    @property
    def _from_pretraining(self) -> bool:
        return self.task.name == "segment" and self.settings.ssl

    @property
    def _from_file(self) -> bool:
        return self.settings.encoder_init != "random"

    def _transfer(self, params: Weights, stats: Weights) -> tuple[Weights, Weights]:
        """Copies what is transferred of the first stage into the parameters of the second."""
        task = experiment_config.pretraining(self.settings)
        source = RestoredNetwork(task, self.pretrained, self.mesh.local_mesh)
        chosen = self.settings.transfer
        print_line(
            f"{self.title} segment: {PART_WORDS[chosen.parts]} from {self.pretrained.path}, step "
            f"{source.meta.step} ({task.metric} {source.meta.value:.4f})"
        )
        if chosen.other_stem == "encoder_init":
            loaded, _ = _loaded(self.settings, self.task, params, stats)
            params = transfer.with_stem_of(loaded, params)
        how = (task.stem_channels, self.task.stem_channels, chosen.parts)
        return (
            transfer.transfer_parts(source.params, params, *how),
            transfer.transfer_parts(source.stats, stats, *how),
        )


def check_weight_file(settings: Settings) -> None:
    """Refuses a weight file that does not fit the stages that would start from it (BratsError)."""
    if settings.encoder_init == "random":
        return
    segments = not settings.ssl or settings.transfer.other_stem == "encoder_init"
    for name in experiment_config.stages_of(settings, "train" if segments else "pretrain"):
        task = experiment_config.task(settings, name)
        _, params, stats = models.split(task.build(0))
        _loaded(settings, task, params, stats)


def _loaded(
    settings: Settings, task: Task, params: Weights, stats: Weights
) -> tuple[Weights, Weights]:
    return load_encoder(Path(settings.encoder_init), params, stats, task.stem_channels)
