#!/usr/bin/env bash
# Trains and evaluates a model with and without pretraining on phantom data, on two CPU cores:
# sets up .venv, prepares the data, trains, and writes tables, pictures and a report.
#
#   bash launch/demo.sh [FOLDER]      FOLDER: output folder, by default demo/
#
# EXTRA=cuda12 (or cuda13, tpu) installs for an accelerator. The same command continues a stopped
# one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-demo}
SETUP_NEXT= bash launch/setup.sh "${EXTRA:-}"
python=.venv/bin/python

# Normalised by volume: tissues then have the same intensities in every slice, which needs less
# training than the paper's normalisation by slice (the default).
"$python" -m brats_jax.prepare --source=phantom --patients=24 --seed=0 --normalisation=volume \
  --store="$folder/store"
# Ten folds of some twenty patients, of which one is run: more patients train than with five.
train=("$python" -m brats_jax.main --config=configs/demo.py --config.data.store="$folder/store"
  --config.data.num_folds=10)
"${train[@]}" --workdir="$folder/ssl"
# The paper's decoder, which has no skip connections, beside the one of configs/demo.py.
"${train[@]}" --workdir="$folder/papers_decoder" --mode=pretrain \
  --config.pretrain.decoder=transposed
"${train[@]}" --workdir="$folder/baseline" --config.ssl=false
"$python" -m brats_jax.report --workdir="$folder"

echo
echo "Report:   $folder/report.html"
echo "Tables:   $folder/ssl/summary.csv  $folder/baseline/summary.csv"
echo "Pictures: $folder/ssl/fold_0/panels/  $folder/baseline/fold_0/panels/"
