#!/usr/bin/env bash
# Runs a command with its run folder kept in a bucket, so that a machine that is taken away loses at
# most the steps since its last checkpoint.
#
#   bash launch/with_bucket.sh --run FOLDER URL [--store FOLDER URL]... -- COMMAND...
#   bash launch/with_bucket.sh --push FOLDER URL     uploads a folder once, such as a store
#   bash launch/with_bucket.sh --pull FOLDER URL     downloads it
#
# URL is one of fsspec: s3://BUCKET/PATH, gs://BUCKET/PATH, file:///PATH. docs/buckets.md.
# PYTHON=PATH chooses the Python; default: .venv/bin/python of this folder, or python.
set -euo pipefail
if [ $# -eq 0 ]; then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python || command -v python3)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m brats_jax.runs.with_bucket "$@"
