#!/bin/sh
# Installs Chromium with the system's package manager. The tests of the console and their screenshots
# run this only where there is none. It is driven by Playwright, which brings no browser of its own.
set -eu

. "$(dirname "$0")/installing.sh"

echo "No Chromium found: installing it." >&2
if ! install_it 'chromium fonts-dejavu-core' chromium '--cask chromium'; then
    echo "Chromium could not be installed; install it by hand, or name one that is there by" >&2
    echo "MQKIT_TEST_CHROMIUM=/path/to/chromium" >&2
    exit 1
fi
