#!/usr/bin/env bash
# Start a private Docker engine on Debian or Ubuntu, as root, and print the DOCKER_HOST to use.
#
#   scripts/install-engine.sh STATE_DIR         install what is missing, start the engine, print its address
#   scripts/install-engine.sh stop STATE_DIR    stop the engine started in STATE_DIR, by its pid file
#
# Everything the engine writes stays under STATE_DIR. Running it twice starts nothing twice.
set -euo pipefail

die() { echo "install-engine: $*" >&2; exit 1; }

usage() { sed -n '2,7p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }

# Whether the recorded process is still a dockerd: a stale file must not make us signal a stranger.
is_ours() {
    local pid=$1
    [[ -n $pid && -r /proc/$pid/comm && $(<"/proc/$pid/comm") == dockerd ]]
}

stop_engine() {
    local pid=""
    [[ -r $state/pid ]] && pid=$(<"$state/pid")
    if ! is_ours "$pid"; then
        echo "install-engine: no engine runs in $state" >&2
        return 0
    fi
    kill -TERM "$pid"
    # It gives containers 15 s of their own.
    for _ in $(seq 300); do
        is_ours "$pid" || return 0
        sleep 0.1
    done
    die "the engine (process $pid) did not stop within 30 s; see $state/dockerd.log"
}

answers() { docker -H "unix://$state/docker.sock" info >/dev/null 2>&1; }

install_packages() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v iptables >/dev/null || missing+=(iptables)
    command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    [[ ${#missing[@]} -eq 0 ]] && return 0
    command -v apt-get >/dev/null || die "apt-get is not here: install ${missing[*]} by your system's own means"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# Start the engine with the given storage driver ("" lets it choose) and wait until it answers.
start_engine() {
    local driver=$1 options=()
    [[ -n $driver ]] && options+=(--storage-driver "$driver")
    rm -f "$state/pid"
    setsid nohup dockerd --data-root "$state/data" --exec-root "$state/exec" \
        -H "unix://$state/docker.sock" -p "$state/pid" "${options[@]}" \
        >"$state/dockerd.log" 2>&1 </dev/null &
    local child=$!
    for _ in $(seq 300); do
        answers && return 0
        kill -0 "$child" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

[[ $# -ge 1 ]] || usage
if [[ $1 == stop ]]; then
    [[ $# -eq 2 ]] || usage
    state=$(readlink -m "$2")
    stop_engine
    exit 0
fi
[[ $# -eq 1 && $1 != -* ]] || usage
mkdir -p "$1"
state=$(readlink -f "$1")
[[ ${#state} -le 90 ]] || die "$state is too long a path for a socket: choose a shorter folder"

if ! { command -v docker >/dev/null && answers; }; then
    [[ $(id -u) -eq 0 ]] || die "run it as root (it installs packages and starts dockerd)"
    install_packages
    # overlay2 does not work on every file system; vfs works on all, slowly.
    if ! start_engine ""; then
        stop_engine
        start_engine vfs || die "dockerd did not start; see $state/dockerd.log"
    fi
fi
echo "unix://$state/docker.sock"
