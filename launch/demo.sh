#!/usr/bin/env bash
# From nothing to a pretrained and fine-tuned model, a table and pictures, on two CPU cores:
# sets up .venv, makes a phantom data set, trains with and without pretraining, evaluates both.
#
#   bash launch/demo.sh [FOLDER]      FOLDER: where everything goes, by default demo/
#
# EXTRA=cuda12 (or cuda13, tpu) installs for an accelerator. Stopped, the same command goes on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-demo}
bash launch/setup.sh "${EXTRA:-}"
python=.venv/bin/python

# Normalised by volume: tissues then look alike in every slice, which takes less training than
# the paper's normalisation by slice (the default) to make use of.
"$python" -m brats_jax.prepare --source=phantom --patients=24 --seed=0 --normalisation=volume \
  --store="$folder/store"
"$python" -m brats_jax.main --config=configs/demo.py --workdir="$folder/ssl" \
  --config.data.store="$folder/store"
"$python" -m brats_jax.main --config=configs/demo.py --config.ssl=false \
  --workdir="$folder/baseline" --config.data.store="$folder/store"
"$python" -m brats_jax.report --workdir="$folder"

echo
echo "Tables:   $folder/ssl/summary.csv  $folder/baseline/summary.csv"
echo "Pictures: $folder/ssl/fold_0/panels/  $folder/baseline/fold_0/panels/"
