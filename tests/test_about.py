"""The version and the research notice, wherever a user meets them."""

import re
import tomllib

from processes import ROOT

import brats_jax
from brats_jax import about


def test_the_version_has_three_numbers_and_is_the_packages():
    assert re.fullmatch(r"\d+\.\d+\.\d+", about.__version__)
    assert brats_jax.__version__ == about.__version__


def test_the_wheel_takes_its_version_from_here():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["version"]
    where = settings["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert where == "brats_jax.about.__version__"


def test_the_notice_excludes_clinical_use():
    assert brats_jax.RESEARCH_USE_ONLY == about.RESEARCH_USE_ONLY
    assert "research use only" in about.RESEARCH_USE_ONLY
    assert "not for diagnosis" in about.RESEARCH_USE_ONLY
