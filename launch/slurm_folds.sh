#!/usr/bin/env bash
# One fold for each task of a SLURM array, each on all GPUs of its node:
#
#   sbatch --array=0-4 launch/slurm_folds.sh configs/ssl.py RUN STORE [--config.NAME=VALUE ...]
#
# All tasks share RUN; each task updates the table over the folds when it ends.
#SBATCH --job-name=brats_jax
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
set -euo pipefail
# SLURM runs a copy of this file; the repository is the folder in which sbatch was called.
cd "${SLURM_SUBMIT_DIR:-.}"
config=${1:?usage: slurm_folds.sh CONFIG RUN STORE [FLAGS]}
run=${2:?usage: slurm_folds.sh CONFIG RUN STORE [FLAGS]}
store=${3:?usage: slurm_folds.sh CONFIG RUN STORE [FLAGS]}
shift 3
exec .venv/bin/python -m brats_jax.main --config="$config" --workdir="$run" \
  --config.data.store="$store" --config.folds="${SLURM_ARRAY_TASK_ID:?give --array=0-4}" "$@"
