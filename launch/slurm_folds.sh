#!/usr/bin/env bash
# One fold for each task of a SLURM array, each on all GPUs of its node:
#
#   sbatch --array=0-4 launch/slurm_folds.sh configs/ssl.py RUN STORE [--config.NAME=VALUE ...]
#
# All tasks share RUN; each task updates the table over the folds when it ends. Two minutes before
# the time limit a task saves, requeues itself and later continues.
#SBATCH --job-name=brats_jax
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# SLURM runs a copy of this file; the repository is the folder in which sbatch was called.
cd "${SLURM_SUBMIT_DIR:-.}"
[ -e "$here/slurm_task.sh" ] || here=launch
source "$here/slurm_task.sh"
config=${1:?usage: slurm_folds.sh CONFIG RUN STORE [FLAGS]}
run=${2:?usage: slurm_folds.sh CONFIG RUN STORE [FLAGS]}
store=${3:?usage: slurm_folds.sh CONFIG RUN STORE [FLAGS]}
shift 3
fold=${SLURM_ARRAY_TASK_ID:?give --array=0-4}
run_task shell .venv/bin/python -m brats_jax.main --config="$config" --workdir="$run" \
  --config.data.store="$store" --config.folds="$fold" "$@"
