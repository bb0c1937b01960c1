"""The paper as it probably ran: T2 from FLAIR and T1, under the names T1, T1Gd and FLAIR.

    python -m brats_jax.main --config=configs/paper_slicing.py

Cost: as configs/paper.py. The paper's code takes the channels [:, :2] of a Kaggle slice for T1 and
T1Gd, and [:, 3:4] for FLAIR (section 3.1). These files hold FLAIR, T1, T1Gd, T2, so that it
trained the pretext FLAIR, T1 -> T2. Here modalities are addressed by name; this file names those of
that slicing. --config.pretrain.inputs=flair,t1 --config.pretrain.target=t2 does the same with
any other settings.
"""

from ml_collections import ConfigDict

from configs import paper


def get_config() -> ConfigDict:
    """paper.py with the modalities that its slicing takes."""
    config = paper.get_config()
    config.pretrain.inputs = ("flair", "t1")
    config.pretrain.target = "t2"
    return config
