"""Runs cases on a broker with a client, and gives each a verdict; a failure stops nothing."""

from __future__ import annotations

import asyncio
import linecache
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.conformance.suite.clients import Client
from tests.conformance.suite.env import Session, Target
from tests.conformance.suite.features import lacking
from tests.conformance.suite.suite import Case

CASE_TIMEOUT = 15.0
"""Seconds that one case may take, its clearing up not included."""

CLOSE_TIMEOUT = 10.0
"""Seconds for a case's clearing up, which fails nothing, and for closing a connection."""

PARALLEL = 8
"""Cases at a time on a broker whose time cannot be advanced: some of them wait for it to pass."""

Verdict = Literal["passed", "failed", "lacks"]


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one case; `error` tells where it failed, or what is lacking."""

    case: Case
    broker: str
    client: str
    verdict: Verdict
    seconds: float
    error: str = ""


async def run(
    target: Target,
    client: Client,
    cases: Sequence[Case],
    *,
    timeout: float = CASE_TIMEOUT,  # noqa: ASYNC109 - each case's, not this call's
    parallel: int | None = None,
    check_lacks: bool = False,
    on_result: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Run those of the cases that this client is for; the results are in the cases' order.

    :param timeout: seconds for each case
    :param parallel: cases at a time; 1 where time is advanced by hand, which is everybody's
    :param check_lacks: run what the broker is declared to lack, too: it must fail
    :param on_result: called as soon as each case has ended
    """
    session = Session(target, client.connect)
    count = parallel or (1 if target.advance else PARALLEL)
    free = asyncio.Semaphore(count)

    async def one(case: Case) -> Result:
        async with free:
            result = await run_case(session, client, case, timeout=timeout, check_lacks=check_lacks)
        on_result(result)
        return result

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(c)) for c in cases if c.about == client.about]
    finally:
        await session.close()
    return [task.result() for task in tasks]


async def run_case(
    session: Session,
    client: Client,
    case: Case,
    *,
    timeout: float = CASE_TIMEOUT,  # noqa: ASYNC109 - the case's
    closing: float = CLOSE_TIMEOUT,
    check_lacks: bool = False,
) -> Result:
    """Run one case; what goes wrong is in the result.

    :param closing: seconds to clear up after it
    """
    label = session.target.label
    lacks = lacking(label, case.needs)
    why = "; ".join(f"{feature}: {reason}" for feature, reason in lacks.items())
    begun = time.monotonic()
    if lacks and not check_lacks:
        return Result(case, label, client.label, "lacks", 0.0, why)
    error = await attempt(session, client, case, timeout, closing)
    seconds = time.monotonic() - begun
    if not lacks:
        return Result(
            case,
            label,
            client.label,
            "passed" if error is None else "failed",
            seconds,
            "" if error is None else describe(error),
        )
    if error is None:
        told = f"declared as lacking, but it passed: {why}"
        return Result(case, label, client.label, "failed", seconds, told)
    return Result(case, label, client.label, "lacks", seconds, f"{why} ({describe(error)})")


async def attempt(
    session: Session,
    client: Client,
    case: Case,
    limit: float = CASE_TIMEOUT,
    closing: float = CLOSE_TIMEOUT,
) -> Exception | None:
    """Run a case's function and clear up after it; returns what it raised."""
    env = client.env(session)
    error: Exception | None = None
    try:
        async with asyncio.timeout(limit):
            await case.function(env)
    except asyncio.CancelledError as raised:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Not ours: a client library cancels what it was asked when its channel goes.
        error = RuntimeError("the client library cancelled the call")
        error.__cause__ = raised
    except Exception as raised:  # noqa: BLE001 - whatever it is, it is this case's result
        error = raised
    try:
        async with asyncio.timeout(closing):
            await env.close()
    except Exception as raised:  # noqa: BLE001 - as above
        # Clearing up is not what the case claims; it is told where the case told nothing.
        if error is not None:
            error.add_note(f"clearing up failed as well: {raised!r}")
    return error


def describe(error: BaseException) -> str:
    """Put an error on one line: where in its case it came up, the line of code, and its words."""
    cause = error.__cause__ if isinstance(error, TimeoutError) and error.__cause__ else error
    frames = traceback.extract_tb(cause.__traceback__)
    ours = [f for f in frames if "/conformance/suite/cases/" in f.filename.replace("\\", "/")]
    where = ""
    if ours:
        last = ours[-1]
        line = linecache.getline(last.filename, last.lineno or 0).strip()
        where = f"{last.filename.replace(chr(92), '/').rpartition('/')[2]}:{last.lineno}: {line}: "
    words = " ".join(str(error).split())
    return f"{where}{type(error).__name__}" + (f": {words}" if words else "")
