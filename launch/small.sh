#!/usr/bin/env bash
# Makes the ready model 'small' of the package: trains a segmentation and a synthesis of FLAIR on all
# cases of a store, cross-validates the same settings, and writes both with a card into
# brats_jax/weights/small, where the name 'small' finds them.
#
#   bash launch/small.sh STORE
#
#   STORE    labelled cases, prepared with --normalisation=volume
#
# The model of the package has OTHER_PLANES=CORONAL,SAGITTAL. With PROCESSES=2 it takes about two hours
# on two idle CPU cores for 20 cases. The same command continues a stopped one. Variables:
#
#   CONFIG=configs/small.py  settings
#   FOLDS=5                  of the cross-validation: every patient is tested once
#   PROCESSES=1              trainings at a time, each on its share of the CPU cores: a narrow network
#                            hardly gains from a second core
#   SSL=false                true: the segmentations begin with the encoder of the synthesis
#   OTHER_PLANES=            stores of the same cases in other planes, with commas: the segmentation is
#                            trained on the slices of all
#   FLAGS="--config...."     settings of all trainings that differ from CONFIG
#   SYNTHESIS_FLAGS="..."    the same of the synthesis
#   SEGMENT_FLAGS="..."      the same of the segmentation, in place of neighbouring slices, AdamW, warm-up,
#                            clipping and bias fields
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
config=${CONFIG:-configs/small.py}
output=${OUTPUT:-brats_jax/weights/small}
IFS=, read -ra given <<<"${OTHER_PLANES:-}"
recipe="--config.segment.context=1 --config.segment.augmentation.bias_field=true"
recipe+=" --config.optim.optimizer=adamw --config.optim.warmup_epochs=0.1 --config.optim.clip_norm=1.0"
segment_flags=${SEGMENT_FLAGS-$recipe}
planes=
for other in "${given[@]}"; do planes+=${planes:+,}$(realpath -m "$other"); done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SETUP_NEXT= bash launch/setup.sh "${EXTRA:-}"
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
    ${planes:+"--config.data.other_planes=$planes"} $segment_flags
}

# job WHICH: the trainings of a fold, of several, or of the final model on all patients.
folds=${FOLDS:-5}
crossed=(--config.data.test_fraction=0 "--config.data.num_folds=$folds")
job() {
  if [ "$1" = all ]; then
    train all --config.folds=all
  else
    train folds "${crossed[@]}" --config.folds="$1"
  fi
}

processes=${PROCESSES:-1}
mapfile -t jobs < <(seq 0 $((folds - 1)) && echo all)
if [ "$processes" -gt 1 ]; then
  mapfile -t cores < <("$python" -c 'import os; print(*sorted(os.sched_getaffinity(0)), sep="\n")')
  processes=$((processes < ${#cores[@]} ? processes : ${#cores[@]}))
  pids=()
  trap 'for pid in "${pids[@]}"; do kill -- "-$pid" 2>/dev/null || true; done' EXIT
  set -m # a group of processes for each, which the trap stops
  for ((p = 0; p < processes; p++)); do
    share=$(for ((c = p; c < ${#cores[@]}; c += processes)); do echo "${cores[c]}"; done)
    (
      taskset -cp "${share//$'\n'/,}" "$BASHPID" >/dev/null
      for ((j = p; j < ${#jobs[@]}; j += processes)); do job "${jobs[j]}"; done
    ) &
    pids+=($!)
  done
  set +m
  for pid in "${pids[@]}"; do wait "$pid"; done
  trap - EXIT
fi
# All that is still to be trained, and the summary of all folds.
job "$(seq -s, 0 $((folds - 1)))"
job all
calibrate=("$python" -m brats_jax.calibrate "--checkpoint=$folder/segmentation_folds" --cleaning)
"${calibrate[@]}"
[ -z "$planes" ] || "${calibrate[@]}" --planes=all

# With the variables that differ from the defaults, but without the folders of the machine.
command="bash launch/small.sh STORE"
for name in LICENSE MOST_MB TEXT SEGMENT_FLAGS SYNTHESIS_FLAGS FLAGS SSL FOLDS CONFIG; do
  [ -z "${!name:-}" ] || command="$name='${!name}' $command"
done
[ -z "$planes" ] || command="OTHER_PLANES=CORONAL,SAGITTAL $command"
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
