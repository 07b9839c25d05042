"""What mqkit takes from the operating system, seen where the parts that Windows lacks are hidden.

What the libraries under it need is imported first: they ask for their own platform. So this shows
that mqkit reaches for nothing that is not there, and that Ctrl-C ends a service by Python's own
handlers. It shows nothing of the loops, sockets, files and consoles that Windows has in the place
of ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

HIDDEN = """
import asyncio, importlib, os, pkgutil, signal, select, subprocess, sys, time, types

# The libraries, and the parts of Python's own that look at the platform when they are imported.
import _pytest.pytester, aio_pika, aiosqlite, asyncpg, concurrent.futures.thread, docker, pika
import logging.handlers, multiprocessing, pytest, rich.console, rich.logging
import jinja2, rich.live, rich.progress, sqlite3, ssl, starlette.applications, tenacity
import testcontainers.core.container, typer, typer.rich_utils
import starlette.staticfiles, typer.testing, uvicorn, uvicorn.config, watchfiles, zoneinfo
import pika.adapters.asyncio_connection, sqlalchemy.dialects.sqlite, sqlalchemy.ext.asyncio
import sqlalchemy.dialects.postgresql.asyncpg, rich.traceback, rich.table

for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "uvloop"):
    sys.modules[name] = None  # an import of it fails, and nothing finds it

KEPT = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"}
for name in [name for name in vars(signal) if name.startswith("SIG") and name not in KEPT]:
    delattr(signal, name)
for name in ("pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt", "sigwait", "alarm"):
    delattr(signal, name)
for name in (
    "O_CLOEXEC O_NONBLOCK fchmod fchown fork forkpty geteuid getgid getuid getpgid getpgrp killpg "
    "mkfifo nice openpty register_at_fork sched_getaffinity setsid statvfs sysconf uname wait"
).split():
    if hasattr(os, name):
        delattr(os, name)
for name in ("poll", "epoll"):
    delattr(select, name)
if hasattr(os, "process_cpu_count"):  # it asks for the affinity; on Windows it is the other one
    os.process_cpu_count = os.cpu_count

def no_handler(*_):
    raise NotImplementedError

asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = no_handler
asyncio.unix_events._UnixSelectorEventLoop.remove_signal_handler = no_handler

msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK = 2
msvcrt.locking = lambda file, mode, count: None
sys.modules["msvcrt"] = msvcrt
sys.platform = "win32"
"""
"""Hides in a process what Windows does not have, once the libraries have been imported."""


def hidden(code: str, *arguments: str, folder: Path = ROOT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HIDDEN + code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill it at the end, if it has not ended by then."""
    try:
        yield
    finally:
        process.kill()


@pytest.fixture(scope="module")
def told() -> tuple[str, str]:
    """What a process prints that imports all of mqkit, and then asks for what cannot work there."""
    process = hidden(IMPORTS + REFUSED)
    out, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    return out, error


IMPORTS = """
import mqkit
assert "mqkit.cli" not in sys.modules
names = {name: getattr(mqkit, name) for name in mqkit.__all__}
from mqkit.store import Store, Transaction
from mqkit.testing import *
modules = [found.name for found in pkgutil.walk_packages(mqkit.__path__, "mqkit.")]
for name in modules:
    importlib.import_module(name)
print(len(names), len(modules))
"""


def test_every_module_can_be_imported(told: tuple[str, str]) -> None:
    """All names of the public surface are there, and all modules, the supervisor's among them."""
    names, modules = map(int, told[0].splitlines()[0].split())
    assert names > 40
    assert modules > 200


SHOP = """
from mqkit import BlockingPublisher, Queue, Retry, Service

service = Service("shop", retry=Retry.never())

@service.handler(Queue("orders"))
async def take(body: int) -> None:
    print("took", body, flush=True)
"""

RUN = """
import socket, threading, traceback
from mqkit import BlockingPublisher, UnroutableError
from mqkit.cli import main
from mqkit.testing.brokers.probe import free_ports

(port,) = free_ports(1)

def publish():
    with BlockingPublisher(f"amqp://127.0.0.1:{port}/") as publisher:
        while True:
            try:
                publisher.publish("", "orders", 7)
                return
            except UnroutableError:
                time.sleep(0.05)  # the queue is there a moment later

def begin():
    try:
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)):
                time.sleep(0.05)
        publish()
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # without its message the service would be waited for in vain

threading.Thread(target=begin, daemon=True).start()
sys.argv = ["mqkit", "run", "shop:service", "--embedded", "--port", str(port)]
main()
"""


def test_a_service_runs_until_ctrl_c(tmp_path: Path) -> None:
    """It handles a message on the embedded broker, and SIGINT drains it; with exit code 0."""
    (tmp_path / "shop.py").write_text(SHOP)
    with hidden(RUN, folder=tmp_path) as process, ended(process):
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(line == "took 7\n" for line in lines), process.communicate()
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "SIGINT: stopping" in log
    assert "shop: stopped" in log
    assert "Traceback" not in log


REFUSED = """
from mqkit.cli import main
for options in (["--processes", "2"], ["--reload"]):
    sys.argv = ["mqkit", "run", "shop:service", "--embedded", *options]
    try:
        main()
    except SystemExit as end:
        print(end.code)
"""


def test_what_cannot_work_there_is_refused_by_name(told: tuple[str, str]) -> None:
    """Several processes, and a new one after a change: with exit code 2, in one line."""
    no_processes = "start `mqkit run` as often as there shall be processes"
    no_reload = "start `mqkit run` again after a change"
    assert told[0].splitlines()[1:] == ["2", "2"]
    assert told[1].splitlines() == [
        f"mqkit: --processes is not there on Windows: {no_processes}",
        f"mqkit: --reload is not there on Windows: {no_reload}",
    ]
