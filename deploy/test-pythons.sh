#!/bin/sh
# Runs the unit tests on each Python of pyproject.toml's classifiers that this machine has, but for
# the one of .venv, on which `make test` runs them: `make test-pythons` runs this. With AGAIN=1, what
# fails among others is run once more by itself, and must pass then; both are in the output.
set -u
cd "$(dirname "$0")/.."

failed=
missing=
passed=

# An interpreter that runs and can make virtual environments: from the PATH, pyenv's, or uv's.
find_python() {
    for candidate in "python$1" "$HOME/.pyenv/versions/$1".*/bin/python \
        "$HOME/.local/share/uv/python/cpython-$1".*/bin/python "/usr/local/bin/python$1"; do
        # Run, not only looked up: a version manager puts names on the PATH that do not work.
        found=$("$candidate" -c 'import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])' \
            2>/dev/null) || continue
        if [ "$found" = "$1" ]; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

prepare() {
    home=.pythons/$1
    if [ ! -e "$home/.installed" ] || [ deploy/requirements-dev.txt -nt "$home/.installed" ] ||
        [ pyproject.toml -nt "$home/.installed" ]; then
        echo "Making $home with $("$2" --version)"
        "$2" -m venv --clear "$home" &&
            "$home/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
                -r deploy/requirements-dev.txt &&
            "$home/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
                --no-build-isolation --editable . &&
            touch "$home/.installed"
    fi
}

# tests VERSION OPTION...: runs the unit tests on it.
tests() {
    on=.pythons/$1
    shift
    "$on/bin/python" -m pytest -q -o cache_dir="$on/.cache" "$@" tests/unit
}

own=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
versions=$(sed -n 's/.*"Programming Language :: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml)
[ -n "$versions" ] || { echo "pyproject.toml names no Python" >&2; exit 1; }

for version in $versions; do
    [ "$version" != "$own" ] || continue
    if ! python=$(find_python "$version"); then
        missing="$missing $version"
    elif prepare "$version" "$python" && {
        tests "$version" -n "${JOBS:-2}" --dist loadgroup ||
            { [ -n "${AGAIN:-}" ] && tests "$version" -n 0 --lf --lfnf=none; }
    }; then
        passed="$passed $version"
    else
        failed="$failed $version"
    fi
done

echo "Unit tests by Python: $own by make test; passed:${passed:- none}; failed:${failed:- none};" \
    "not on this machine:${missing:- none}"
[ -z "$failed" ]
