"""Does every case fail when its rule is broken? Break the embedded broker, and see.

    python -m tests.conformance.mutation                 # until every case has been shown to fail
    python -m tests.conformance.mutation --sample 300    # how many of 300 mutations are noticed
    python -m tests.conformance.mutation --module engine.routing,session.basic --sample 50

Each mutation changes one place of one module (a comparison, a constant, a condition, a statement
that is left out). A child process imports the broker with that change and runs the cases that
come by that place. A case counts as shown when a mutation fails it that leaves most others whole:
one that breaks the handshake fails everything, and shows nothing.

A case that hangs is given up early, and asked once more with patience before it counts. With
`--table PATH` each mutation's result is kept, and a later run goes on from there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import logging
import os
import random
import select
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.mutants import Mutant, mutants
from tests.conformance.suite import runner
from tests.conformance.suite.clients import CLIENTS
from tests.conformance.suite.env import Session, Target
from tests.conformance.suite.suite import Case, collect

PACKAGE = "mqkit.embedded"

FOLDER = Path(__file__).parents[2] / "mqkit" / "embedded"

SUITE = Path(__file__).parent / "suite"

LEFT_OUT = ("errors", "server", "engine.durable", "engine.memory", "session.turns")
"""Modules and packages without rules of AMQP in them; they have tests of their own."""

CLIENT_LABELS = ("pika raw", "pika", "bytes")

PATIENCE = 0.7
"""Seconds that a case may take on a mutant, beside three times what it takes without one."""

SURE = 5.0
"""The same, for a case that hung and would be shown by that: a busy machine hangs, too."""

CLOSING = 0.5
"""Seconds to clear up after a case on a mutant, which hangs where the case did."""

UNHURRIED = 30.0
"""Seconds for a case on the broker as it is, with each line that runs noted."""

HANGS = 6
"""Cases that may hang on a mutant; what hangs more of them breaks no rule of theirs."""

MUTANT_TIMEOUT = 60.0
"""Seconds for all cases on one mutant."""

OTHERS = 40
"""Cases that are run beside those in question, to see how much else a mutation breaks."""

SPECIFIC = 0.15
"""Of the cases: a mutation that fails more of them is about no rule of theirs."""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from changed source."""

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = source

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def exec_module(self, module: types.ModuleType) -> None:
        exec(compile(self._source, self._name, "exec"), module.__dict__)  # noqa: S102 - its purpose


def name_of(path: Path) -> str:
    """The dotted name of a module below `mqkit.embedded`; a package's is that of its folder."""
    parts = path.relative_to(FOLDER).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_in(module: str, names: Sequence[str]) -> bool:
    """True if a module is one of these, or in a package that is."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def modules(wanted: Sequence[str]) -> dict[str, Path]:
    """The modules to break, by name: all but `LEFT_OUT`, of those wanted where some are.

    :raises ValueError: nothing is there by a name that is wanted
    """
    found = {
        name_of(path): path
        for path in sorted(FOLDER.rglob("*.py"))
        if path.name != "__init__.py" and not is_in(name_of(path), LEFT_OUT)
    }
    for name in wanted:
        if not any(is_in(module, [name]) for module in found):
            raise ValueError(f"no module to break is {PACKAGE}.{name}, or in it")
    return {name: path for name, path in found.items() if not wanted or is_in(name, wanted)}


@dataclass(frozen=True)
class Seen:
    """What the whole broker shows: each case's seconds, and the places that it comes by."""

    seconds: dict[str, float]
    places: dict[str, frozenset[tuple[str, int]]]


class _Tracer:
    """Notes the lines of the broker that run, in the threads that start after it."""

    def __init__(self) -> None:
        self.lines: set[tuple[str, int]] = set()
        self._names: dict[str, str] = {}
        """Of the broker's modules, by their paths; none for those of others."""

    def start(self) -> None:
        """Trace threads from now on."""
        threading.settrace(self._trace)

    def take(self) -> list[tuple[str, int]]:
        """What ran since the last time."""
        lines, self.lines = self.lines, set()
        return sorted(lines)

    def _trace(self, frame: types.FrameType, event: str, _: object) -> Any:
        module = self._names.get(path := frame.f_code.co_filename)
        if module is None:
            is_ours = Path(path).is_relative_to(FOLDER)
            module = self._names[path] = name_of(Path(path)) if is_ours else ""
        if not module:
            return None
        if event == "line":
            self.lines.add((module, frame.f_lineno))
        return self._trace


def child(
    mutant: Mutant | None, cases: Sequence[Case], seen: Seen | None, patience: float, write: int
) -> None:
    """Run the cases on a mutant, in a process of its own; a line for each result."""
    for name in [n for n in sys.modules if n == PACKAGE or n.startswith(PACKAGE + ".")]:
        del sys.modules[name]
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(f"{PACKAGE}.{mutant.module}", mutant.source()))
    logging.disable(logging.CRITICAL)
    out = os.fdopen(write, "w", buffering=1)
    with open(os.devnull, "w") as null:  # noqa: PTH123 - not a file
        os.dup2(null.fileno(), 2)
    embedded = importlib.import_module(PACKAGE)
    tracer = _Tracer() if seen is None else None
    if tracer is not None:
        tracer.start()

    def tell(*result: object) -> None:
        out.write(json.dumps(result) + "\n")

    async def go() -> None:
        with embedded.ServerThread() as server:
            target = Target("embedded", server.url, "", server.advance)
            for label in CLIENT_LABELS:
                client = CLIENTS[label]
                session = Session(target, client.connect)
                for case in cases:
                    if case.about == client.about:
                        limit = patience + 3 * seen.seconds[case.id] if seen else patience
                        closing = CLOSING if seen else runner.CLOSE_TIMEOUT
                        result = await runner.run_case(
                            session, client, case, timeout=limit, closing=closing
                        )
                        has_hung = result.verdict == "failed" and result.seconds >= limit
                        if has_hung:  # and may have left its connection in a state of its own
                            session = Session(target, client.connect)
                        lines = tracer.take() if tracer else []
                        verdict = "hung" if has_hung else result.verdict
                        tell(case.id, verdict, result.seconds, lines)
        tell("", "end", 0, [])

    asyncio.run(go())


def results(
    mutant: Mutant | None, cases: Sequence[Case], seen: Seen | None, patience: float
) -> Iterator[tuple[str, str, float, list[tuple[str, int]]]]:
    """What a child tells, line by line; its end is one too, where it came to it."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        with contextlib.suppress(BaseException):
            os.close(read)
            child(mutant, cases, seen, patience, write)
        os._exit(0)
    os.close(write)
    deadline = time.monotonic() + (MUTANT_TIMEOUT if seen else 10 * MUTANT_TIMEOUT)
    rest = b""
    try:
        while time.monotonic() < deadline:
            if not select.select([read], [], [], 0.5)[0]:
                continue
            data = os.read(read, 1 << 20)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield tuple(json.loads(line))
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def look(cases: Sequence[Case]) -> tuple[Seen, list[str]]:
    """Run the cases on the broker as it is; also returns those that fail or are lacking there."""
    seen, out = Seen({}, {}), []
    for case, verdict, seconds, lines in results(None, cases, None, UNHURRIED):
        if verdict in ("failed", "hung", "lacks"):
            out.append(case)
        seen.seconds[case] = seconds
        seen.places[case] = frozenset((module, line) for module, line in lines)
    return seen, out


class Table:
    """The results of mutations in a file, a line each, for the run that goes on from there.

    Those of another broker or suite are thrown away.
    """

    def __init__(self, path: Path) -> None:
        self.known: dict[str, tuple[list[str], bool]] = {}
        """By a mutant's key: the cases that failed on it, and whether it was broad."""
        self._path, self._lock = path, threading.Lock()
        head = json.dumps({"of": digest()})
        lines = path.read_text().splitlines() if path.exists() else []
        rows = [line for line in lines[1:] if is_row(line)] if lines[:1] == [head] else []
        path.write_text("".join(f"{line}\n" for line in [head, *rows]))
        for line in rows:
            key, failed, broad, _ = json.loads(line)
            self.known[key] = failed, broad

    def keep(self, mutant: Mutant) -> None:
        """Write down the result of one mutant."""
        what = f"{mutant.module}:{mutant.line} {mutant.change}"
        row = json.dumps([mutant.key, mutant.failed, mutant.broad, what])
        with self._lock, self._path.open("a") as file:
            file.write(f"{row}\n")


def is_row(line: str) -> bool:
    """False for a line that a run was writing when it was ended."""
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def digest() -> str:
    """What a result is of: the broker and the suite."""
    found = hashlib.sha256()
    for path in sorted([*FOLDER.rglob("*.py"), *SUITE.rglob("*.py")]):
        found.update(path.read_bytes())
    return found.hexdigest()


class Hunt:
    """Breaks one place after the other, the least visited first, until every case has failed."""

    def __init__(self, cases: Sequence[Case], seen: Seen, table: Table | None = None) -> None:
        self._table = table
        self.cases = {case.id: case for case in cases}
        self.tried: list[Mutant] = []
        self.shown: dict[str, Mutant] = {}
        self._seen = seen
        self._visitors: dict[tuple[str, int], list[str]] = {}
        for case in cases:
            for place in seen.places[case.id]:
                self._visitors.setdefault(place, []).append(case.id)

    def visitors(self, mutant: Mutant) -> list[str]:
        """The cases that come by its place; all, for what runs when the module is imported."""
        return self._visitors.get((mutant.module, mutant.line)) or (
            list(self.cases) if mutant.at_import else []
        )

    def try_(self, mutant: Mutant, *, every: bool = False) -> None:
        """Run it, unless it can show nothing new."""
        visitors = self.visitors(mutant)
        asked = [case for case in visitors if every or case not in self.shown]
        if not asked:
            return
        others = [case for case in visitors if case not in asked]
        others = random.Random(mutant.line).sample(others, min(OTHERS, len(others)))
        chosen = [self.cases[case] for case in self.cases if case in {*asked, *others}]
        self._run(mutant, chosen)
        self.tried.append(mutant)
        # What fails the cases beside them as well is about no rule of theirs.
        if not mutant.broad:
            mutant.broad = sum(case in others for case in mutant.failed) > OTHERS * SPECIFIC
        self._show(mutant)
        if self._table is not None:
            self._table.keep(mutant)

    def recall(self, mutant: Mutant, failed: Sequence[str], *, broad: bool) -> None:
        """Take a result of an earlier run for its own."""
        mutant.failed, mutant.broad = list(failed), broad
        self.tried.append(mutant)
        self._show(mutant)

    def _run(self, mutant: Mutant, cases: Sequence[Case]) -> None:
        too_many = max(len(self.cases) * SPECIFIC, 1)
        mutant.broad = True
        hung: list[str] = []
        for case, verdict, _, _ in results(mutant, cases, self._seen, PATIENCE):
            if verdict == "end":
                mutant.broad = False
            elif verdict in ("failed", "hung"):
                mutant.failed.append(case)
                hung += [case] * (verdict == "hung")
                if len(mutant.failed) > too_many or len(hung) > HANGS:
                    return
        unsure = [case for case in hung if case not in self.shown]
        if mutant.broad or not unsure:
            return
        asked = [self.cases[case] for case in unsure]
        again = {case: told for case, told, _, _ in results(mutant, asked, self._seen, SURE)}
        mutant.failed = [c for c in mutant.failed if again.get(c, "failed") in ("failed", "hung")]

    def _show(self, mutant: Mutant) -> None:
        if mutant.broad:
            return
        for case in mutant.failed:
            best = self.shown.get(case)
            if best is None or len(mutant.failed) < len(best.failed):
                self.shown[case] = mutant


def main() -> int:
    """Run, and print what was found; exit code 1 if a case was never shown to fail."""
    options = parser().parse_args()
    try:
        chosen = modules(options.module)
    except ValueError as error:
        say(str(error))
        return 2
    every = collect()
    seen, out = look(every)
    known = {client.about for client in (CLIENTS[label] for label in CLIENT_LABELS)}
    cases = [case for case in every if case.id not in out and case.about in known]
    if missing := [case.id for case in cases if case.id not in seen.places]:
        say(f"the broker as it is did not come to the end; first missing: {missing[0]}")
        return 1
    if out:
        say(f"left out, as they fail or are lacking on the broker as it is: {', '.join(out)}")
    found = [mutant for name, path in chosen.items() for mutant in mutants(name, path.read_text())]
    say(f"{len(cases)} cases, {len(found)} possible mutations")
    table = Table(options.table) if options.table else None
    hunt = Hunt(cases, seen, table)
    if table is not None:
        for mutant in found:
            if (result := table.known.get(mutant.key)) is not None:
                hunt.recall(mutant, result[0], broad=result[1])
        found = [mutant for mutant in found if mutant.key not in table.known]
        say(f"{len(hunt.tried)} of them have run before, {len(hunt.shown)} cases shown by them")
    if options.sample:
        found = random.Random(options.seed).sample(found, min(options.sample, len(found)))
    else:
        found.sort(key=lambda mutant: (mutant.at_import, len(hunt.visitors(mutant))))
    begun = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(hunt.try_, mutant, every=bool(options.sample)) for mutant in found]
        for done, job in enumerate(jobs, 1):
            job.result()
            if done % 200 == 0:
                say(f"{done} after {time.monotonic() - begun:.0f} s, {len(hunt.shown)} shown")
    return report(hunt, options)


def report(hunt: Hunt, options: argparse.Namespace) -> int:
    """Print the figures."""
    survived = [mutant for mutant in hunt.tried if not mutant.failed and not mutant.broad]
    if options.json:
        best = {case: hunt.shown.get(case) for case in hunt.cases}
        rows = {
            "cases": {
                case: None if mutant is None else {**vars(mutant), "source": None}
                for case, mutant in best.items()
            },
            "survived": [f"{m.module}:{m.line} {m.change}" for m in survived],
        }
        Path(options.json).write_text(json.dumps(rows, indent=1))
    few = sorted(len(mutant.failed) for mutant in hunt.shown.values())
    noticed = len(hunt.tried) - len(survived)
    say(f"mutations run: {len(hunt.tried)}, noticed: {noticed}, not: {len(survived)}")
    say(f"cases: {len(hunt.cases)}, shown to fail: {len(hunt.shown)}")
    if few:
        say(
            f"  by a mutation that fails no other case: {few.count(1)}; at the median by one that "
            f"fails {few[len(few) // 2]}, at most {few[-1]}"
        )
    missing = [case for case in hunt.cases if case not in hunt.shown]
    for case in missing:
        say(f"  never shown: {case}")
    return 1 if missing and not options.sample else 0


def say(line: str) -> None:
    """Print a line now, not when a buffer is full."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--module",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAMES",
        help="modules or packages of mqkit.embedded, as wire,engine.queue; default: all",
    )
    options.add_argument("--sample", type=int, default=0, help="so many mutations, at random")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--jobs", type=int, default=2, help="processes at a time")
    options.add_argument("--table", type=Path, help="keep the results there, and go on from it")
    options.add_argument("--json", default="", help="write cases and survivors to this file")
    return options


if __name__ == "__main__":
    sys.exit(main())
