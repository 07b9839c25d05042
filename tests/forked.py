"""Runs `python -m mqkit` in processes that are forked from one that has imported it.

    process = Command(["run", "shop:service"], env={**os.environ, "MQKIT_URL": url})

To start Python and import mqkit with what its commands need takes 0.8 s of processor time, and to
fork milliseconds. Each command is a process of its own all the same, with its environment, signals,
output and exit code; `python -m tests.forked` is the one that forks, one for each test process.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent

PRELOADED = (
    "aiosqlite",
    "asyncpg",
    "mqkit.cli.app",
    "mqkit.drivers.pika.driver",
    "mqkit.store",
    "mqkit.testing.brokers",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.ext.asyncio",
    "uvloop",
)
"""What commands import, perhaps not before they run."""

_NUMBER = struct.Struct("!q")

_PATH = "PYTHONPATH"
"""Python looks there when it starts: for `sitecustomize`, say."""


class Command(subprocess.Popen[str]):
    """A `mqkit` command in a process of its own, as `subprocess.Popen` shows it."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], **options: Any) -> None:
        """Start it.

        :param arguments: those after `python -m mqkit`
        :param env: its environment; one with another PYTHONPATH, say, is a Python that starts anew
        :param options: Popen's: `cwd`, `stdin`, `stdout`, `stderr`, `process_group`; with
            `preexec_fn` it is a Python that starts anew
        """
        self._told: socket.socket | None = None
        usual: dict[str, Any] = {"cwd": _ROOT, "stdin": subprocess.DEVNULL, "text": True}
        command = [sys.executable, "-m", "mqkit", *arguments]
        super().__init__(command, env=env, **(usual | options))

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        """Ask for a fork, where Popen forks by itself."""
        popen: Any = super()
        cwd, env, *_ = rest[2:]
        if preexec_fn is not None or env.get(_PATH) != os.environ.get(_PATH):
            popen._execute_child(args, executable, preexec_fn, *rest)
            return
        pipes = rest[7:13]
        request = {
            "arguments": args[3:],
            "cwd": os.fspath(cwd),
            "env": dict(env),
            "group": rest[-1],  # -1 for the tests' own
        }
        ends = (pipes[0], pipes[3], pipes[5])
        streams = [own if end == -1 else end for own, end in enumerate(ends)]
        self._told = _forker().fork(request, streams)
        self.pid = self._next()
        self._child_created = True
        popen._close_pipe_fds(*pipes)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Ask for its end, where Popen asks the operating system, whose child it is not."""
        if self._told is None:
            popen: Any = super()
            pid, status = popen._try_wait(wait_flags)
            return int(pid), int(status)
        if wait_flags & os.WNOHANG and not select.select([self._told], [], [], 0)[0]:
            return 0, 0
        status = self._next()
        self._told.close()
        return self.pid, status

    def _internal_poll(self, *_: object, **__: object) -> int | None:
        popen: Any = super()
        if self.returncode is None and self._child_created:
            pid, status = self._try_wait(os.WNOHANG)
            if pid == self.pid:
                popen._handle_exitstatus(status)
        return self.returncode

    def _next(self) -> int:
        assert self._told is not None
        told = self._told.recv(_NUMBER.size, socket.MSG_WAITALL)
        assert len(told) == _NUMBER.size, "the process that forks commands has ended"
        return int(_NUMBER.unpack(told)[0])


def finished(arguments: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with its output."""
    pipe = subprocess.PIPE
    with Command(arguments, env, stdout=pipe, stderr=pipe) as process:
        try:
            out, error = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


class Forker:
    """The test's end of the process that forks commands."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def fork(self, request: Mapping[str, object], streams: Sequence[int]) -> socket.socket:
        """Let it fork a command; returns where the process id and then the status is told."""
        ours, theirs = socket.socketpair()
        words = json.dumps(request).encode()
        with theirs, self._lock:
            size = _NUMBER.pack(len(words))
            socket.send_fds(self._ours, [size], [theirs.fileno(), *streams])
            self._ours.sendall(words)
        return ours

    def end(self) -> None:
        """End it; what it has forked lives on."""
        self._ours.close()
        self._process.wait()


@functools.cache
def _forker() -> Forker:
    forker = Forker()
    atexit.register(forker.end)
    return forker


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork commands until the test ends; returns in each child, what it is to run."""
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test, which then ends
    signal.set_wakeup_fd(waker.fileno())
    children: dict[int, socket.socket] = {}
    while True:
        readable, _, _ = select.select([control, woken], [], [])
        if woken in readable:
            woken.recv(4096)
            _reap(children)
        if control not in readable:
            continue
        size, descriptors, _, _ = socket.recv_fds(control, _NUMBER.size, 4)
        if not size:
            return None
        words = control.recv(_NUMBER.unpack(size)[0], socket.MSG_WAITALL)
        told = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for end in (control, woken, waker, told, *children.values()):
                end.close()
            for number, descriptor in enumerate(descriptors[1:]):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return dict(json.loads(words))
        told.send(_NUMBER.pack(pid))
        children[pid] = told
        for descriptor in descriptors[1:]:
            os.close(descriptor)


def _reap(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with contextlib.suppress(OSError), children.pop(pid) as told:  # nobody may ask any more
            told.send(_NUMBER.pack(status))


def main() -> None:
    """Import everything and fork commands; in a child, run one as Python does."""
    for module in PRELOADED:
        importlib.import_module(module)
    assert threading.active_count() == 1, "a thread would not live on in the children"
    # What is there now is not collected in the children, which would copy its pages.
    gc.collect()
    gc.freeze()
    command = serve(socket.socket(fileno=int(sys.argv[1])))
    if command is not None:
        os.environ.clear()
        os.environ.update(command["env"])
        if command["group"] != -1:
            os.setpgid(0, command["group"])
        os.chdir(command["cwd"])
        sys.path[0] = command["cwd"]
        sys.argv = ["mqkit", *command["arguments"]]
        runpy.run_module("mqkit", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
