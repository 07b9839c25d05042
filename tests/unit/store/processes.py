"""Processes that open a store at the same time."""

from __future__ import annotations

import os
import subprocess

from tests.forked import Command


def opened_at_once(count: int, *arguments: str) -> None:
    """Let so many processes open a store at once, as `opening.py` has it; none may fail."""
    pipe = subprocess.PIPE
    processes = [
        Command(
            arguments,
            os.environ,
            module="tests.unit.store.opening",
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, errors
