#!/bin/sh
# Makes .venv with everything that mqkit runs, is tested and checked with: `make .venv` runs this.
set -eu
cd "$(dirname "$0")/.."

fail() {
    printf '\n%s\n' "$*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if ! is_new_enough .venv/bin/python; then
    without_venv=
    python=
    # Run, not only looked up: a version manager puts names on the PATH that do not work.
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        is_new_enough "$candidate" || continue
        if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            python=$candidate
            break
        fi
        without_venv=${without_venv:-$candidate}
    done
    if [ -z "$python" ] && [ -n "$without_venv" ]; then
        fail "$without_venv cannot make virtual environments: its venv and ensurepip modules are" \
            "in a package of their own. On Debian and Ubuntu: apt-get install python3-venv"
    fi
    [ -n "$python" ] || fail "mqkit needs Python 3.11 or newer, and none was found as" \
        "${PYTHON:-python3.13, python3.12, python3.11 or python3}. Name one: make PYTHON=/path/to/python3"
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
.venv/bin/python -m pip install --quiet --require-hashes -r deploy/requirements-dev.txt ||
    fail "The locked packages could not be installed: pip needs a package index that it can reach."
# Nothing but this project is installed here: its dependencies and its build backend are locked.
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
