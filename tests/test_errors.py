"""Errors for users."""

import os

import pytest

from brats_jax.errors import BUSY_STATUS, BratsError, Busy


def test_a_busy_folder_is_an_error_for_users():
    with pytest.raises(BratsError, match="another process"):
        raise Busy("another process prepares the store")


def test_the_status_of_a_busy_command_is_that_of_a_temporary_failure():
    assert BUSY_STATUS == os.EX_TEMPFAIL
