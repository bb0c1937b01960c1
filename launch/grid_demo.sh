#!/usr/bin/env bash
# The paper's six experiments in small, on two CPU cores: three losses, each with and without
# pretraining, two folds, on a phantom data set, ending in a report.
#
#   bash launch/grid_demo.sh [FOLDER]      FOLDER: where everything goes, by default grid_demo/
#
# EXTRA=cuda12 (or cuda13, tpu) installs for an accelerator. Stopped, the same command goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-grid_demo}
bash launch/setup.sh "${EXTRA:-}"
python=.venv/bin/python

"$python" -m brats_jax.prepare --source=phantom --patients=24 --seed=0 --shape=32,96,96 \
  --normalisation=volume --store="$folder/store"
"$python" -m brats_jax.grid --config=configs/grid_demo.py --workdir="$folder/grid" \
  --config.data.store="$folder/store"
"$python" -m brats_jax.report --workdir="$folder/grid"
