"""The systems that can be measured, and how the program of each is started."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mqkit.errors import ConfigurationError
from tests.benchmarks.side_by_side.registry import PYTHON, ROOT

PROGRAMS = "tests.benchmarks.store.systems"

Group = Literal["hand", "mqkit", "peers", "stages"]
Kind = Literal["postgres", "sqlite"]


@dataclass(frozen=True)
class Entry:
    """A system: how it is called in reports, and its program."""

    name: str
    title: str
    program: str
    kind: str
    """Which of its program's ways to do the work."""
    database: Kind
    group: Group
    is_before: bool = False
    """It runs on the package of an earlier commit."""
    python: str = str(PYTHON)
    tree: Path | None = None
    """Where the earlier package stands."""

    @property
    def command(self) -> list[str]:
        """The words that start its program; -P: the package is the one of PYTHONPATH."""
        return [self.python, "-P", "-m", f"{PROGRAMS}.{self.program}"]

    @property
    def environment(self) -> dict[str, str]:
        """Where it finds mqkit first, and then the programs."""
        paths = [ROOT] if self.tree is None else [self.tree, ROOT]
        return {"PYTHONPATH": ":".join(map(str, paths))}

    @property
    def takes_messages(self) -> bool:
        """Whether it takes them from a broker."""
        return self.group != "hand"

    @property
    def has_outbox(self) -> bool:
        """Whether a relay publishes what its handlers publish."""
        return self.program == "mqkit_store" and self.kind not in {"no-store", "claim", "insert"}

    @property
    def writes_rows(self) -> bool:
        """Whether its handlers write rows of their own."""
        return self.kind not in {"no-store", "claim"}

    @property
    def has_latency(self) -> bool:
        """Whether its latency is measured: that of plain handlers, now and before."""
        return self.program == "mqkit_store" and self.kind == "plain"


STAGES = {"no-store": "no store", "claim": "a transaction", "insert": "and an INSERT"}
"""Kinds of handlers that do less, for what a stage costs."""


def _of_mqkit(database: Kind) -> list[Entry]:
    end = "" if database == "postgres" else "-sqlite"
    where = "" if database == "postgres" else ", SQLite"

    def entry(name: str, title: str, kind: str, group: Group = "mqkit") -> Entry:
        title = f"{title}{where}"
        is_before = "before" in name
        return Entry(f"{name}{end}", title, "mqkit_store", kind, database, group, is_before)

    stages = [
        entry(f"{what}-{kind}", f"{words}: {title}", kind, "stages")
        for what, words in (("before", "before"), ("stage", "now"))
        for kind, title in STAGES.items()
    ]
    return [
        entry("mqkit-before", "mqkit before", "plain"),
        entry("mqkit", "mqkit", "plain"),
        entry("mqkit-wide", "mqkit, 100 at a time", "wide"),
        entry("mqkit-alone", "mqkit, not sharing commits", "alone"),
        entry("mqkit-add", "mqkit, transaction.add", "add"),
        # On SQLite there is no driver's connection that would be faster.
        *([entry("mqkit-driver", "mqkit, INSERT by the driver", "driver")] if not end else []),
        entry("mqkit-def", "mqkit, def handler", "def"),
        entry("mqkit-batch", "mqkit, batch", "batch"),
        entry("mqkit-batch-bulk", "mqkit, batch, one INSERT", "batch-bulk"),
        entry("mqkit-batch-add", "mqkit, batch, transaction.add", "batch-add"),
        *(stages if not end else []),
    ]


def _by_hand(name: str, title: str, kind: str, database: Kind = "postgres") -> Entry:
    return Entry(name, title, "by_hand", kind, database, "hand")


ENTRIES = (
    _by_hand("hand", "by hand, a transaction a message", "single"),
    _by_hand("hand-own", "by hand, 100, own INSERTs single", "own-single"),
    _by_hand("hand-bulk", "by hand, 100, all in bulk", "bulk"),
    *_of_mqkit("postgres"),
    Entry("faststream", "FastStream, INSERT alone", "faststream", "", "postgres", "peers"),
    Entry("celery", "Celery, INSERT alone", "celery", "", "postgres", "peers"),
    _by_hand("hand-sqlite", "by hand, a transaction a message, SQLite", "sqlite-single", "sqlite"),
    _by_hand("hand-bulk-sqlite", "by hand, 100, all in bulk, SQLite", "sqlite-bulk", "sqlite"),
    *_of_mqkit("sqlite"),
)
"""All of them, in the order in which they take their turns."""


def entries(names: Sequence[str], *, before: bool) -> list[Entry]:
    """Those of these names, in the registry's order; all that can be, without names.

    :param before: whether an earlier commit is named
    :raises ConfigurationError: there is none of a name, or it needs an earlier commit
    """
    known = {entry.name: entry for entry in ENTRIES}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise ConfigurationError(f"no system {name!r}; {hint}")
        if known[name].is_before and not before:
            raise ConfigurationError(f"system {name!r} needs an earlier commit: say --before REV")
    if names:
        return [entry for entry in ENTRIES if entry.name in names]
    return [entry for entry in ENTRIES if before or not entry.is_before]


def on(entry: Entry, tree: Path | None, *, here: bool = False) -> Entry:
    """The same system, with the package of an earlier commit if it is one of before.

    :param here: in this Python's own environment, which has no peers
    """
    python = sys.executable if here else entry.python
    return replace(entry, python=python, tree=tree if entry.is_before else None)
