#!/usr/bin/env bash
# Run a command with a sandbox engine.
#
#   scripts/with-engine.sh COMMAND [ARGUMENT...]
#
# The first that holds decides:
#   ALIGN_SANDBOX_ENGINE=namespaces    no Docker engine is looked for, installed or used
#   a Docker engine answers            it is used (DOCKER_HOST, or the default socket)
#   ALIGN_INSTALL_ENGINE=1             one is installed, on Debian or Ubuntu as root; its state is in
#                                      .state/engine, and it is stopped when the command has ended
#   otherwise                          the embedded `namespaces` engine, one isolation level lower;
#                                      an error with ALIGN_REQUIRE_ENGINE=1
set -euo pipefail
# Byte code is made when a module is first used, and kept: without it every start of a model server
# would compile thousands of modules again.
unset PYTHONDONTWRITEBYTECODE
root=$(cd "$(dirname "$0")/.." && pwd)
install=$root/scripts/install-engine.sh
state=$root/.state/engine
started=0

say() { echo "sandbox engine: $*"; }

answers() { command -v docker >/dev/null && timeout 20 docker -H "$1" info >/dev/null 2>&1; }

leave() {
    local status=$?
    trap - EXIT
    if ((started)); then "$install" stop "$state" || true; fi
    exit "$status"
}
trap leave EXIT
# Ctrl-C reaches the command by itself, as it is in the same process group: this script only has to
# outlive it, to stop the engine.
trap : INT
trap 'exit 143' TERM

if [[ ${ALIGN_SANDBOX_ENGINE:-} == namespaces ]]; then
    say "namespaces (embedded), as ALIGN_SANDBOX_ENGINE asks"
elif answers "${DOCKER_HOST:-unix:///var/run/docker.sock}"; then
    say "Docker at ${DOCKER_HOST:-the default socket}"
elif [[ ${ALIGN_INSTALL_ENGINE:-} == 1 ]]; then
    if ! answers "unix://$state/docker.sock"; then
        # From here on, so that an engine that starts and is then interrupted is stopped too.
        started=1
        say "installing and starting Docker in .state/engine"
    fi
    DOCKER_HOST=$("$install" "$state")
    export DOCKER_HOST
    say "Docker at $DOCKER_HOST"
elif [[ ${ALIGN_REQUIRE_ENGINE:-} == 1 ]]; then
    echo "error: no Docker engine answers and ALIGN_REQUIRE_ENGINE=1: start one, or set" \
        "ALIGN_INSTALL_ENGINE=1 to install one (Debian or Ubuntu, as root)" >&2
    exit 1
else
    export ALIGN_SANDBOX_ENGINE=namespaces
    say "namespaces (embedded), because no Docker engine answers"
    say "its isolation level is ns, one lower than a container's; for Docker start an engine, or set"
    say "ALIGN_INSTALL_ENGINE=1 to install one (Debian or Ubuntu, as root)"
fi

# In the background, because a trap has to wait for what runs in the foreground; a background command
# would ignore Ctrl-C, so that is put right first.
(
    trap - INT TERM EXIT
    exec "$@"
) &
child=$!
trap 'kill -TERM "$child" 2>/dev/null || true' TERM
status=0
while :; do
    wait "$child" && status=0 || status=$?
    kill -0 "$child" 2>/dev/null || break
done
exit "$status"
