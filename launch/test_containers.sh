#!/usr/bin/env bash
# Builds the image of launch/container/ without a daemon and without a registry of images, and tries
# it: for every night, because it takes half an hour on two CPU cores. For root on Debian or Ubuntu;
# installs podman, runc and mmdebstrap if they are missing.
#
#   bash launch/test_containers.sh [PYTEST ARGUMENTS]
#
# BASE=IMAGE builds on that image; by default on one made of Debian's packages. IMAGE=NAME tries one
# that is there already. APPTAINER=1 also builds launch/container/apptainer.def, with the Apptainer of
# Debian unstable in a root of its own. With BRATS_REAL_DATA=DIR a real case is segmented. DEMO=full
# runs the whole of launch/demo.sh in the image, else a short form of it runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=()
for program in podman runc mmdebstrap; do
  command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    "${missing[@]}" netavark uidmap
fi
SETUP_NEXT= bash launch/setup.sh test

# A Debian root with Python, as an image.
make_base() {
  local folder
  folder=$(mktemp -d)
  mmdebstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$folder/root.tar" "${MIRROR:-http://deb.debian.org/debian}"
  podman import "$folder/root.tar" "$1"
  rm -r "$folder"
}

if [ -z "${IMAGE:-}" ]; then
  if [ -z "${BASE:-}" ]; then
    BASE=localhost/debian-python:check
    podman image exists "$BASE" || make_base "$BASE"
  fi
  IMAGE=localhost/brats_jax:check
  # The settings by which pip reaches its index on this machine, if there are any.
  volumes=()
  for file in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$file" ] || volumes+=(--volume "$file:$file:ro")
  done
  podman build --isolation=chroot "${volumes[@]}" --build-arg BASE="$BASE" \
    -f launch/container/Dockerfile -t "$IMAGE" .
fi
export BRATS_JAX_IMAGE=$IMAGE
[ -z "${APPTAINER:-}" ] || bash launch/container/test_apptainer.sh
exec .venv/bin/python -m pytest tests/test_launch_in_containers.py -n 0 "$@"
