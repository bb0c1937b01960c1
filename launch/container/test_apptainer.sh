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
make_root "$root" unstable apptainer,ca-certificates,squashfs-tools,fakeroot
make_root "$root/base" bookworm python3,python3-venv,ca-certificates
for file in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
  [ ! -e "$file" ] || cp "$file" "$root$file"
  [ ! -e "$file" ] || cp "$file" "$root/base$file"
done

# The mounts are gone with the namespace.
exec_in_root() { unshare --mount bash -euc '
  root=$1; shift
  mount --rbind /proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
  mkdir -p "$root/clone" "$root/work"; mount --bind . "$root/clone"
  exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root bash -euc "$@"' _ "$root" "$@"
}

exec_in_root 'cd /clone && apptainer build --force --build-arg BOOTSTRAP=localimage \
  --build-arg BASE=/base /work/brats_jax.sif launch/container/apptainer.def'
du -h --apparent-size "$root/work/brats_jax.sif"
rm -rf "$root/work/scans" "$root/work/predicted"
# As docs/containers.md has it: nothing of the host but the working folder, and no home.
exec_in_root 'cd /work; chmod 777 /work
  run() { setpriv --reuid=12345 --regid=23456 --clear-groups \
    apptainer exec --containall --no-home --cleanenv --bind /work --pwd /work brats_jax.sif "$@"; }
  run brats-jax phantom --cases=scans --patients=1
  run brats-jax predict --checkpoint=small --input=scans --output=predicted --picture --page
  ls -l predicted'
[ -z "$temporary" ] || rm -rf "$temporary"
