"""The services of a schedule: their handlers do what each message says."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Delivery, Queue, Reject, Retry, RetryLater, Service
from tests.simulation.history import History, Run
from tests.simulation.plan import ATTEMPTS, TIMEOUT, WAIT, Plan


class Work(BaseModel):
    """A message: its name, and what its handler is to do."""

    name: str
    script: str
    key: str = ""
    duration: float = 0.0


class FailedOnPurposeError(Exception):
    """The message asked for it."""


class AbortedOnPurpose(BaseException):  # noqa: N818 - what is no Exception
    """The message asked for what is no `Exception`."""


POLICY = Retry(stop=stop_after_attempt(ATTEMPTS), wait=wait_fixed(WAIT))


def service(plan: Plan, history: History, name: str) -> Service:
    """Make a service with the handlers of a plan."""
    made = Service(name, retry=POLICY)
    for feature in plan.features:
        HANDLERS[feature](made, plan, history)
    return made


def _plain(made: Service, plan: Plan, history: History) -> None:
    @made.handler(Queue("plain"), concurrency=plan.concurrency, timeout=TIMEOUT)
    async def plain(work: Work, delivery: Delivery) -> None:
        run = history.begin(work.name, delivery.attempt)
        await act(work, delivery.attempt, run, history)
        history.end(run, "done")


HANDLERS = {"plain": _plain}


async def act(work: Work, attempt: int, run: Run, history: History) -> None:
    """Do what a message says, up to its end; what it raises is in the history."""
    try:
        if work.duration:
            await asyncio.sleep(work.duration)
        await _play(work.script, attempt)
    except BaseException as error:
        history.end(run, type(error).__name__)
        raise


async def _play(script: str, attempt: int) -> None:
    what, _, count = script.partition(" ")
    if what == "dead" or (what == "fail" and attempt <= int(count)):
        raise FailedOnPurposeError
    if what == "reject":
        raise Reject("on purpose")
    if attempt > 1:
        return
    if what == "later":
        raise RetryLater(0.7)
    if what == "slow":
        await asyncio.sleep(TIMEOUT * 2)
    if what == "abort":
        raise AbortedOnPurpose
