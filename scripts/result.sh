#!/usr/bin/env bash
# Make the table of docs/results.md: the 0.5B recipe once for each seed, then their common report.
#
#   scripts/result.sh [ARGUMENT OF align run...]
#
#   SEEDS        of which each takes some two hours ("1 2 3"); the same command goes on after a stop.
#                The first one also draws ten answers to each problem from the start model
#   ALIGN_DATA   where GPTeacher's code set, the infilling set and perhaps MBPP are (.state/data);
#                of the first two what is not there is fetched
#   ALIGN_RAW    where GitHub's files are read (https://raw.githubusercontent.com), for a mirror
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
export ALIGN_DATA=${ALIGN_DATA:-$PWD/.state/data}

# FILE below $ALIGN_DATA, its SHA-256, and where it is published.
fetch() {
    local file=$ALIGN_DATA/$1 sha=$2 url=${ALIGN_RAW:-https://raw.githubusercontent.com}/$3
    [[ ! -r $file ]] || return 0
    echo "data: $url"
    mkdir -p "$(dirname "$file")"
    if ! "$bin/python" -c 'import sys, urllib.request; urllib.request.urlretrieve(*sys.argv[1:])' \
        "$url" "$file.new" 2>"$file.error"; then
        echo "error: $url can't be fetched: $(tail -n 1 "$file.error"); put the file there yourself: $file" >&2
        rm -f "$file.new" "$file.error"
        return 1
    fi
    rm -f "$file.error"
    if ! echo "$sha  $file.new" | sha256sum --check --status; then
        echo "error: $url is not the file that the results were made with: its SHA-256 is not $sha" >&2
        rm -f "$file.new"
        return 1
    fi
    mv "$file.new" "$file"
}

fetch gpteacher_codegen/codegen-instruct.json \
    8b0be81f22b86bccab30f573351b62efb3391da229d2ee817a65ce0abb08b29d \
    teknium1/GPTeacher/8afcaaa7a11dd980162d861bd6be970f95eb7174/Codegen/codegen-instruct.json
fetch humaneval_infilling/HumanEval-SingleLineInfilling.jsonl.gz \
    1277073e7ddce163ef68598c2bca777f688a53df99422f097e37362090f88e1f \
    openai/human-eval-infilling/88062ff9859c875d04db115b698ed4b0f0395170/data/HumanEval-SingleLineInfilling.jsonl.gz

# Where MBPP is not beside them, the recipe reads it from the Hub.
mbpp=$ALIGN_DATA/mbpp/mbpp_train.jsonl
settings=()
[[ ! -r $mbpp ]] || settings+=(--set "data.tasks=[$mbpp]")

runs=()
measured="start, dpo.r2"
for seed in ${SEEDS:-1 2 3}; do
    "$bin/align" run recipes/qwen2.5-coder/0.5b-cpu.yaml \
        --set "seed=$seed" --set "name=seed-$seed" "${settings[@]}" \
        --set "eval.repeated={n: 10, benchmarks: [humaneval, mbpp_validation], checkpoints: [$measured]}" "$@"
    measured=dpo.r2
    runs+=("runs/seed-$seed")
done
if ((${#runs[@]} > 1)); then "$bin/align" report "${runs[@]}" --out runs/seeds.html; fi
