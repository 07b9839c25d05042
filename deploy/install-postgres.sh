#!/bin/sh
# Installs the PostgreSQL server with the system's package manager. `make test` runs this only where
# no server is named, none is installed, and no container engine can run one. The tests start
# private servers of it: what the package itself may start is not used.
set -eu

. "$(dirname "$0")/installing.sh"

echo "No PostgreSQL found: installing its server." >&2
if ! install_it postgresql postgresql-server postgresql@17; then
    cat >&2 <<'END'

The PostgreSQL server could not be installed. Provide one in one of these ways, and try again:
  - name one that runs:         export MQKIT_TEST_POSTGRES=postgresql://user:password@host/postgres
                                (the user must be allowed to create databases)
  - install it by hand:         https://www.postgresql.org/download/
  - start a Docker engine that has, or can pull, postgres:17-alpine
END
    exit 1
fi
