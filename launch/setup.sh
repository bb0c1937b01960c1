#!/usr/bin/env bash
# Makes .venv and installs the package into it; does nothing where that is done already.
#
#   bash launch/setup.sh [EXTRA[,EXTRA...]]     extras: cuda12, cuda13, tpu, test
#
# PYTHON names the interpreter to use (3.11 or later); by default the first that fits.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=${1:-}

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

chosen=
for candidate in .venv/bin/python ${PYTHON:-python3 python3.12 python3.11 python3.13 python}; do
  if fits "$candidate"; then chosen=$candidate; break; fi
done
if [ -z "$chosen" ]; then
  echo "error: no Python 3.11 or later found; install one, or name it: PYTHON=/path/to/python3.12" >&2
  exit 1
fi

# pip installs without an extra that it does not know, and calls that a success.
"$chosen" - "$extras" <<'PYTHON'
import sys, tomllib

with open("pyproject.toml", "rb") as file:
    known = list(tomllib.load(file)["project"]["optional-dependencies"])
for extra in filter(None, sys.argv[1].split(",")):
    if extra not in known:
        sys.exit(f"error: there is no extra '{extra}'; give of {', '.join(known)}")
PYTHON

[ -x .venv/bin/python ] || "$chosen" -m venv .venv || { rm -rf .venv; exit 1; }

# The stamp says what was asked for, so that a changed pyproject.toml is installed again.
stamp=.venv/installed${extras:+-${extras//,/-}}
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ launch/setup.sh -nt "$stamp" ]; then
  echo "installing brats_jax${extras:+[$extras]} into .venv (a few minutes the first time)" >&2
  # By a path, which is found before a folder of the package's name: the import works everywhere,
  # in the folder that holds this one too.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --config-settings editable_mode=compat -e ".${extras:+[$extras]}"
  touch "$stamp"
fi
