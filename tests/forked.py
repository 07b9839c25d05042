"""Runs `python -m mqkit` in processes that are forked from one that has imported it.

    process = Command(["run", "shop:service"], env={**os.environ, "MQKIT_URL": url})

To start Python and import mqkit with what its commands need takes 0.8 s of processor time, and to
fork milliseconds. Each command is a process of its own all the same, with its environment, signals,
output and exit code; `python -m tests.forked` is the one that forks, one for each test process.
`in_shell` writes a script that does the same for a shell.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import runpy
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        *,
        module: str = "mqkit",
        **options: Any,
    ) -> None:
        """Start it.

        :param arguments: those after `python -m mqkit`
        :param env: its environment; one with another PYTHONPATH, say, is a Python that starts anew
        :param options: Popen's: `cwd`, `stdin`, `stdout`, `stderr`, `process_group`; with
            `preexec_fn` it is a Python that starts anew
        :param module: another one than mqkit, which is imported in the fork
        """
        self._told: socket.socket | None = None
        usual: dict[str, Any] = {"cwd": _ROOT, "stdin": subprocess.DEVNULL, "text": True}
        command = [sys.executable, "-m", module, *arguments]
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
            "arguments": args[1:],
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


def finished(
    arguments: Sequence[str], env: Mapping[str, str], *, within: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with its output.

    :param within: seconds; then it is killed
    :param options: as `Command` has them
    """
    pipe = subprocess.PIPE
    with Command(arguments, env, stdout=pipe, stderr=pipe, **options) as process:
        try:
            out, error = process.communicate(timeout=within)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


class Forker:
    """The test's end of the process that forks commands."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="mqkit-forked-")
        self.address = f"{self._folder.name}/socket"
        """Where it is asked by what is no child of the test."""
        with theirs, socket.socket(socket.AF_UNIX) as asked:
            asked.bind(self.address)
            asked.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno()), str(asked.fileno())],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), asked.fileno()],
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
        self._folder.cleanup()


@functools.cache
def _forker() -> Forker:
    forker = Forker()
    atexit.register(forker.end)
    return forker


def in_shell(script: Path) -> None:
    """Write a script that is the `mqkit` of a shell; of its PYTHONPATH, modules are found."""
    stub = Path(__file__).with_name("forked_stub.py")
    words = [sys.executable, "-ISs", str(stub), _forker().address, "-m", "mqkit"]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o755)


@dataclass
class Request:
    """What is to be forked."""

    words: dict[str, Any]
    streams: list[int]
    """The descriptors of its standard input, output and error."""
    told: socket.socket
    """Where its process id is told, and its status once it has ended."""
    is_shells: bool
    """A script in a shell asks: who kills that means the command."""


class Children:
    """The processes that were forked, until they have ended."""

    def __init__(self) -> None:
        self._told: dict[int, socket.socket] = {}
        self.stubs: dict[socket.socket, int] = {}
        """Scripts that wait for one; they write nothing, so that one to read from has ended."""

    def add(self, pid: int, request: Request) -> None:
        """Tell who asked for one which process it is."""
        self._told[pid] = request.told
        if request.is_shells:
            self.stubs[request.told] = pid
        for descriptor in request.streams:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # nobody may ask any more
            request.told.send(_NUMBER.pack(pid))

    def close(self) -> None:
        """Leave them to the process that has forked them: this one is a child."""
        for told in self._told.values():
            told.close()

    def kill(self, ended: socket.socket) -> None:
        """Kill the command whose script was killed."""
        os.kill(self.stubs.pop(ended), signal.SIGKILL)

    def reap(self) -> None:
        """Tell of those that have ended."""
        while self._told:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            told = self._told.pop(pid)
            self.stubs.pop(told, None)
            with contextlib.suppress(OSError), told:  # as above
                told.send(_NUMBER.pack(status))


def serve(control: socket.socket, asked: socket.socket) -> dict[str, Any] | None:
    """Fork commands until the test ends; returns in each child, what it is to run."""
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test, which then ends
    signal.set_wakeup_fd(waker.fileno())
    children = Children()
    while True:
        readable, _, _ = select.select([control, asked, woken, *children.stubs], [], [])
        for stub in [each for each in readable if each in children.stubs]:
            children.kill(stub)
        if woken in readable:
            woken.recv(4096)
            children.reap()
        if asked in readable:
            request = _received(asked.accept()[0], is_shells=True)
            if request is None:  # its script was killed before it could ask
                continue
        elif control in readable:
            request = _received(control)
            if request is None:
                return None
        else:
            continue
        pid = os.fork()
        if pid == 0:
            children.close()
            for end in (control, asked, woken, waker, request.told):
                end.close()
            return _begun(request)
        children.add(pid, request)


def _begun(request: Request) -> dict[str, Any]:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(request.streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    return request.words


def _received(source: socket.socket, *, is_shells: bool = False) -> Request | None:
    size, descriptors, _, _ = socket.recv_fds(source, _NUMBER.size, 4)
    if not size:
        return None
    words = json.loads(source.recv(_NUMBER.unpack(size)[0], socket.MSG_WAITALL))
    told = source if is_shells else socket.socket(fileno=descriptors.pop(0))
    return Request(words, descriptors, told, is_shells)


def main() -> None:
    """Import everything and fork commands; in a child, run one as Python does."""
    for module in PRELOADED:
        importlib.import_module(module)
    assert threading.active_count() == 1, "a thread would not live on in the children"
    # What is there now is not collected in the children, which would copy its pages.
    gc.collect()
    gc.freeze()
    command = serve(*(socket.socket(fileno=int(number)) for number in sys.argv[1:]))
    if command is not None:
        os.environ.clear()
        os.environ.update(command["env"])
        if command["group"] != -1:
            os.setpgid(0, command["group"])
        os.chdir(command["cwd"])
        more = command["env"].get(_PATH, "").split(os.pathsep)
        # The first one is where this process was started, which the command knows nothing of.
        others = sys.path[1:]
        sys.path[:] = [
            command["cwd"],
            *(path for path in more if path not in ("", *others)),
            *others,
        ]
        if "PYTHONUNBUFFERED" in command["env"]:
            assert isinstance(sys.stdout, io.TextIOWrapper)
            sys.stdout.reconfigure(write_through=True)
        _, module, *arguments = command["arguments"]
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
