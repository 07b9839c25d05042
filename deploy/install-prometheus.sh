#!/bin/sh
# Installs Prometheus, with promtool, with the system's package manager. The test of what it scrapes
# runs this only where there is none. It starts a private one: what the package itself may start is
# not used.
set -eu

. "$(dirname "$0")/installing.sh"

echo "No Prometheus found: installing it." >&2
if ! install_it prometheus golang-github-prometheus prometheus; then
    echo "Prometheus could not be installed; install it by hand: https://prometheus.io/download" >&2
    exit 1
fi
