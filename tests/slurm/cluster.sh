#!/usr/bin/env bash
# A real SLURM on this one machine, for the tests of the launch scripts:
#
#   bash tests/slurm/cluster.sh install         installs SLURM if that takes less than a minute
#   bash tests/slurm/cluster.sh start FOLDER    starts it, with its state in FOLDER
#   bash tests/slurm/cluster.sh stop FOLDER     cancels its jobs, and stops its daemons
#
# For root on Debian or Ubuntu; needs no systemd, no database and no network but the loopback.
# SLURM_CONF=FOLDER/slurm.conf then lets sbatch and the others find it. Nodes bratsK of this host
# without GPUs: submit with --gpus-per-node=0. Environment: NODES=4, CPUS=2 of each node, PORT=18817
# and the ports after it; HOSTS=1 writes the nodes' names into /etc/hosts, by which the processes of
# several nodes find each other, until the stop. PROCTRACK=cgroup instead of linuxproc needs a writable
# freezer of cgroup v1.
set -euo pipefail
mark="# brats_jax test"

install() {
  if command -v slurmctld >/dev/null && command -v munged >/dev/null; then return; fi
  local why=
  if [ "$(id -u)" -ne 0 ]; then
    why="only root can install it"
  elif ! command -v apt-get >/dev/null; then
    why="there is no apt-get"
  elif ! timeout 60 bash -c "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get \
      install -y --no-install-recommends slurm-wlm slurm-wlm-basic-plugins munge" \
    >/dev/null 2>&1; then
    why="apt-get could not install it within a minute"
  fi
  [ -z "$why" ] || echo "no SLURM here, $why: its tests are skipped; run launch/test_slurm.sh elsewhere"
}

start() {
  local folder=$1 nodes=${NODES:-4} cpus=${CPUS:-2} port=${PORT:-18817} host i
  host=$(hostname -s)
  mkdir -p "$folder/munge" "$folder/state" "$folder/log"
  folder=$(cd "$folder" && pwd)
  # A key and a socket of its own, so that the machine's own munged is left alone.
  chmod 700 "$folder/munge"
  (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
  munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge.pid" --seed-file="$folder/munge/seed" \
    --log-file="$folder/log/munged.log"
  {
    cat <<CONF
ClusterName=brats
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/${PROCTRACK:-linuxproc}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,requeue_delay=1
SlurmctldParameters=node_reg_mem_percent=1
JobRequeue=1
KillWait=30
MessageTimeout=30
CONF
    for i in $(seq "$nodes"); do
      echo "NodeName=brats$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=$cpus" \
        "RealMemory=1000 State=UNKNOWN"
    done
    echo "PartitionName=all Nodes=brats[1-$nodes] Default=YES MaxTime=INFINITE State=UP"
  } >"$folder/slurm.conf"
  if [ -n "${HOSTS:-}" ]; then
    for i in $(seq "$nodes"); do echo "127.0.0.1 brats$i $mark" >>/etc/hosts; done
  fi
  if [ "${PROCTRACK:-}" = cgroup ]; then
    printf '%s\n' CgroupPlugin=cgroup/v1 CgroupMountpoint=/sys/fs/cgroup CgroupAutomount=no \
      >"$folder/cgroup.conf"
  fi
  export SLURM_CONF=$folder/slurm.conf
  slurmctld -f "$SLURM_CONF"
  for i in $(seq "$nodes"); do
    mkdir -p "$folder/spool.brats$i"
    slurmd -f "$SLURM_CONF" -N "brats$i"
  done
  for i in $(seq 150); do
    if [ "$(sinfo -h -N -t idle 2>/dev/null | wc -l)" -eq "$nodes" ]; then return; fi
    sleep 0.2
  done
  echo "SLURM did not start within 30 s; see $folder/log" >&2
  return 1
}

stop() {
  local folder=$1 file
  export SLURM_CONF=$folder/slurm.conf
  timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
  for file in $(seq 50); do
    if [ -z "$(timeout 10 squeue -h 2>/dev/null)" ]; then break; fi
    sleep 0.2
  done
  for file in "$folder"/slurmd.*.pid "$folder/slurmctld.pid" "$folder/munge.pid"; do
    if [ -e "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
  done
  if grep -q "$mark" /etc/hosts; then
    # Not by renaming: in a container the file is a mount.
    grep -v "$mark" /etc/hosts >"$folder/hosts" || true
    cat "$folder/hosts" >/etc/hosts
  fi
}

case "${1:-}" in
  install) install ;;
  start | stop) "$1" "${2:?usage: cluster.sh start FOLDER}" ;;
  *) echo "usage: cluster.sh install | start FOLDER | stop FOLDER" >&2; exit 2 ;;
esac
