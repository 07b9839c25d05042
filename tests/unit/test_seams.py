"""Time, randomness, threads and I/O are handed in or the event loop's; what is not has a reason."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.unit.test_layers import ROOT, modules

OUTSIDE = {
    "blocking",
    "checks",
    "cli",
    "console",
    "dead_letters",
    "logging",
    "management",
    "observability",
    "testing",
    "__init__",
    "__main__",
}
"""Parts of mqkit that have no simulation: the blocking publisher is a thread, commands are
processes, what looks at a broker or serves figures or pages is no part of a message's way, and what
is logged changes nothing."""

REAL = (
    "asyncio.new_event_loop",
    "asyncio.SelectorEventLoop",
    "concurrent.futures.ProcessPoolExecutor",
    "concurrent.futures.ThreadPoolExecutor",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "http",
    "multiprocessing",
    "open",
    "os.fork",
    "os.fsync",
    "os.open",
    "os.urandom",
    "random.Random",
    "random.SystemRandom",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "sqlite3.connect",
    "subprocess",
    "threading",
    "time",
    "urllib.request",
    "uuid.uuid1",
    "uuid.uuid4",
)
"""Names of what is real time, chance, threads or I/O; of a module it is all that is in it.

The functions of `random` are not among them: they draw how long something waits, and who wants the
same again seeds them. No id comes from them.
"""

HARMLESS = (
    "socket.SOCK_STREAM",
    "threading.Event",
    "threading.Lock",
    "threading.RLock",
    "threading.get_ident",
    "threading.local",
)
"""Names of these modules that neither wait nor reach anything: a lock that no thread holds is got
at once."""

HANDED_IN = "a default, in whose place another is handed in"

REASONS: dict[str, tuple[str, set[str]]] = {
    "clock.py": (HANDED_IN, {"datetime.datetime.now", "time.monotonic"}),
    "embedded/engine/clock.py": (HANDED_IN, {"time.monotonic", "time.time"}),
    "embedded/engine/durable/file.py": (HANDED_IN, {"os.open", "sqlite3.connect"}),
    "embedded/engine/node.py": (HANDED_IN, {"os.urandom"}),
    "embedded/server/server.py": (HANDED_IN, {"os.urandom"}),
    "embedded/server/thread.py": ("a broker for others, in a thread", {"threading.Thread"}),
    "lifecycle/stalls.py": (
        "measures real time in a thread, and is not started where none is to be",
        {"threading.Thread", "time.monotonic"},
    ),
    "observability/http_server.py": ("the names of status codes", {"http.HTTPStatus"}),
    "publishing/outgoing.py": (HANDED_IN, {"os.urandom", "uuid.uuid4"}),
    "sagas/memory.py": ("for tests without a broker", {"uuid.uuid4"}),
    "sagas/testing.py": ("for tests without a broker", {"uuid.uuid4"}),
    "store/database/postgresql/aborting.py": (
        "breaks a connection to a server, which is not simulated",
        {
            "socket.AF_INET",
            "socket.SHUT_RDWR",
            "socket.SHUT_WR",
            "socket.SOCK_STREAM",
            "socket.fromfd",
            "select.POLLIN",
            "select.POLLOUT",
            "select.poll",
        },
    ),
    "store/database/sqlite/dialect.py": ("makes the file that is handed in private", {"os.open"}),
    "store/database/sqlite/thread.py": (
        "the thread, in whose place `inline` is taken",
        {"threading.Thread", "time.perf_counter"},
    ),
    "store/database/synchronous/engine.py": (
        "waits for a server, which is not simulated, in a thread",
        {"select", "time.monotonic"},
    ),
    "store/synchronous/transaction.py": (HANDED_IN, {"uuid.uuid4"}),
    "store/transaction.py": (HANDED_IN, {"uuid.uuid4"}),
    "system/machine.py": (
        HANDED_IN,
        {
            "concurrent.futures.ThreadPoolExecutor",
            "open",
            "os.open",
            "os.urandom",
            "sqlite3.connect",
            "threading.Thread",
        },
    ),
    "system/signals.py": ("for commands, which are processes", {"signal"}),
}
"""Modules that use what is real, each with why, and what: a name, or a module's all."""


def _names(tree: ast.Module) -> dict[str, str]:
    """Full names of what a module imports, by its names for them."""
    names = {"open": "open"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def used(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Full names of what a module uses of others or of Python, and the lines; no annotations."""
    names = _names(tree)
    part = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        for each in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            part |= {id(inner) for inner in ast.walk(each)} if isinstance(each, ast.AST) else set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute) or id(node) in part:
            continue
        path: list[str] = []
        whole: ast.expr = node
        while isinstance(whole, ast.Attribute):
            path.insert(0, whole.attr)
            whole = whole.value
        if isinstance(whole, ast.Name) and whole.id in names:
            yield ".".join((names[whole.id], *path)), node.lineno


def _is_of(name: str, others: Collection[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in others)


def violations(package: Path) -> list[str]:
    """What is used of what is real, and not for a reason."""
    return [
        f"{path.relative_to(package)}:{line} uses {name}"
        for top, path, tree in modules(package)
        if top not in OUTSIDE
        for name, line in used(tree)
        if _is_of(name, REAL) and name not in HARMLESS
        if not _is_of(name, REASONS.get(path.relative_to(package).as_posix(), ("", set()))[1])
    ]


def test_what_is_real_is_handed_in_or_has_a_reason() -> None:
    """No part of mqkit that can be simulated uses real time, chance, threads or I/O besides."""
    assert violations(ROOT / "mqkit") == []


def test_no_reason_is_left_over() -> None:
    """Each reason is for what its module still uses."""
    left = {
        (path, name)
        for path, (_, names) in REASONS.items()
        for name in names
        if not any(
            _is_of(each, {name}) for each, _ in used(ast.parse((ROOT / "mqkit" / path).read_text()))
        )
    }
    assert left == set()


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.sleep(1)",
        "from time import monotonic as now\nclass Line:\n    def at(self, now=now): ...",
        "import datetime as dt\nf = lambda: dt.datetime.now(dt.UTC)",
        "from uuid import uuid4\n\ndef draw(new=uuid4): ...",
        "import os\nfrom dataclasses import field\nids: bytes = field(default_factory=os.urandom)",
        "import threading\nclass Watch(threading.Thread): ...",
        "def read(path):\n    with open(path) as file:\n        return file.read()",
        "import urllib.request\nurllib.request.urlopen('http://a')",
    ],
)
def test_a_use_of_what_is_real_is_found(source: str, tmp_path: Path) -> None:
    """Called, as a default, under another name, as a base: in whatever way it comes in."""
    package = tmp_path / "mqkit"
    (package / "broker").mkdir(parents=True)
    (package / "broker" / "new.py").write_text(source)
    (package / "cli").mkdir()
    (package / "cli" / "new.py").write_text(source)
    assert len(violations(package)) == 1
