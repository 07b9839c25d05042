#!/bin/sh
# Installs PgBouncer with the system's package manager. `make test` runs this only where there is
# none. The tests start private ones: what the package itself may start is not used.
set -eu

. "$(dirname "$0")/installing.sh"

echo "No PgBouncer found: installing it." >&2
if ! install_it pgbouncer pgbouncer pgbouncer; then
    echo "PgBouncer could not be installed; install it by hand: https://www.pgbouncer.org" >&2
    exit 1
fi
