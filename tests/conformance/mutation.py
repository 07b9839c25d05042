"""Does every case fail when its rule is broken? Break the embedded broker, and see.

    python -m tests.conformance.mutation                 # all of it, some 20 minutes on two cores
    python -m tests.conformance.mutation --module queue --sample 50

Each mutation changes one place of one module (a comparison, a constant, a condition, a statement
that is left out). A child process imports the broker with that change and runs the cases on it.
A case counts as shown when at least one mutation fails it that leaves most other cases whole:
one that breaks the handshake fails everything, and shows nothing.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import json
import logging
import os
import random
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mqkit.testing.conformance import runner
from mqkit.testing.conformance.clients import CLIENTS
from mqkit.testing.conformance.env import Target
from mqkit.testing.conformance.suite import Case, collect

PACKAGE = "mqkit.embedded"

FOLDER = Path(__file__).parents[2] / "mqkit" / "embedded"

LEFT_OUT = ("__init__", "server", "peer", "thread", "store", "journal", "errors")
"""Modules without rules of AMQP in them; they have tests of their own."""

CLIENT_LABELS = ("pika raw", "pika", "bytes")

CASE_TIMEOUT = 1.5
"""Seconds; on a whole broker a case takes a hundredth of that."""

MUTANT_TIMEOUT = 40.0
"""Seconds for all cases on one mutant."""

SPECIFIC = 0.15
"""Of the cases: a mutation that fails more of them is about no rule of theirs."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


@dataclass
class Mutant:
    """One changed place, and the cases that failed on it."""

    module: str
    line: int
    change: str
    source: str = field(repr=False)
    failed: list[str] = field(default_factory=list)
    broad: bool = False
    """The child was ended: it failed too much, or hung."""


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Each way to change one place."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    }
    for index, node in enumerate(ast.walk(tree)):
        if id(node) in docstrings:
            continue
        for change, make in changes(node):
            changed = copy.deepcopy(tree)
            target = next(n for i, n in enumerate(ast.walk(changed)) if i == index)
            make(target)
            line = getattr(node, "lineno", 0)
            yield Mutant(module, line, change, ast.unparse(ast.fix_missing_locations(changed)))


Change = tuple[str, Callable[[Any], object]]
"""Words for it, and a function that does it to a copy of the node."""


def changes(node: ast.AST) -> Iterator[Change]:
    """What can be done to one node."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        other = COMPARISONS[type(node.ops[0])]
        yield f"{ast.unparse(node)}: {other.__name__}", _set("ops", [other(), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp):
        yield from _of_bool_op(node)
    elif isinstance(node, ast.If | ast.IfExp):
        test = ast.unparse(node.test)[:70]
        for value in (True, False):
            yield f"if {test}: {value}", _set("test", ast.Constant(value=value))
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        # Twice not: the truth of the operand.
        inner = ast.UnaryOp(ast.Not(), node.operand)
        yield f"{ast.unparse(node)[:70]}: without not", _set("operand", inner)
    if isinstance(node, ast.FunctionDef | ast.If | ast.For | ast.While | ast.With | ast.Try):
        yield from _of_body(node.body)


def _set(name: str, value: object) -> Callable[[Any], object]:
    return lambda node: setattr(node, name, value)


def _without(at: int, node: Any) -> None:
    del node.values[at]


def _pass(at: int, node: Any) -> None:
    node.body[at] = ast.Pass()


def _of_bool_op(node: ast.BoolOp) -> Iterator[Change]:
    words = ast.unparse(node)[:70]
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield f"{words}: {type(other).__name__}", _set("op", other)
    for at in range(len(node.values)):
        yield f"{words}: without part {at + 1}", partial(_without, at)


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    value: Any = node.value
    if isinstance(value, bool):
        yield f"{value}: {not value}", _set("value", not value)
    elif isinstance(value, int):
        yield f"{value}: {value + 1}", _set("value", value + 1)
    elif isinstance(value, str) and value:
        yield f"{value[:40]!r}: changed", _set("value", "~" + value[1:])


def _of_body(body: Sequence[ast.stmt]) -> Iterator[Change]:
    for at, statement in enumerate(body):
        if isinstance(statement, ast.Expr | ast.Assign | ast.AugAssign | ast.Raise | ast.Delete):
            words = f"without: {ast.unparse(statement)[:90]}"
            yield words, partial(_pass, at)


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


def child(mutant: Mutant | None, cases: Sequence[Case], write: int) -> None:
    """Run the cases on a mutant, in a process of its own; a line for each result."""
    for name in [n for n in sys.modules if n == PACKAGE or n.startswith(PACKAGE + ".")]:
        del sys.modules[name]
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(f"{PACKAGE}.{mutant.module}", mutant.source))
    logging.disable(logging.CRITICAL)
    out = os.fdopen(write, "w", buffering=1)
    with open(os.devnull, "w") as null:  # noqa: PTH123 - not a file
        os.dup2(null.fileno(), 2)
    embedded = importlib.import_module(PACKAGE)

    def tell(result: list[str]) -> None:
        out.write(json.dumps(result) + "\n")

    async def go() -> None:
        with embedded.ServerThread() as server:
            target = Target("embedded", server.url, "", server.advance)
            for label in CLIENT_LABELS:
                await runner.run(
                    target,
                    CLIENTS[label],
                    cases,
                    timeout=CASE_TIMEOUT,
                    on_result=lambda result: tell([result.case.id, result.verdict]),
                )

    asyncio.run(go())
    tell(["", "end"])


def run(mutant: Mutant | None, cases: Sequence[Case]) -> tuple[list[str], bool]:
    """The cases that fail, and whether the run was ended early."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        with contextlib.suppress(BaseException):
            os.close(read)
            os.setpgid(0, 0)
            child(mutant, cases, write)
        os._exit(0)
    os.close(write)
    failed: list[str] = []
    ended, deadline = False, time.monotonic() + MUTANT_TIMEOUT
    too_many = len(cases) * SPECIFIC * 1.5
    os.set_blocking(read, False)
    rest = b""
    while not ended and time.monotonic() < deadline and len(failed) <= too_many:
        try:
            data = os.read(read, 65536)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            case, verdict = json.loads(line)
            ended = ended or verdict == "end"
            if verdict == "failed":
                failed.append(case)
    os.close(read)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return failed, not ended


def main() -> int:
    """Run, and print what was found; exit code 1 if a case was never shown to fail."""
    options = parser().parse_args()
    cases = collect()
    whole, broken = run(None, cases)
    if broken:
        say("on the broker as it is the cases do not end, or most of them fail")
        return 1
    if whole:
        say(f"left out, as they fail on the broker as it is: {', '.join(whole)}")
        cases = [case for case in cases if case.id not in whole]
    found = [
        mutant
        for path in sorted(FOLDER.glob("*.py"))
        if path.stem not in LEFT_OUT and options.module in ("", path.stem)
        for mutant in mutants(path.stem, path.read_text())
    ]
    if options.sample and options.sample < len(found):
        found = random.Random(options.seed).sample(found, options.sample)
    say(f"{len(cases)} cases, {len(found)} mutations")
    begun = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        for done, (mutant, (failed, ended)) in enumerate(
            zip(found, pool.map(lambda m: run(m, cases), found), strict=True), 1
        ):
            mutant.failed, mutant.broad = failed, ended
            if done % 100 == 0:
                say(f"{done} after {time.monotonic() - begun:.0f} s")
    return report(cases, found, options)


def report(cases: Sequence[Case], found: Sequence[Mutant], options: argparse.Namespace) -> int:
    """Print the figures."""
    limit = len(cases) * SPECIFIC
    specific = [m for m in found if m.failed and not m.broad and len(m.failed) <= limit]
    best: dict[str, Mutant] = {}
    for mutant in specific:
        for name in mutant.failed:
            if name not in best or len(mutant.failed) < len(best[name].failed):
                best[name] = mutant
    survived = [m for m in found if not m.failed and not m.broad]
    if options.json:
        rows = {
            "cases": {
                case.id: vars(best[case.id]) | {"source": ""} if case.id in best else None
                for case in cases
            },
            "survived": [f"{m.module}:{m.line} {m.change}" for m in survived],
        }
        Path(options.json).write_text(json.dumps(rows, indent=1))
    shown = [case.id for case in cases if case.id in best]
    alone = sum(len(best[case].failed) == 1 for case in shown)
    few = sorted(len(best[case].failed) for case in shown)
    say(f"mutations: {len(found)}, noticed: {len(found) - len(survived)}, not: {len(survived)}")
    say(f"cases: {len(cases)}, shown to fail: {len(shown)}")
    if shown:
        say(
            f"  by a mutation that fails no other case: {alone}; "
            f"at the median by one that fails {few[len(few) // 2]}, at most {few[-1]}"
        )
    for case in cases:
        if case.id not in best:
            say(f"  never shown: {case.id}")
    return 0 if len(shown) == len(cases) else 1


def say(line: str) -> None:
    """Print a line now, not when a buffer is full."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--module", default="", help="of mqkit.embedded; default: all with rules")
    options.add_argument("--sample", type=int, default=0, help="so many mutations, at random")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--jobs", type=int, default=2, help="processes at a time")
    options.add_argument("--json", default="", help="write cases and survivors to this file")
    return options


if __name__ == "__main__":
    sys.exit(main())
