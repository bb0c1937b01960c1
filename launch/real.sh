#!/usr/bin/env bash
# Compares pretexts with their controls on real cases, with the labels of 1, 3, 10 and all training
# patients: trains a grid, and writes a report.
#
#   bash launch/real.sh STORE [UNLABELLED...]
#
#   STORE         some twenty labelled cases or more, prepared with --normalisation=volume
#   UNLABELLED    folders of further scans, which are added to STORE; the pretexts learn from them
#
# Every arm is trained twice, each time with another seed, fold and choice of labelled patients:
# about eight hours on two idle CPU cores. The same command continues a stopped one. Variables:
#
#   FOLDER=real           output folder
#   TRAININGS="0 1"       numbers of the trainings: each is the seed and the fold
#   LABELS="3 1,10,all"   label budgets in patients, in the order in which they are trained
#   TRAINING_ONLY=A,B*    labelled persons who may be among UNLABELLED under another name: they
#                         are never tested on
#   FLAGS="--config...."  settings that differ from configs/real.py
#
# If STORE holds the LGG slices of Kaggle, TRAINING_ONLY defaults to the labelled TCIA09_*, TCIA10_*,
# TCIA12_* and TCIA13_* of BraTS 2018.
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
store=$(realpath -m "$1")
shift
unlabelled=()
for source in "$@"; do unlabelled+=("--source=$(realpath -m "$source")"); done
folder=$(realpath -m "${FOLDER:-real}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SETUP_NEXT= bash launch/setup.sh "${EXTRA:-}"
python=.venv/bin/python

if [ ${#unlabelled[@]} -gt 0 ]; then
  "$python" -m brats_jax.prepare --add "${unlabelled[@]}" --store="$store"
fi
# Whether there are persons without labels, and the labelled ones who may be among them: patients of
# TCGA-LGG are in BraTS 2018 under names that do not tell who.
facts=$("$python" - "$store" <<'PYTHON'
import fnmatch, sys
from brats_jax.data.store.reader import Store

store = Store.open(sys.argv[1])
labelled = [name for name, known in zip(store.subjects, store.labelled) if known]
found = []
if any(name.startswith("TCGA_") for name in store.subjects):
    patterns = [f"*TCIA{number}_*" for number in ("09", "10", "12", "13")]
    found = [p for p in patterns if fnmatch.filter(labelled, p)]
print("no" if store.labelled.all() else "yes", ",".join(found))
PYTHON
)
has_unlabelled=${facts%% *}
TRAINING_ONLY=${TRAINING_ONLY-${facts#* }}

common=(--config=configs/real.py --workdir="$folder/grid" --config.data.store="$store"
  --losses=dice_ce)
[ -z "$TRAINING_ONLY" ] || common+=("--config.data.training_only=$TRAINING_ONLY")
# shellcheck disable=SC2206  # several flags in one variable
common+=(${FLAGS:-})
pretexts=cross_modality+unet,cross_modality,any_to_any+unet,masked+unet
controls=autoencode+unet,shuffled+unet

# A failed training is named and repeated by the next call; the others go on.
status=0
grid() { "$python" -m brats_jax.grid "${common[@]}" "$@" || status=$?; }
for labels in ${LABELS:-3 1,10,all}; do
  for number in ${TRAININGS:-0 1}; do
    which=(--seeds="$number" --config.folds="$number" --label_patients="$labels")
    grid "${which[@]}" --ssl=false,true --pretexts="$pretexts,$controls"
    if [ "$has_unlabelled" = yes ]; then
      grid "${which[@]}" --ssl=true --pretexts=cross_modality+unet --unlabelled_fractions=0
    fi
  done
done
"$python" -m brats_jax.report --workdir="$folder/grid"
exit "$status"
