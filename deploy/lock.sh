#!/bin/sh
# Locks what mqkit depends on, with hashes, for every Python and platform that it supports.
#
#   deploy/lock.sh [--upgrade]     without --upgrade, versions stay unless pyproject.toml forbids them
#
# The files name no index, so that they install from whichever one pip is set up to use. uv is
# needed for this alone: it comes from a virtual environment that is thrown away.
set -eu
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" --quiet install uv

# lock OUTPUT TITLE INPUT...
lock() {
    output=$1
    title=$2
    shift 2
    "$scratch/venv/bin/uv" pip compile --quiet --universal --python-version 3.11 \
        --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        $upgrade --output-file "$output" "$@"
    {
        printf '# %s Locked by `make lock`:\n' "$title"
        printf '#   pip install --require-hashes -r %s\n' "$output"
        cat "$output"
    } >"$scratch/locked"
    cat "$scratch/locked" >"$output"
}

upgrade=${1:-}
printf 'setuptools\nwheel\n' >"$scratch/build.in"
lock deploy/requirements-build.txt "What builds mqkit." "$scratch/build.in"
lock deploy/requirements.txt "What a service with a store runs on, by the mqkit command." \
    --extra cli --extra metrics --extra postgres pyproject.toml
lock deploy/requirements-dev.txt "What mqkit runs, is built, tested and checked with." \
    --constraint deploy/requirements.txt --extra dev \
    pyproject.toml deploy/requirements-build.txt
# In an environment of their own: mqkit is measured there beside them, on the same packages.
lock tests/benchmarks/requirements-peers.txt "What \`make bench\` measures mqkit beside." \
    --constraint deploy/requirements.txt --extra cli --extra postgres \
    tests/benchmarks/requirements-peers.in pyproject.toml
