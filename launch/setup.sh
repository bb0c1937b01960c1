#!/usr/bin/env bash
# Creates .venv and installs the package into it, unless that is done.
#
#   bash launch/setup.sh [EXTRA[,EXTRA...]]     extras: cuda12, cuda13, tpu, onnx,
#                                               wandb, mlflow, bucket, test
#
# PYTHON names the interpreter (3.11 or later); the default is the first suitable one. Prints a line
# for each step, and the next command unless SETUP_NEXT is empty, as in the scripts that call this.
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

if [ ! -x .venv/bin/python ]; then
  echo "making .venv with $("$chosen" --version), $(command -v "$chosen")" >&2
  "$chosen" -m venv .venv || { rm -rf .venv; exit 1; }
fi

# Prints the large downloads among the lines of pip; all of its lines would be too many.
large_steps() {
  while IFS= read -r line; do
    case $line in
      *"Downloading "*" MB"*) line=${line#*Downloading }; echo "  downloading ${line##*/}" >&2 ;;
      "Installing collected packages: "*)
        names=(${line#*: })
        echo "  unpacking ${#names[@]} packages" >&2 ;;
    esac
  done
}

# One stamp for each set of extras; a changed pyproject.toml is newer and is installed again.
stamp=.venv/installed${extras:+-${extras//,/-}}
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ launch/setup.sh -nt "$stamp" ]; then
  echo "installing brats_jax${extras:+[$extras]} into .venv: a few minutes the first time" >&2
  # For the pip that builds the package, too. An older pip ignores names that it does not know.
  export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
  # compat mode adds this folder to sys.path, so that the import also works in the parent folder
  # of a clone called brats_jax; the default finder would find the clone itself there.
  .venv/bin/python -m pip install --progress-bar off \
    --config-settings editable_mode=compat -e ".${extras:+[$extras]}" | large_steps
  touch "$stamp"
  echo "installed" >&2
elif [ -n "${SETUP_NEXT-next}" ]; then
  echo "brats_jax${extras:+[$extras]} is installed in .venv" >&2
fi
if [ -n "${SETUP_NEXT-next}" ]; then
  echo "next: source .venv/bin/activate, then for example" >&2
  echo "      python -m brats_jax.predict --checkpoint=small --input=CASE --output=predicted --page" >&2
fi
