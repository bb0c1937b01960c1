#!/usr/bin/env bash
# One fold for each task of a SLURM array, each on several nodes that share every batch:
#
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --array=0-4 launch/slurm_nodes.sh \
#     configs/ssl.py RUN STORE [--config.NAME=VALUE ...]
#
# The processes of a node divide its GPUs among themselves: one for each GPU, as above, or one for
# several. STORE must be readable on all nodes; only the first process uses RUN. Two minutes before
# the time limit the processes save and end, and the task requeues itself and later continues.
#SBATCH --job-name=brats_jax_nodes
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
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
config=${1:?usage: slurm_nodes.sh CONFIG RUN STORE [FLAGS]}
run=${2:?usage: slurm_nodes.sh CONFIG RUN STORE [FLAGS]}
store=${3:?usage: slurm_nodes.sh CONFIG RUN STORE [FLAGS]}
shift 3
fold=${SLURM_ARRAY_TASK_ID:?give --array=0-4}
# If a process fails, srun ends the others. srun does not take the CPUs per task from sbatch.
run_task steps srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-8}" \
  .venv/bin/python -m brats_jax.main --distributed --config="$config" --workdir="$run" \
  --config.data.store="$store" --config.folds="$fold" "$@"
