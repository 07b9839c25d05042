"""The saga of a schedule: it asks, waits for an answer or its timeout, and is done or undone."""

from __future__ import annotations

from pydantic import BaseModel
from tenacity import stop_after_attempt, wait_fixed

from mqkit import Delivery, Queue, Retry, RetryLater, Service
from mqkit.sagas import Found, Missing, Saga, compensates, continues, on_timeout, starts
from mqkit.store import Transaction
from tests.simulation.history import History
from tests.simulation.simulated.broker import EVENTS
from tests.simulation.workload.messages import Work

PATIENCE = 1.5
"""Seconds until the saga gives up."""

LATE = 2.0
"""Seconds until a late answer is given."""

QUEUES = ("saga", "sagaask", "sagaanswer", "sagatimeout", "sagaundo")

DONE, UNDONE = "done", "undone"
"""What a saga tells at its end, and once."""


class Errand(BaseModel):
    """What is known of a saga."""

    name: str
    answered: bool = False


class Ask(Saga[Errand], name="ask", retry=Retry(stop=stop_after_attempt(30), wait=wait_fixed(0.2))):
    """Asks, and is done once it is answered; it gives up where the answer is no, or late."""

    @starts(Queue("saga"), by="name")
    async def asked(self, work: Work) -> None:
        """Ask."""
        self.begin(Errand(name=work.name))
        self.done("asking")
        await self.publish("", "sagaask", work)
        await self.timeout("patience", after=PATIENCE)

    @continues(Queue("sagaanswer"), by="name", missing=Missing.RETRY, completed=Found.IGNORE)
    async def answered(self, work: Work) -> None:
        """Be done, or give up."""
        if self.state.answered:
            return
        self.state.answered = True
        if work.script == "reject":
            await self.compensate("no")
            return
        await self.publish("", EVENTS, work, type=DONE)
        self.complete()

    @on_timeout("patience", queue=Queue("sagatimeout"))
    async def silent(self) -> None:
        """Give up."""
        await self.compensate("no answer")

    @compensates("asking", queue=Queue("sagaundo"))
    async def undo(self) -> None:
        """Tell that it is undone."""
        work = Work(name=self.id, script="undone")
        await self.publish("", EVENTS, work, type=UNDONE)


def register(made: Service, history: History) -> None:
    """Register the saga, and who answers it."""
    made.saga(Ask)

    @made.handler(Queue("sagaask"))
    async def answer(work: Work, delivery: Delivery, transaction: Transaction) -> None:
        run = history.begin(work.name, delivery)
        if work.script == "slow" and delivery.attempt == 1:
            history.end(run, "RetryLater")
            raise RetryLater(LATE)
        history.end(run, "answered")
        if work.script != "dead":
            await transaction.publish("", "sagaanswer", work)
