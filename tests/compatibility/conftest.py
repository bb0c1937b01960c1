"""What the tests of this folder start from: a copy of what commit a5fd08e has left."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import compatibility_examples as examples
import pytest


@pytest.fixture(scope="module")
def left(tmp_path_factory) -> Path:
    """A folder with everything that commit a5fd08e has left; commands run in it."""
    folder = tmp_path_factory.mktemp("left")
    examples.unpack(folder)
    return folder


@pytest.fixture(scope="module")
def run(left, shared_folder) -> Callable[..., str]:
    """run(command, *flags) runs a command of the program in `left` and returns its output."""
    return partial(examples.run_command, left, shared_folder)
