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
# Ten folds of some twenty patients, of which one is run: more of them train.
train=("$python" -m brats_jax.main --config=configs/demo.py --config.data.store="$folder/store"
  --config.data.num_folds=10)
"${train[@]}" --workdir="$folder/ssl"
"${train[@]}" --workdir="$folder/baseline" --config.ssl=false
"$python" -m brats_jax.report --workdir="$folder"

echo
echo "Tables:   $folder/ssl/summary.csv  $folder/baseline/summary.csv"
echo "Pictures: $folder/ssl/fold_0/panels/  $folder/baseline/fold_0/panels/"
