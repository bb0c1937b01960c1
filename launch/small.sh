#!/usr/bin/env bash
# Makes the ready model 'small' of the package: trains a segmentation and a synthesis of FLAIR on all
# cases of a store, cross-validates the same settings, and writes both with a card into
# brats_jax/weights/small, where the name 'small' finds them.
#
#   bash launch/small.sh STORE
#
#   STORE    labelled cases, prepared with --normalisation=volume
#
# With configs/real.py about two hours on two idle CPU cores. The same command continues a stopped
# one. Variables:
#
#   CONFIG=configs/real.py   settings
#   FOLDS=5                  of the cross-validation: every patient is tested once
#   SSL=false                true: the segmentations begin with the encoder of the synthesis
#   FLAGS="--config...."     settings of all trainings that differ from CONFIG
#   SEGMENT_FLAGS, SYNTHESIS_FLAGS    the same of one of the two
#   FOLDER=small             folder of the trainings
#   OUTPUT=brats_jax/weights/small
#   TEXT=launch/small.md     Markdown for the card: terms of the data, known failures
#   LICENSE=                 identifier of the weights' licence for the card
#   MOST_MB=12               size of the model that is refused if exceeded
set -euo pipefail
if [ $# -ne 1 ]; then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
store=$(realpath -m "$1")
folder=$(realpath -m "${FOLDER:-small}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
config=${CONFIG:-configs/real.py}
output=${OUTPUT:-brats_jax/weights/small}
bash launch/setup.sh "${EXTRA:-}"
python=.venv/bin/python

# train NAME WHICH...: the synthesis, then the segmentation, into FOLDER/{synthesis,segmentation}_NAME
train() {
  local name=$1 begin=(--config.ssl=false)
  shift
  # shellcheck disable=SC2206  # several flags in one variable
  local common=("--config=$config" "--config.data.store=$store" "$@" ${FLAGS:-})
  # shellcheck disable=SC2086
  "$python" -m brats_jax.main "${common[@]}" --workdir="$folder/synthesis_$name" --mode=pretrain \
    --config.ssl=true --config.pretrain.task=cross_modality --config.pretrain.decoder=unet \
    ${SYNTHESIS_FLAGS:-}
  if [ "${SSL:-false}" = true ]; then
    begin=(--config.ssl=true "--config.pretrain.run=$folder/synthesis_$name"
      --config.pretrain.task=cross_modality --config.pretrain.decoder=unet)
    # shellcheck disable=SC2206
    begin+=(${SYNTHESIS_FLAGS:-})
  fi
  # shellcheck disable=SC2086
  "$python" -m brats_jax.main "${common[@]}" --workdir="$folder/segmentation_$name" "${begin[@]}" \
    ${SEGMENT_FLAGS:-}
}

train folds --config.data.test_fraction=0 --config.data.num_folds="${FOLDS:-5}" \
  --config.folds="$(seq -s, 0 $((${FOLDS:-5} - 1)))"
train all --config.folds=all
"$python" -m brats_jax.calibrate --checkpoint="$folder/segmentation_folds" --cleaning

# With the variables that differ from the defaults, but without the folders of the machine.
command="bash launch/small.sh STORE"
for name in LICENSE MOST_MB TEXT SEGMENT_FLAGS SYNTHESIS_FLAGS FLAGS SSL FOLDS CONFIG; do
  [ -z "${!name:-}" ] || command="$name='${!name}' $command"
done
made=$folder/exported
export_one() {
  "$python" -m brats_jax.export --output="$made" --format=hub --name=small --command="$command" \
    --card_text="${TEXT:-launch/small.md}" --license="${LICENSE:-}" "$@"
}
export_one --checkpoint="$folder/segmentation_all" --scores="$folder/segmentation_folds"
export_one --checkpoint="$folder/synthesis_all" --scores="$folder/synthesis_folds" \
  --task=reconstruct

bytes=$(cat "$made"/* | wc -c)
if [ "$bytes" -gt $((${MOST_MB:-12} * 1000000)) ]; then
  echo "error: $made has $((bytes / 1000000)) MB, more than ${MOST_MB:-12}: choose a narrower" \
    "network (--config.model.width)" >&2
  exit 1
fi
mkdir -p "$output"
for name in model.safetensors README.md config.json; do cp "$made/$name" "$output/$name"; done
"$python" -m brats_jax.export --output="$output" --verify
