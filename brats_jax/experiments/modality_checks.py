"""Settings of missing modalities and of fusions that do not go together."""

from brats_jax.errors import BratsError
from brats_jax.models.fusion import WEIGHTS
from brats_jax.runs.settings import Settings
from brats_jax.tasks.base import DEFAULT_FUSION


def check_modality_dropout(settings: Settings) -> None:
    """Refuses dropout where nothing can be left out (BratsError)."""
    segment = settings.segment
    if segment.modality_dropout and len(segment.inputs) == 1:
        raise BratsError(
            f"config.segment.modality_dropout={segment.modality_dropout} with the only input "
            f"{segment.inputs[0]}, which cannot be left out; give several config.segment.inputs, "
            "or modality_dropout=0"
        )


def check_fusion(settings: Settings) -> None:
    """Refuses settings that the fusion has no use for (BratsError)."""
    model = settings.model
    if model.fusion_weights != WEIGHTS[0] and model.fusion not in ("encoders", "attention"):
        raise BratsError(
            f"config.model.fusion_weights={model.fusion_weights} has no effect with "
            f"config.model.fusion={model.fusion}, which has one encoder; leave it out"
        )
    if model.fusion != DEFAULT_FUSION and settings.encoder_init != "random":
        raise BratsError(
            f"config.encoder_init={settings.encoder_init} with config.model.fusion="
            f"{model.fusion}: a weight file is for the encoder of fusion={DEFAULT_FUSION}; "
            "leave out one of them"
        )
