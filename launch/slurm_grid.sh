#!/usr/bin/env bash
# The whole experiment, divided among the tasks of a SLURM array, each on all GPUs of its node:
#
#   sbatch --array=0-4 launch/slurm_grid.sh GRID STORE [--seeds=0,1 --config.NAME=VALUE ...]
#
# The environment variable CONFIG names the settings (default: configs/ssl.py). This prints the
# state of the grid, on any machine:
#   python -m brats_jax.grid --workdir=GRID --status
# Two minutes before the time limit a task saves, requeues itself and later continues. The array
# may be submitted again with more or fewer tasks, also while another one runs.
#SBATCH --job-name=brats_jax_grid
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
grid=${1:?usage: slurm_grid.sh GRID STORE [FLAGS]}
store=${2:?usage: slurm_grid.sh GRID STORE [FLAGS]}
shift 2
# The first index of an array need not be 0.
shard=$((${SLURM_ARRAY_TASK_ID:?give --array=0-4} - ${SLURM_ARRAY_TASK_MIN:-0}))
run_task shell .venv/bin/python -m brats_jax.grid --config="${CONFIG:-configs/ssl.py}" \
  --workdir="$grid" --config.data.store="$store" \
  --shard="$shard/${SLURM_ARRAY_TASK_COUNT:?give --array=0-4}" "$@"
