#!/bin/sh
# Installs rabbitmq-server with the system's package manager. `make test` and `make demo` run this
# only where no broker is named, no container engine can run one, and none is installed.
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
                apt-get install -y -q --no-install-recommends rabbitmq-server
    elif command -v dnf >/dev/null 2>&1; then
        as_root dnf install -y rabbitmq-server
    elif command -v brew >/dev/null 2>&1; then
        brew install rabbitmq
    else
        echo "No apt-get, dnf or brew on this machine." >&2
        return 1
    fi
}

echo "No RabbitMQ found: installing rabbitmq-server." >&2
# Output goes to stderr: what the caller prints on stdout may be read by a program.
if ! install_it >&2; then
    cat >&2 <<'END'

rabbitmq-server could not be installed. Provide a RabbitMQ in one of these ways, and try again:
  - name one that runs:         export MQKIT_TEST_URL=amqp://user:password@host/
                                (for the demo: MQKIT_URL)
  - start a Docker engine that has, or can pull, rabbitmq:4.3-management
  - install rabbitmq-server by hand: https://www.rabbitmq.com/docs/download
END
    exit 1
fi
