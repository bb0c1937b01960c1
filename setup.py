"""Puts configs/ into the wheel, inside the package; everything else stands in pyproject.toml.

From a clone `--config=configs/ssl.py` is the file that it names. An installed package has no clone
beside it, and takes the same name from brats_jax/share/configs/.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["brats_jax*"]), "brats_jax.share.configs"],
    package_dir={"brats_jax.share.configs": "configs"},
)
