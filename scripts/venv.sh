#!/usr/bin/env bash
# Make the virtual environment complete, from the lock file; nothing is done where it already is.
#
#   VENV         its folder (.venv)
#   PYTHON       the Python to make it with: 3.11 or newer; the lock files are made for 3.11
#   ALIGN_EXTRA  cpu or gpu; by default gpu where nvidia-smi answers
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
extra=${ALIGN_EXTRA:-}
if [[ -z $extra ]]; then
    if nvidia-smi >/dev/null 2>&1; then extra=gpu; else extra=cpu; fi
fi
lock=locks/$extra.txt
[[ -r $lock ]] || { echo "error: ALIGN_EXTRA=$extra: it is cpu or gpu" >&2; exit 2; }

stamp=$venv/.code-align
key=$(cat "$lock" pyproject.toml | sha256sum | cut -d' ' -f1)" $extra $PWD"
[[ -r $stamp && $(<"$stamp") == "$key" ]] && exit 0

find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "error: no Python 3.11 or newer is found: install one, or name it with PYTHON=" >&2
    return 1
}

echo "virtual environment: $venv, from $lock (minutes, once)"
if [[ ! -x $venv/bin/python ]]; then
    python=$(find_python)
    "$python" -m venv "$venv"
fi
pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check)
# torch first and with its own needs, which differ between its CPU and CUDA builds; the rest exactly
# as locked (see the lock file's head for why). Byte code is made when a module is first used.
if ! { "${pip[@]}" install --no-compile -c "$lock" torch && "${pip[@]}" install --no-compile --no-deps -r "$lock"; }; then
    echo "error: not everything in $lock could be installed; run the same command again to go on" >&2
    exit 1
fi
"${pip[@]}" install --no-deps --no-build-isolation --editable .
echo "$key" >"$stamp"
