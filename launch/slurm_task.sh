#!/usr/bin/env bash
# How the SLURM scripts run their command. To be sourced:
#
#   run_task shell COMMAND [ARGUMENT ...]     a command of this machine
#   run_task steps srun [ARGUMENT ...]        a command of several nodes
#
# USR1 announces the time limit (--signal=B:USR1@120): the command saves and ends, and this task of
# the array, no other, is queued again. TERM is scancel or a preemption: the command saves and ends,
# and SLURM itself decides whether to requeue. A command that finds its folder in use (status 75),
# as after the loss of a node, is repeated every minute.

run_task() {
  local kind=$1 status worker stopped= again=
  shift
  # Without the index, scontrol and scancel would act on all tasks of the array.
  local task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID:-}}
  task=${task:-${SLURM_JOB_ID:-}}
  trap 'stopped=1; stop_command' TERM
  trap 'stopped=1; again=1; stop_command' USR1
  while true; do
    "$@" &
    worker=$!
    wait_for_command
    if [ "$status" -ne 75 ] || [ -n "$stopped" ]; then break; fi
    echo "in use: tries again in ${RETRY_S:-60} s" >&2
    sleep "${RETRY_S:-60}" &
    worker=$!
    wait "$worker" || true
    if [ -n "$stopped" ]; then status=143; break; fi
  done
  # The command may have ended by itself just before it was stopped.
  if [ -n "$again" ] && { [ "$status" -gt 128 ] || [ "$status" -eq 75 ]; }; then
    scontrol requeue "$task"
  fi
  exit "$status"
}

# Sets `status`. A signal ends the wait before the command ends.
wait_for_command() {
  while true; do
    status=0
    wait "$worker" || status=$?
    kill -0 "$worker" 2>/dev/null || break
  done
  status=0
  wait "$worker" || status=$?
}

stop_command() {
  # srun would kill its processes, which scancel asks to save.
  if [ "$kind" = steps ]; then scancel --signal=TERM "$task" 2>/dev/null || true; fi
  if [ "$kind" = shell ]; then kill -TERM "$worker" 2>/dev/null || true; fi
}
