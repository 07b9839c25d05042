#!/bin/sh
# Installs the PostgreSQL server with the system's package manager. `make test` runs this only where
# no server is named, none is installed, and no container engine can run one. The tests start
# private servers of it: what the package itself may start is not used.
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
                apt-get install -y -q --no-install-recommends postgresql
    elif command -v dnf >/dev/null 2>&1; then
        as_root dnf install -y postgresql-server
    elif command -v brew >/dev/null 2>&1; then
        brew install postgresql@17
    else
        echo "No apt-get, dnf or brew on this machine." >&2
        return 1
    fi
}

echo "No PostgreSQL found: installing its server." >&2
# Output goes to stderr: what the caller prints on stdout may be read by a program.
if ! install_it >&2; then
    cat >&2 <<'END'

The PostgreSQL server could not be installed. Provide one in one of these ways, and try again:
  - name one that runs:         export MQKIT_TEST_POSTGRES=postgresql://user:password@host/postgres
                                (the user must be allowed to create databases)
  - install it by hand:         https://www.postgresql.org/download/
  - start a Docker engine that has, or can pull, postgres:17-alpine
END
    exit 1
fi
