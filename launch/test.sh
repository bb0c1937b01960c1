#!/usr/bin/env bash
# Sets up .venv with the test tools and runs the test suite.
#
#   bash launch/test.sh [PYTEST ARGUMENTS]
#
# With BRATS_REAL_DATA=DIR, a folder of real BraTS 2021 cases, the tests on real data run too. The
# browser tests use the Chromium or Chrome on the PATH, or the one that BRATS_CHROMIUM names. The
# tests need no accelerator; JAX_PLATFORMS=cuda runs them on one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SETUP_NEXT= bash launch/setup.sh test
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
exec .venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
