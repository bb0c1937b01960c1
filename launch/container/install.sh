#!/usr/bin/env bash
# Installs into /opt/brats_jax, within an image that is being built. Called by Dockerfile and
# apptainer.def in two steps, so that a change of the package does not download its dependencies
# again:
#
#   bash install.sh dependencies SOURCE [EXTRAS]    needs SOURCE/pyproject.toml alone
#   bash install.sh package SOURCE                  the package, and scripts of launch/
set -euo pipefail
step=${1:?usage: install.sh dependencies|package SOURCE [EXTRAS]}
source=${2:?usage: install.sh dependencies|package SOURCE [EXTRAS]}
extra=${*:3}
root=/opt/brats_jax
python=$root/.venv/bin/python
pip=("$python" -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore)

case $step in
dependencies)
  python3 -m venv "$root/.venv"
  "$python" - "$source/pyproject.toml" "$extra" >/tmp/requirements.txt <<'PYTHON'
import re, sys, tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
wanted = list(filter(None, re.split(r"[,\s]+", sys.argv[2])))
for extra in wanted:
    if extra not in extras:
        sys.exit(f"error: there is no extra '{extra}'; give of {', '.join(extras)}")
print("\n".join(project["dependencies"] + [line for extra in wanted for line in extras[extra]]))
PYTHON
  "${pip[@]}" -r /tmp/requirements.txt
  rm /tmp/requirements.txt
  ;;
package)
  "${pip[@]}" --no-deps "$source"
  # Only the tests need them.
  [ -e "$root/.venv/bin/pytest" ] || "$python" -m pip uninstall --quiet --yes --root-user-action=ignore pip setuptools
  mkdir -p "$root/launch" /workspace
  cp -r "$source/pyproject.toml" "$source/configs" "$root"
  cp "$source"/launch/{setup,demo,with_bucket}.sh "$root/launch"
  # launch/setup.sh finds everything installed.
  touch "$root/.venv/installed"
  # Any user must be able to read everything, whatever the umask of the clone was.
  chmod -R a+rX "$root"
  ;;
*)
  echo "error: unknown step '$step'" >&2
  exit 1
  ;;
esac
