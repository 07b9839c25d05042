"""The exit codes of the commands; 0 is done."""

FAILED = 1
"""The exit code of a command that did not do what it was asked for."""

CALLED_WRONGLY = 2
"""The exit code of a command that was called wrongly, or with a service that is."""

INTERRUPTED = 130
"""The exit code of a command that SIGINT ended: 128 and the signal's number, as shells have it."""
