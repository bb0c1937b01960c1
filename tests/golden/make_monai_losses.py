"""Stores what MONAI and torch say about a few logits: monai_losses.npz.

Run in an environment of its own, which the test suite does not need:

    python -m venv golden && golden/bin/pip install torch==2.13.0 monai==1.6.1 numpy
    golden/bin/python tests/golden/make_monai_losses.py

Each name holds a value and, under `name/grad`, its gradient by the logits (NHWC). MONAI's focal
loss averages over classes as well as pixels; it is stored as MONAI gives it.
"""

from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss

ALPHA = (0.25, 1.0, 0.5, 2.0)


def main() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, (3, 6, 5))
    labels[1][labels[1] == 3] = 0  # an example without class 3
    labels[2] = 0  # and one of background alone
    logits = (rng.standard_normal((3, 6, 5, 4)) * 3).astype(np.float32)
    truth = torch.from_numpy(labels[:, None])
    common = {"to_onehot_y": True, "softmax": True}
    dice = {**common, "include_background": False, "batch": True}
    losses = {
        "cross_entropy": lambda x: torch.nn.functional.cross_entropy(x, truth[:, 0]),
        "dice_ce": lambda x: DiceCELoss(**dice, lambda_dice=0.5, lambda_ce=0.5)(x, truth),
        # 4 undoes MONAI's mean over the classes. Not MONAI's DiceFocalLoss: its focal part takes
        # a sigmoid of each class even with softmax=True, and leaves the background out.
        "dice_focal": lambda x: (
            DiceLoss(**dice)(x, truth)
            + 4 * FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0)(x, truth)
        ),
        "focal_alpha": lambda x: FocalLoss(
            to_onehot_y=True, use_softmax=True, gamma=2.0, weight=ALPHA
        )(x, truth),
    }
    for gamma in (0.0, 0.5, 2.0, 3.0):
        losses[f"focal_{gamma:g}"] = lambda x, gamma=gamma: FocalLoss(
            to_onehot_y=True, use_softmax=True, gamma=gamma
        )(x, truth)
    for background in (False, True):
        for pooled in (False, True):
            losses[f"dice_{background:d}{pooled:d}"] = lambda x, b=background, p=pooled: DiceLoss(
                **common, include_background=b, batch=p
            )(x, truth)
    out = {"logits": logits, "labels": labels, "alpha": np.array(ALPHA)}
    for name, loss in losses.items():
        x = torch.from_numpy(logits.transpose(0, 3, 1, 2).copy()).requires_grad_()
        value = loss(x)
        value.backward()
        out[name] = value.detach().numpy()
        out[f"{name}/grad"] = x.grad.numpy().transpose(0, 2, 3, 1)
    np.savez_compressed(Path(__file__).with_name("monai_losses.npz"), **out)


if __name__ == "__main__":
    main()
