#!/bin/sh
# Installs rabbitmq-server with the system's package manager. `make test` and `make demo` run this
# only where no broker is named, no container engine can run one, and none is installed.
set -eu

. "$(dirname "$0")/installing.sh"

echo "No RabbitMQ found: installing rabbitmq-server." >&2
if ! install_it rabbitmq-server rabbitmq-server rabbitmq; then
    cat >&2 <<'END'

rabbitmq-server could not be installed. Provide a RabbitMQ in one of these ways, and try again:
  - name one that runs:         export MQKIT_TEST_URL=amqp://user:password@host/
                                (for the demo: MQKIT_URL)
  - start a Docker engine that has, or can pull, rabbitmq:4.3-management
  - install rabbitmq-server by hand: https://www.rabbitmq.com/docs/download
END
    exit 1
fi
