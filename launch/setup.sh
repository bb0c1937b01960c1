#!/usr/bin/env bash
# Creates .venv and installs the package into it, unless that is done.
#
#   bash launch/setup.sh [EXTRA[,EXTRA...]]     extras: cuda12, cuda13, tpu, onnx,
#                                               wandb, mlflow, bucket, test
#
# PYTHON names the interpreter (3.11 or later); the default is the first suitable one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=$(IFS=,; echo "$*")  # given apart, too: none may be lost

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

chosen=
for candidate in .venv/bin/python ${PYTHON:-python3 python3.12 python3.11 python3.13 python}; do
  if fits "$candidate"; then chosen=$candidate; break; fi
done
if [ -z "$chosen" ]; then
  echo "error: no Python 3.11 or later found; install one, or name it: PYTHON=/path/to/python3.12" >&2
  exit 1
fi

# pip ignores an unknown extra, without an error.
"$chosen" - "$extras" <<'PYTHON'
import sys, tomllib

with open("pyproject.toml", "rb") as file:
    known = list(tomllib.load(file)["project"]["optional-dependencies"])
for extra in filter(None, sys.argv[1].split(",")):
    if extra not in known:
        sys.exit(f"error: there is no extra '{extra}'; give of {', '.join(known)}")
PYTHON

[ -x .venv/bin/python ] || "$chosen" -m venv .venv || { rm -rf .venv; exit 1; }

# One stamp for each set of extras; a changed pyproject.toml is newer and is installed again.
stamp=.venv/installed${extras:+-${extras//,/-}}
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ launch/setup.sh -nt "$stamp" ]; then
  echo "installing brats_jax${extras:+[$extras]} into .venv (a few minutes the first time)" >&2
  # compat mode adds this folder to sys.path, so that the import also works in the parent folder
  # of a clone called brats_jax; the default finder would find the clone itself there.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --config-settings editable_mode=compat -e ".${extras:+[$extras]}"
  touch "$stamp"
fi
