#!/usr/bin/env bash
# Run the tests and close with one plain line of counts.
#
#   scripts/test.sh [PYTEST ARGUMENT...]      two processes; `-n 0` for one
set -uo pipefail
cd "$(dirname "$0")/.."
python=${VENV:-.venv}/bin/python
results=$(mktemp)
trap 'rm -f "$results"' EXIT

scripts/test-sources.sh .state/sources || exit 1
"$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder --junitxml="$results" "$@"
status=$?

if [[ ${ALIGN_SANDBOX_ENGINE:-} == namespaces ]]; then echo "docker: not tested"; fi
"$python" - "$results" <<'PY' || exit 1
import sys
from xml.etree import ElementTree

suite = ElementTree.parse(sys.argv[1]).getroot().find("testsuite")
total, skipped = int(suite.get("tests")), int(suite.get("skipped"))
failed = int(suite.get("failures")) + int(suite.get("errors"))
print(f"{total - failed - skipped} passed, {failed} failed, {skipped} skipped")
PY
exit "$status"
