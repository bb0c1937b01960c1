#!/usr/bin/env bash
# Builds launch/container/apptainer.def and segments a phantom with it, without a registry of images.
# Called by launch/test_containers.sh; root only. Debian has Apptainer in its unstable suite alone, so
# that it runs in a root of that suite, with a base made of Debian's packages.
#
#   bash launch/container/test_apptainer.sh [FOLDER]     FOLDER: kept, and used again, if given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:-}
temporary=
if [ -z "$folder" ]; then folder=$(mktemp -d) && temporary=$folder; fi
mirror=${MIRROR:-http://deb.debian.org/debian}
root=$folder/unstable

make_root() {  # FOLDER SUITE PACKAGES
  [ -e "$1/usr" ] || mmdebstrap --variant=minbase --include="$3" \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$2" "$1" "$mirror"
}

mkdir -p "$folder"
make_root "$root" unstable apptainer,ca-certificates,squashfs-tools,squashfuse,fakeroot
make_root "$root/base" bookworm python3,python3-venv,ca-certificates
rm -rf "$root"/base/dev/*  # no one makes device files in the namespace below
for file in /etc/hosts /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
  [ ! -e "$file" ] || cp "$file" "$root$file"
  [ ! -e "$file" ] || cp "$file" "$root/base$file"
done

# A user namespace with all users, in which root has every capability: Apptainer asks for all, and
# many machines grant fewer.
unshare --user sleep infinity &
users=$!
trap 'kill "$users"' EXIT
while [ "/proc/$users/ns/user" -ef /proc/self/ns/user ]; do sleep 0.1; done
for map in uid_map gid_map; do echo "0 0 65536" >"/proc/$users/$map"; done

# The mounts are gone with their namespace. Apptainer refuses a mere chroot.
exec_in_root() { nsenter --target "$users" --user --setuid 0 --setgid 0 unshare --mount bash -euc '
  root=$1; shift
  mount --bind "$root" "$root"
  for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
  mkdir -p "$root/clone" "$root/workspace" "$root/old"
  mount --bind . "$root/clone"
  cd "$root"
  pivot_root . old
  umount --lazy old
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root bash -euc "$@"' _ "$root" "$@"
}

exec_in_root 'cd /clone && apptainer build --force --build-arg BOOTSTRAP=localimage \
  --build-arg BASE=/base /workspace/brats_jax.sif launch/container/apptainer.def'
du -h --apparent-size "$root/workspace/brats_jax.sif"
rm -rf "$root/workspace/scans" "$root/workspace/predicted"
# Apptainer runs for users that the host knows.
grep -q "^someone:" "$root/etc/passwd" ||
  echo "someone:x:12345:23456::/nonexistent:/bin/sh" >>"$root/etc/passwd"
# As docs/containers.md has it: nothing of the host but the working folder, and no home.
exec_in_root 'cd /workspace; chmod 777 /workspace
  # Without FUSE for users the file is unpacked for each command.
  unpacked=$(setpriv --reuid=12345 --clear-groups test -w /dev/fuse || echo --unsquash)
  run() { setpriv --reuid=12345 --regid=23456 --clear-groups \
    apptainer exec $unpacked --containall --no-home --cleanenv --bind /workspace --pwd /workspace brats_jax.sif "$@"; }
  run brats-jax phantom --cases=scans --patients=1
  run brats-jax predict --checkpoint=small --input=scans --output=predicted --picture --page
  ls -l predicted'
[ -z "$temporary" ] || rm -rf "$temporary"
