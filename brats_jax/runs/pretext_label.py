"""The label of a pretraining task in tables and captions."""

from collections.abc import Sequence

from brats_jax.data.modalities import DISPLAY_NAMES


def pretext_label(
    target: str, inputs: Sequence[str], task: str = "cross_modality", joined: str = ", "
) -> str:
    """'FLAIR from T1, T1Gd', for a pretext of any name.

    Args:
      target: the configured target, several with commas.
      inputs: the configured inputs.
      task: the pretext.
      joined: what stands between two modalities.
    """
    read = joined.join(DISPLAY_NAMES.get(name, name) for name in inputs)
    wanted = joined.join(DISPLAY_NAMES.get(name, name) for name in target.split(","))
    words = {
        "cross_modality": f"{wanted} from {read}",
        "masked": "hidden blocks of all modalities (masked)",
        "autoencode": f"{read} from themselves (autoencode)",
        "denoise": f"{read} without added noise (denoise)",
    }
    return words.get(task, f"{wanted} from {read} ({task})")
