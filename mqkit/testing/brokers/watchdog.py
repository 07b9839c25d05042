"""Cleans up after this process if it ends without doing so itself."""

from __future__ import annotations

import subprocess


class Watchdog:
    """Runs a shell command if this process ends, in whatever way, before `dismiss`.

    A `finally` does not run after SIGKILL, `os._exit` or an unhandled SIGTERM, and a broker left
    behind holds memory, ports and disk until somebody looks. The watchdog is a shell that waits
    for the end of its standard input, which the kernel closes with the process that holds it.
    """

    def __init__(self, command: str) -> None:
        self._shell = subprocess.Popen(
            # `read` is built in: a `cat` would be a second process to end.
            ["/bin/sh", "-c", f"while read -r _; do :; done\n{command}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C signals the whole foreground group; the watchdog must outlive it.
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End the watchdog without running its command; may be called twice."""
        if self._shell.poll() is None:
            self._shell.kill()
            self._shell.wait()
        if self._shell.stdin is not None:
            self._shell.stdin.close()
