"""A study of six hand-made runs, which tests of tables, figures and sentences share."""

from pathlib import Path

import pytest
from report_examples import write_run

from brats_jax.reporting.arms import Results, collect
from brats_jax.reporting.read_runs import Study, discover


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory) -> Path:
    """Three losses with and without pretraining, two folds, four patients of six slices."""
    folder = tmp_path_factory.mktemp("study")
    for loss in ("dice_ce", "dice_focal", "focal"):
        for ssl in (True, False):
            name = f"{loss}-{'ssl' if ssl else 'base'}"
            write_run(folder / name, loss=loss, ssl=ssl, folds=(0, 1), error=0.2 if ssl else 0.3)
    return folder


@pytest.fixture(scope="session")
def study(study_folder) -> Study:
    return discover(study_folder)


@pytest.fixture(scope="session")
def results(study) -> Results:
    return collect(study)
