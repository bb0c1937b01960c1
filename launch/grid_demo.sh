#!/usr/bin/env bash
# A small version of the paper's six experiments on phantom data, on two CPU cores: three losses,
# each with and without pretraining, on two folds; writes a report.
#
#   bash launch/grid_demo.sh [FOLDER]      FOLDER: output folder, by default grid_demo/
#
# EXTRA=cuda12 (or cuda13, tpu) installs for an accelerator. The same command continues a stopped
# one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-grid_demo}
SETUP_NEXT= bash launch/setup.sh "${EXTRA:-}"
python=.venv/bin/python

"$python" -m brats_jax.prepare --source=phantom --patients=24 --seed=0 --shape=32,96,96 \
  --normalisation=volume --store="$folder/store"
"$python" -m brats_jax.grid --config=configs/grid_demo.py --workdir="$folder/grid" \
  --config.data.store="$folder/store"
"$python" -m brats_jax.report --workdir="$folder/grid"
