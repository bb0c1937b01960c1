#!/usr/bin/env bash
# Sets up .venv with the test tools and runs the test suite.
#
#   bash launch/test.sh [PYTEST ARGUMENTS]
#
# BRATS_REAL_DATA=DIR also runs the tests on real BraTS 2021 cases that lie there.
# A Chromium or Chrome on the PATH, or the one that BRATS_CHROMIUM names, opens pages of cases.
# The tests need no accelerator; JAX_PLATFORMS=cuda runs them on one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/setup.sh test
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
exec .venv/bin/python -m pytest -n auto --dist loadfile "$@"
