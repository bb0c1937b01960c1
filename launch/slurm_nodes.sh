#!/usr/bin/env bash
# One fold for each task of a SLURM array, each on several nodes that share every batch:
#
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --array=0-4 launch/slurm_nodes.sh \
#     configs/ssl.py RUN STORE [--config.NAME=VALUE ...]
#
# One process for each GPU. All nodes must see STORE; only the first reads and writes RUN. A minute
# before their time is up the processes save and end; the same command goes on.
#SBATCH --job-name=brats_jax_nodes
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --signal=TERM@60
#SBATCH --requeue
set -euo pipefail
# SLURM runs a copy of this file: the repository is where sbatch was called.
cd "${SLURM_SUBMIT_DIR:-.}"
config=${1:?usage: slurm_nodes.sh CONFIG RUN STORE [FLAGS]}
run=${2:?usage: slurm_nodes.sh CONFIG RUN STORE [FLAGS]}
store=${3:?usage: slurm_nodes.sh CONFIG RUN STORE [FLAGS]}
shift 3
# One process that fails ends the others at once. srun does not ask sbatch how many CPUs a task has.
exec srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-8}" \
  .venv/bin/python -m brats_jax.main --distributed --config="$config" --workdir="$run" \
  --config.data.store="$store" --config.folds="${SLURM_ARRAY_TASK_ID:?give --array=0-4}" "$@"
