"""What a saga does, message by message, without a broker and without a store."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from mqkit import HandlerError, Queue, Reject
from mqkit.sagas import (
    Found,
    Missing,
    Saga,
    SagaNotFoundError,
    SagaStateError,
    SagaStatus,
    SagaVersionError,
    compensates,
    continues,
    on_timeout,
    starts,
)
from mqkit.sagas.testing import SagaTest
from tests.unit.sagas.support import (
    PATIENCE,
    HoldAnswered,
    Payment,
    PaymentState,
    PlaceOrder,
    RiskAnswered,
)


class Note(BaseModel):
    """A message of the small sagas below."""

    id: str = "1"
    text: str = ""


class Loosely(BaseModel):
    """A message whose id may be anything."""

    id: Any


class State(BaseModel):
    """A state of the small sagas below."""

    texts: list[str] = []


def keys(test: SagaTest[Any]) -> list[str]:
    """The routing keys of what was published."""
    return [each.routing_key for each in test.published]


async def begun() -> SagaTest[PaymentState]:
    """A payment that was placed."""
    test = SagaTest(Payment)
    await test.receive(PlaceOrder(order_id="o-1"))
    return test


async def held() -> SagaTest[PaymentState]:
    """A payment whose hold was asked for."""
    test = await begun()
    await test.receive(RiskAnswered(order_id="o-1"))
    return test


async def test_a_saga_goes_from_its_start_to_its_end() -> None:
    """Each message changes its state and publishes the next question; the last one completes it."""
    test = await held()
    assert test.state() == PaymentState(order_id="o-1", amount="5.10", risk=True)  # type: ignore[arg-type]
    await test.receive(HoldAnswered(order_id="o-1"))
    assert test.completed()
    assert keys(test) == ["risk.check", "ledger.hold", "order.executed"]


async def test_a_timeout_that_is_waited_for_runs_its_method() -> None:
    """Risk does not answer: with nothing to undo, the order is refused and the saga completed."""
    test = await begun()
    await test.advance(PATIENCE - 0.1)
    assert test.status() is SagaStatus.RUNNING
    await test.advance(0.1)
    assert test.completed()
    assert keys(test) == ["risk.check", "order.refused"]
    assert test.published[-1].body.reason == "risk did not answer"


@pytest.mark.parametrize("ok", [True, False])
async def test_a_timeout_does_nothing_once_the_saga_has_moved_on(ok: bool) -> None:
    """It was cancelled, or the saga is completed: its message comes, and changes nothing."""
    test = await begun()
    await test.receive(RiskAnswered(order_id="o-1", ok=ok))
    if ok:
        await test.receive(HoldAnswered(order_id="o-1"))
    before = keys(test)
    await test.advance(10 * PATIENCE)
    assert keys(test) == before
    assert test.history()[-1].result == "ignored: it has moved on"


async def test_a_step_that_is_done_is_undone_by_a_message_of_its_own() -> None:
    """The hold is released, then `compensated` is called, and then the saga is completed."""
    test = await held()
    await test.receive(HoldAnswered(order_id="o-1", ok=False))
    assert test.completed()
    assert keys(test) == ["risk.check", "ledger.hold", "ledger.release", "order.refused"]
    assert [each.handler.rpartition(".")[2] for each in test.history()][-1] == "release_hold"


async def test_a_start_of_a_saga_that_is_there_is_ignored() -> None:
    """Nothing is published again, and its state stays as it is."""
    test = await held()
    await test.receive(PlaceOrder(order_id="o-1", amount="7"))  # type: ignore[arg-type]
    assert str(test.state().amount) == "5.10"
    assert keys(test) == ["risk.check", "ledger.hold"]
    assert test.history()[-1].result == "ignored: it is running"


async def test_a_message_without_its_saga_does_as_is_declared() -> None:
    """`Missing.REJECT` dead-letters it, `Missing.RETRY` fails it for its policy."""
    test = SagaTest(Payment)
    with pytest.raises(Reject, match="saga payment 'o-9' is not there, and risk_answered"):
        await test.receive(RiskAnswered(order_id="o-9"))
    with pytest.raises(SagaNotFoundError, match="'o-9' is not there yet"):
        await test.receive(HoldAnswered(order_id="o-9"))
    assert test.status() is SagaStatus.NEW


async def test_a_message_that_comes_again_has_one_effect() -> None:
    """As with the inbox of a store: it is known by its id."""
    test = await begun()
    for _ in range(2):
        await test.receive(RiskAnswered(order_id="o-1"), message_id="m")
    assert keys(test) == ["risk.check", "ledger.hold"]


async def test_a_run_that_fails_leaves_nothing() -> None:
    """Neither a change of the state, nor a message, nor an entry in the history."""

    class Failing(Saga[State], name="failing"):
        @starts(Queue("q"), by="id")
        async def start(self, note: Note) -> None:
            self.begin(State())
            await self.publish("x", "k", note)
            if note.text:
                raise ValueError(note.text)

    test = SagaTest(Failing)
    with pytest.raises(ValueError, match="bad"):
        await test.receive(Note(text="bad"))
    assert (test.status(), test.published, test.history()) == (SagaStatus.NEW, [], [])
    await test.receive(Note())
    assert test.status() is SagaStatus.RUNNING


class Trip(Saga[State], name="trip"):
    """Books three things, and undoes them in reverse."""

    @starts(Queue("trip"), by="id", existing=Found.RUN, completed=Found.RUN)
    async def book(self, note: Note) -> None:
        """Book all, or note what comes again."""
        if self.is_new:
            self.begin(State())
            for each in ("car", "room", "flight"):
                self.done(each)
        elif self.status is SagaStatus.RUNNING:
            self.state.texts.append(note.text)
        elif note.text == "change":
            self.state.texts.append("after the end")
        await self.publish("x", f"noted.{self.status}", note)

    @continues(Queue("trip.fail"), by=lambda note: note.text, missing=Missing.IGNORE)
    async def fail(self, note: Note) -> None:
        """Give up."""
        await self.compensate("full")
        await self.compensate("another reason")

    @continues(Queue("trip.late"), by="id", compensating=Found.RUN, completed=Found.REJECT)
    async def late(self, note: Note) -> None:
        """Note a step that was done while the saga gives up."""
        self.done(note.text)

    @compensates("car")
    async def cancel_car(self) -> None:
        """Undo one of them."""
        await self.undo("car")

    @compensates("room")
    async def cancel_room(self) -> None:
        """Undo one of them."""
        await self.undo("room")

    @compensates("flight")
    async def cancel_flight(self) -> None:
        """Undo one of them."""
        await self.undo("flight")

    async def undo(self, what: str) -> None:
        """Undo, unless the outside world says no."""
        if what in FULL:
            raise ConnectionError(what)
        self.state.texts.append(what)
        await self.publish("x", f"cancel.{what}", b"")


FULL: set[str] = set()


async def test_steps_are_undone_in_reverse() -> None:
    """The last one that was done first; each is its own message, and the first reason stays."""
    test = SagaTest(Trip)
    await test.receive(Note(), to="book")
    await test.receive(Note(text="1"), to="fail")
    assert keys(test)[1:] == ["cancel.flight", "cancel.room", "cancel.car"]
    assert test.completed()
    undone = [each for each in test.history() if each.message_type == "mqkit.saga.undo"]
    assert len({each.message_id for each in undone}) == 3


async def test_a_step_that_cannot_be_undone_is_tried_again_by_itself() -> None:
    """What was undone before it stays so, and the rest waits for it."""
    test = SagaTest(Trip)
    await test.receive(Note(), to="book")
    FULL.add("room")
    try:
        with pytest.raises(ConnectionError):
            await test.receive(Note(text="1"), to="fail")
        assert (test.status(), keys(test)[1:]) == (SagaStatus.COMPENSATING, ["cancel.flight"])
    finally:
        FULL.clear()
    await test.advance(0)
    assert keys(test)[1:] == ["cancel.flight", "cancel.room", "cancel.car"]
    assert test.completed()


async def test_a_step_done_while_the_saga_gives_up_is_undone_too() -> None:
    """It is the next one after the one that is being undone."""
    test = SagaTest(Trip)
    await test.receive(Note(), to="book")
    FULL.add("flight")
    try:
        with pytest.raises(ConnectionError):
            await test.receive(Note(text="1"), to="fail")
        with pytest.raises(ConnectionError):
            await test.receive(Note(text="car"), to="late")
    finally:
        FULL.clear()
    await test.advance(0)
    assert keys(test)[1:] == ["cancel.flight", "cancel.car", "cancel.room", "cancel.car"]
    undone = [each for each in test.history() if each.message_type == "mqkit.saga.undo"]
    assert len(undone) == 4  # each step's message is published once


async def test_a_completed_saga_runs_what_is_declared_so_and_cannot_be_changed() -> None:
    """`Found.RUN` may read and publish; a changed state is an error, and `Found.REJECT` rejects."""
    test = SagaTest(Trip)
    await test.receive(Note(), to="book")
    await test.receive(Note(text="1"), to="fail")
    before = test.state()
    await test.receive(Note(), to="book")
    assert keys(test)[-1] == "noted.completed"
    with pytest.raises(SagaStateError, match="'1': its state was changed, and it is completed"):
        await test.receive(Note(text="change"), to="book")
    with pytest.raises(Reject, match="is completed, and late does not take the message then"):
        await test.receive(Note(text="car"), to="late")
    assert test.state() == before


async def test_a_message_finds_its_saga_by_a_function_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And one that finds none, declared so, is ignored with a line in the log."""
    caplog.set_level("INFO")
    test = SagaTest(Trip)
    await test.receive(Note(text="7"), to="fail", message_id="m")
    assert test.history() == []
    assert "saga trip '7': message m ignored: it is not there" in caplog.text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "1 to 255 characters"),
        ("x" * 256, "1 to 255 characters"),
        ("a\0b", "1 to 255 characters without NUL"),
        (None, "which NoneType cannot be"),
        (True, "which bool cannot be"),
        (1.5, "which float cannot be"),
    ],
)
async def test_a_message_without_a_usable_id_is_rejected(value: object, problem: str) -> None:
    """It could never be handled: it is dead-lettered at once, and the reason says why."""

    class Loose(Saga[State], name="loose"):
        @starts(Queue("q"), by="id")
        async def start(self, note: Loosely) -> None:
            self.begin(State())

    with pytest.raises(Reject, match=problem):
        await SagaTest(Loose).receive(Loosely(id=value))


async def test_ids_of_several_types_are_text() -> None:
    """A number, a UUID, and of an enum its value."""

    class Colour(str, Enum):  # noqa: UP042 - whose text is its name, unlike a StrEnum's
        RED = "red"

    class Loose(Saga[State], name="loose"):
        @starts(Queue("q"), by=lambda note: VALUES[note.id])
        async def start(self, note: Note) -> None:
            self.begin(State())

    uuid = UUID(int=7)
    VALUES.update({"a": 5, "b": uuid, "c": Colour.RED})
    test = SagaTest(Loose)
    for each in VALUES:
        await test.receive(Note(id=each))
    assert [test.status(each) for each in ("5", str(uuid), "red")] == [SagaStatus.RUNNING] * 3


VALUES: dict[str, object] = {}


async def test_a_saga_of_a_newer_version_is_refused_whatever_comes() -> None:
    """Also a message that would be ignored: what this version reads of it may be wrong."""

    class Newer(Saga[State], name="trip", version=2):
        @classmethod
        def migrate(cls, version: int, data: dict[str, Any]) -> dict[str, Any]:
            return data

        @starts(Queue("trip"), by="id")
        async def book(self, note: Note) -> None:
            self.begin(State())

    newer, older = SagaTest(Newer), SagaTest(Trip)
    await newer.receive(Note(), to="book")
    older._store = newer._store
    for method in ("book", "late"):
        with pytest.raises(SagaVersionError, match="'1' has a state of version 2"):
            await older.receive(Note(text="1"), to=method)


async def test_a_message_that_finds_its_saga_compensating_is_ignored() -> None:
    """As long as its declaration does not say otherwise."""
    test = SagaTest(Trip)
    await test.receive(Note(), to="book")
    FULL.add("flight")
    try:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await test.receive(Note(text="1"), to="fail")
    finally:
        FULL.clear()
    assert test.history()[-1].result == "ignored: it is compensating"


async def test_a_step_that_the_class_cannot_undo_any_more_is_an_error() -> None:
    """An earlier version of it has noted the step; nothing is changed until it is back."""

    class Without(Saga[State], name="trip"):
        @starts(Queue("trip"), by="id")
        async def book(self, note: Note) -> None: ...

        @continues(Queue("trip.fail"), by="text")
        async def fail(self, note: Note) -> None:
            await self.compensate("full")

    before, after = SagaTest(Trip), SagaTest(Without)
    await before.receive(Note(), to="book")
    after._store = before._store
    with pytest.raises(SagaStateError, match=r"it has no @compensates\('flight'\)"):
        await after.receive(Note(text="1"), to="fail")
    assert after.status() is SagaStatus.RUNNING


async def test_a_timeout_that_is_set_anew_replaces_the_earlier_one() -> None:
    """Only the later one runs its method, whether it is set in the same run or in another."""

    class Patient(Saga[State], name="patient"):
        @starts(Queue("q"), by="id")
        async def start(self, note: Note) -> None:
            self.begin(State())
            await self.timeout("wait", after=1)
            await self.timeout("wait", after=timedelta(seconds=2))

        @continues(Queue("more"), by="id")
        async def more(self, note: Note) -> None:
            await self.timeout("wait", at=test.now + timedelta(seconds=10))

        @on_timeout("wait")
        async def waited(self) -> None:
            self.state.texts.append("waited")

    test = SagaTest(Patient)
    await test.receive(Note(), to="start")
    await test.advance(1.5)
    await test.receive(Note(), to="more")
    await test.advance(9.9)
    assert test.state().texts == []
    await test.advance(0.1)
    assert test.state().texts == ["waited"]
    await test.advance(100)
    assert test.state().texts == ["waited"]


MISUSES: list[tuple[str, str]] = [
    ("self.state", "has no state yet: call self.begin"),
    ("self.complete()", "cannot complete: call self.begin"),
    ("self.done('undo')", "cannot note a step as done: call self.begin"),
    ("await self.timeout('wait', after=1)", "cannot set a timeout: call self.begin"),
    ("self.begin(State()); self.begin(State())", "is running already; begin starts a new one"),
    ("self.begin(State()); self.done('undone')", "no @compensates('undone'); did you mean undo?"),
    ("self.begin(State()); await self.timeout('wat', after=1)", "no @on_timeout('wat')"),
    ("self.begin(State()); self.cancel_timeout(3)", "no @on_timeout(3)"),
    ("self.begin(State()); await self.timeout('wait')", "takes after=seconds, or at=datetime"),
    ("self.begin(State()); await self.timeout('wait', after=-1)", "comes after 0 to"),
    ("self.begin(State()); await self.timeout('wait', at=NAIVE)", "a datetime with a time zone"),
    ("self.begin(State()); await self.compensate(None)", "takes a reason as text"),
    ("self.begin(State()); await self.compensate('\\ud800')", "written as UTF-8"),
    ("self.begin(State()); self.complete(); self.state = State()", "it is completed"),
    ("self.begin(State()); self.complete(); await self.compensate('x')", "it is completed"),
    (
        "self.begin(State()); self.done('undo'); await self.compensate('x'); self.complete()",
        "undo is not undone yet",
    ),
    ("self.begin(Note())", "its state is a State, not"),
]


@pytest.mark.parametrize(("code", "problem"), MISUSES)
async def test_what_a_method_cannot_do_is_an_error_that_says_why(code: str, problem: str) -> None:
    """It names the saga, and nothing of the run is kept."""
    names: dict[str, Any] = {"State": State, "Note": Note, "NAIVE": datetime(2026, 1, 1)}  # noqa: DTZ001
    exec(f"async def misuse(self):\n    {code}", names)  # noqa: S102

    class Misusing(Saga[State], name="misusing"):
        @starts(Queue("q"), by="id")
        async def start(self, note: Note) -> None:
            await names["misuse"](self)

        @on_timeout("wait")
        async def waited(self) -> None:
            pass

        @compensates("undo")
        async def undo(self) -> None:
            pass

    test = SagaTest(Misusing)
    with pytest.raises(SagaStateError, match="saga misusing '1'") as caught:
        await test.receive(Note())
    assert problem in str(caught.value)
    assert test.status() is SagaStatus.NEW


async def test_the_history_has_messages_changes_and_what_was_published() -> None:
    """An entry for each message: its type and id, the fields it changed, the messages out."""
    test = await begun()
    await test.receive(RiskAnswered(order_id="o-1"), message_id="m-1")
    entry = test.history()[-1]
    assert (entry.message_id, entry.message_type) == ("m-1", "RiskAnswered")
    assert (entry.result, entry.status) == ("ran", "running")
    assert json.loads(entry.changes) == {"risk": True}
    published = json.loads(entry.published)
    assert [each["type"] for each in published] == ["HoldAmount", "mqkit.saga.timeout"]
    assert published[1]["delay"] == PATIENCE


EVENTS = st.lists(
    st.one_of(
        st.builds(lambda ok: RiskAnswered(order_id="o-1", ok=ok), st.booleans()),
        st.builds(lambda ok: HoldAnswered(order_id="o-1", ok=ok), st.booleans()),
        st.just(PlaceOrder(order_id="o-1")),
        st.sampled_from([0.0, 1.0, PATIENCE, 2 * PATIENCE]),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=200)
@given(EVENTS)
def test_in_whatever_order_messages_come_a_saga_has_one_end(events: list[Any]) -> None:
    """Any messages, any number of times, at any time: executed or refused once, no hold is left."""

    async def play() -> SagaTest[PaymentState]:
        test = SagaTest(Payment)
        for event in [*events, PlaceOrder(order_id="o-1")]:
            try:
                if isinstance(event, float):
                    await test.advance(event)
                else:
                    await test.receive(event)
            except (Reject, SagaNotFoundError):
                assert test.status() is SagaStatus.NEW
        await test.advance(3 * PATIENCE)
        return test

    test = asyncio.run(play())
    published = keys(test)
    ends = [key for key in published if key in ("order.executed", "order.refused")]
    assert len(ends) == 1
    assert test.completed()
    assert published.count("ledger.hold") <= 1
    is_released = ends == ["order.refused"] and "ledger.hold" in published
    assert published.count("ledger.release") == int(is_released)


def test_a_class_without_a_name_cannot_be_tested() -> None:
    """It is a base of others."""

    class Base(Saga[State]):
        pass

    with pytest.raises(HandlerError, match="it has no name"):
        SagaTest(Base)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "nonsense"),
        ("status", ""),
        ("progress", "zzz"),
        ("progress", "[]"),
        ("progress", '{"done": 3}'),
    ],
)
async def test_a_row_that_somebody_wrote_by_hand_is_an_error_of_the_saga(
    column: str, value: str
) -> None:
    """It says which table to look at, and not what stands there."""
    test = SagaTest(Trip)
    await test.receive(Note(), to="book")
    (key,) = test._store.rows
    wrong: dict[str, Any] = {column: value}
    test._store.rows[key] = replace(test._store.rows[key], **wrong)
    with pytest.raises(SagaStateError, match="has not written; mend the row in mqkit_saga") as told:
        await test.receive(Note(text="1"), to="late")
    assert told.value.__cause__ is None
