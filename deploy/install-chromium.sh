#!/bin/sh
# Installs Chromium with the system's package manager. The tests of the console and their screenshots
# run this only where there is none. It is driven by Playwright, which brings no browser of its own.
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
                apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core
    elif command -v dnf >/dev/null 2>&1; then
        as_root dnf install -y chromium
    elif command -v brew >/dev/null 2>&1; then
        brew install --cask chromium
    else
        echo "No apt-get, dnf or brew on this machine." >&2
        return 1
    fi
}

echo "No Chromium found: installing it." >&2
# Output goes to stderr: what the caller prints on stdout may be read by a program.
if ! install_it >&2; then
    echo "Chromium could not be installed; install it by hand, or name one that is there by" >&2
    echo "MQKIT_TEST_CHROMIUM=/path/to/chromium" >&2
    exit 1
fi
