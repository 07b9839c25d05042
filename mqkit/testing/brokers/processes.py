"""Lists, freezes and kills all processes of a server, where `killpg` does not reach them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mqkit.errors import MqkitError

PROC = Path("/proc")

FREEZE_TIMEOUT = 10.0
"""Seconds for a tree to stand still; a process in an uninterruptible write takes its time."""


class ProcessTreeError(MqkitError):
    """The processes of a tree could not be listed, or did not do what a signal asks."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as the system lists it; `state` is one letter: T is stopped, Z is dead."""

    pid: int
    parent: int
    state: str


def snapshot() -> dict[int, Process]:
    """List all processes of this machine, by their id.

    :raises ProcessTreeError: there is neither a /proc nor a `ps`
    """
    rows = _of_proc() if (PROC / "self" / "stat").is_file() else _of_ps()
    return {row.pid: row for row in rows}


def is_alive(pid: int) -> bool:
    """Tell whether there is such a process; one that only waits to be reaped is dead."""
    found = snapshot().get(pid)
    return found is not None and found.state != "Z"


def tree(root: int) -> list[int]:
    """List a process and all its descendants that are alive, the root first."""
    processes = snapshot()
    found = [root] if root in processes else []
    for pid in found:
        found += [each.pid for each in processes.values() if each.parent == pid]
    return [pid for pid in found if processes[pid].state != "Z"]


def freeze(root: int) -> list[int]:
    """Stop (SIGSTOP) a process and all its descendants; returns them when all stand still.

    The root goes first, so that it starts no more of them meanwhile.

    :raises ProcessTreeError: they did not stop within `FREEZE_TIMEOUT`
    """
    deadline = time.monotonic() + FREEZE_TIMEOUT
    send([root], signal.SIGSTOP)
    while True:
        pids = tree(root)
        send(pids, signal.SIGSTOP)
        processes = snapshot()
        # One that it forked in its last moment is not among `pids`, and comes in the next turn.
        if set(tree(root)) <= set(pids) and all(
            processes[pid].state in "TZ" for pid in pids if pid in processes
        ):
            return pids
        if time.monotonic() > deadline:
            raise ProcessTreeError(f"process {root} did not stop within {FREEZE_TIMEOUT:.0f} s")
        time.sleep(0.005)


def kill(pids: Iterable[int]) -> None:
    """SIGKILL the processes; returns when they are gone.

    :raises ProcessTreeError: they did not end within `FREEZE_TIMEOUT`
    """
    left = list(pids)
    send(left, signal.SIGKILL)
    deadline = time.monotonic() + FREEZE_TIMEOUT
    while True:
        processes = snapshot()
        left = [pid for pid in left if pid in processes and processes[pid].state != "Z"]
        if not left:
            return
        if time.monotonic() > deadline:
            raise ProcessTreeError(f"processes {left} did not end within {FREEZE_TIMEOUT:.0f} s")
        time.sleep(0.005)


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those of the processes that are there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _of_proc() -> Iterable[Process]:
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            text = (entry / "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # proc(5): the name, in parentheses, may hold any character.
        state, parent = text.rpartition(")")[2].split()[:2]
        yield Process(int(entry.name), int(parent), state)


def _of_ps() -> Iterable[Process]:
    try:
        done = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,state="],  # noqa: S607 - POSIX has it on every PATH
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as exc:
        raise ProcessTreeError(f"cannot list processes: {exc}; install ps") from exc
    for line in done.stdout.splitlines():
        pid, parent, state = line.split()
        yield Process(int(pid), int(parent), state[0])
