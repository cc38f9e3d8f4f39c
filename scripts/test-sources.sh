#!/usr/bin/env bash
# Fetch real source files of languages that few machines have installed, for the tests of spans.
#
#   scripts/test-sources.sh FOLDER
#
# Debian packages are downloaded and unpacked below FOLDER; nothing of them is installed, built or
# run. Where there is no apt-get, it says so and fetches nothing.
set -euo pipefail
packages=(libruby3.1 lua-penlight librust-regex-dev)  # ruby, lua, rust

[[ $# -eq 1 && $1 != -* ]] || { sed -n '2,7p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }
folder=$1
[[ ! -e $folder/complete ]] || exit 0
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "test-sources: apt-get is not here: spans are tested on the files of installed languages only"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fetch() { (cd "$work" && apt-get download -qq "${packages[@]}" 2>"$work/errors"); }
if ! fetch; then
    if ! { [[ $(id -u) -eq 0 ]] && apt-get update -qq >&2 && fetch; }; then
        echo "test-sources: ${packages[*]} can't be fetched: $(tail -n 1 "$work/errors")"
        exit 0
    fi
fi
mkdir -p "$folder"
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$folder"; done
touch "$folder/complete"
