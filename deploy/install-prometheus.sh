#!/bin/sh
# Installs Prometheus, with promtool, with the system's package manager. The test of what it scrapes
# runs this only where there is none. It starts a private one: what the package itself may start is
# not used.
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
                apt-get install -y -q --no-install-recommends prometheus
    elif command -v dnf >/dev/null 2>&1; then
        as_root dnf install -y golang-github-prometheus
    elif command -v brew >/dev/null 2>&1; then
        brew install prometheus
    else
        echo "No apt-get, dnf or brew on this machine." >&2
        return 1
    fi
}

echo "No Prometheus found: installing it." >&2
# Output goes to stderr: what the caller prints on stdout may be read by a program.
if ! install_it >&2; then
    echo "Prometheus could not be installed; install it by hand: https://prometheus.io/download" >&2
    exit 1
fi
