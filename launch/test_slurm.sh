#!/usr/bin/env bash
# Runs the launch scripts on a real SLURM of this machine, with trainings: for every night, because
# it takes ten minutes on two CPU cores. For root on Debian or Ubuntu; installs SLURM if it is missing.
#
#   bash launch/test_slurm.sh [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SETUP_NEXT= bash launch/setup.sh test
bash tests/slurm/cluster.sh install
export JAX_PLATFORMS=cpu BRATS_JAX_NIGHTLY=1
exec .venv/bin/python -m pytest tests/test_launch_on_slurm.py tests/test_training_on_slurm.py -n 0 "$@"
