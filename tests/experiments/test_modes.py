"""The modes of the command."""

import pytest

from brats_jax.errors import BratsError
from brats_jax.experiments.modes import MODES, check_mode


def test_a_mode_is_accepted_or_refused_with_the_valid_ones():
    for mode in MODES:
        check_mode(mode)
    with pytest.raises(BratsError, match=r"^unknown --mode=; valid: train, pretrain, evaluate$"):
        check_mode("")
