#!/usr/bin/env bash
# Make ready what a run needs, then run a command if one is given.
#
#   scripts/with-engine.sh scripts/setup.sh [COMMAND...]
#
# The virtual environment, the sandbox image, and the demo's model; what is there already is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/venv.sh
python=${VENV:-.venv}/bin/python
model=Qwen/Qwen2.5-Coder-0.5B

"$python" -m sandbox build >/dev/null

# The file names the folder found last time, so that asking again costs nothing.
mkdir -p .state
if [[ ! -r .state/model || ! -f $(<.state/model)/config.json ]]; then
    echo "model: $model"
    "$python" -m align.checkpoint "$model" >.state/model.new
    mv .state/model.new .state/model
fi

if (($#)); then exec "$@"; fi
echo "ready"
