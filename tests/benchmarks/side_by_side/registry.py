"""The systems that can be measured, and how the program of each is started."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mqkit.errors import ConfigurationError

ROOT = Path(__file__).parents[3]
BENCH = ROOT / ".bench"
"""The peers' own environment, and the Go client; `make bench` makes it."""

PYTHON = BENCH / "venv" / "bin" / "python"
PROGRAMS = "tests.benchmarks.side_by_side.systems"

GO_SOURCE = Path(__file__).parent / "systems" / "go" / "main.go"
GO_PATH = Path("/usr/share/gocode")
"""Where Debian's packages of Go libraries are."""

GO_PACKAGE = GO_PATH / "src" / "github.com" / "rabbitmq" / "amqp091-go"
GO_CLIENT = BENCH / "go" / "client"
GO = "go"


@dataclass(frozen=True)
class Entry:
    """A system: how it is called in reports, and its program."""

    name: str
    title: str
    program: str

    @property
    def command(self) -> list[str]:
        """The words that start its program."""
        if self.name == GO:
            return [str(GO_CLIENT)]
        return [str(PYTHON), "-m", f"{PROGRAMS}.{self.program}"]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it has besides this process's."""
        return {}


ENTRIES = (
    Entry("mqkit", "mqkit", "mqkit_pika"),
    Entry("mqkit-aio-pika", "mqkit on aio-pika", "mqkit_aio_pika"),
    Entry("raw-pika", "pika, raw", "raw_pika"),
    Entry("raw-aio-pika", "aio-pika, raw", "raw_aio_pika"),
    Entry("faststream", "FastStream", "faststream"),
    Entry("dramatiq", "Dramatiq", "dramatiq"),
    Entry("celery", "Celery", "celery"),
    Entry("taskiq", "Taskiq", "taskiq"),
    Entry("kombu", "Kombu", "kombu"),
    Entry(GO, "Go, amqp091", ""),
)
"""All of them, in the order in which they take their turns."""


def entries(names: Sequence[str]) -> list[Entry]:
    """Those of these names, in their order; all without names.

    :raises ConfigurationError: there is none of a name
    """
    known = {entry.name for entry in ENTRIES}
    for name in names:
        if name not in known:
            raise ConfigurationError(f"no system {name!r}; there are {', '.join(sorted(known))}")
    return [entry for entry in ENTRIES if not names or entry.name in names]


def check_python() -> None:
    """See that the peers are there.

    :raises ConfigurationError: they are not
    """
    if not PYTHON.exists():
        raise ConfigurationError(f"there is no {PYTHON.relative_to(ROOT)}: `make bench` makes it")


def build_go() -> str:
    """Build the Go client; returns why it cannot be had, or nothing."""
    go = shutil.which("go")
    if go is None:
        return "go is not installed (Debian: golang-go, golang-github-rabbitmq-amqp091-go-dev)"
    if not GO_PACKAGE.exists():
        return "its library is not installed (Debian: golang-github-rabbitmq-amqp091-go-dev)"
    settings = {
        "GOPATH": str(GO_PATH),
        "GO111MODULE": "off",
        "GOFLAGS": "-mod=mod",
        "GOCACHE": str(BENCH / "go" / "cache"),
    }
    done = subprocess.run(
        [go, "build", "-o", str(GO_CLIENT), str(GO_SOURCE)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"it could not be built: {done.stderr.strip()}" if done.returncode else ""
