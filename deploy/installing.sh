# Installs packages with the system's package manager; deploy/install-*.sh read this file.

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

# install_it APT DNF BREW: what each of them calls it; words are split, for several packages.
# Output goes to stderr: what the caller prints on stdout may be read by a program.
# shellcheck disable=SC2086
install_it() {
    if command -v apt-get >/dev/null 2>&1; then
        # Tests that run side by side install what each needs: one waits for the other, which
        # apt's update does not. For whatever else installs something, its install waits.
        as_root flock "${TMPDIR:-/tmp}/mqkit-installing.lock" \
            env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update -q &&
                apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "$@"' \
            sh $1
    elif command -v dnf >/dev/null 2>&1; then
        as_root dnf install -y $2
    elif command -v brew >/dev/null 2>&1; then
        brew install $3
    else
        echo "No apt-get, dnf or brew on this machine." >&2
        return 1
    fi >&2
}
