#!/bin/sh
# Installs PgBouncer with the system's package manager. `make test` runs this only where there is
# none. The tests start private ones: what the package itself may start is not used.
set -eu

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        echo "Neither root nor sudo: run this as root: $*" >&2
        return 1
    fi
}

install_it() {
    if command -v apt-get >/dev/null 2>&1; then
        as_root apt-get update -q &&
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -q --no-install-recommends pgbouncer
    elif command -v dnf >/dev/null 2>&1; then
        as_root dnf install -y pgbouncer
    elif command -v brew >/dev/null 2>&1; then
        brew install pgbouncer
    else
        echo "No apt-get, dnf or brew on this machine." >&2
        return 1
    fi
}

echo "No PgBouncer found: installing it." >&2
# Output goes to stderr: what the caller prints on stdout may be read by a program.
if ! install_it >&2; then
    echo "PgBouncer could not be installed; install it by hand: https://www.pgbouncer.org" >&2
    exit 1
fi
