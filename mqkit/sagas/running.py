"""Handles one message of a saga: finds it, runs the method, and writes what came of that.

    message -> its id -> the row (locked) -> may it run? -> the method -> row, history, outbox

All of it is in the one transaction of the handler: it is committed with the inbox row, or not at
all. What the method raises goes out as it is, and undoes everything.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, TypedDict, Unpack

from mqkit.checks.checked import Seconds
from mqkit.logging.shown import shown
from mqkit.message import HeaderValue
from mqkit.outcome import Reject
from mqkit.registration.sagas import SagaEntry, SagaRow, SagaRows, SagaTransaction
from mqkit.sagas.declaration import Declaration, SagaStep, unknown
from mqkit.sagas.declared import Kind
from mqkit.sagas.errors import SagaNotFoundError, SagaStateError
from mqkit.sagas.history import RAN, Published, Received, changes, entry
from mqkit.sagas.instance import Instance, Progress, Timeout, progress_of
from mqkit.sagas.own import TIMEOUT_TYPE, UNDO_TYPE, TimeoutDue, UndoStep
from mqkit.sagas.states import check_version, read_state, write_state
from mqkit.sagas.values import Found, Missing, SagaStatus
from mqkit.topology import Exchange

logger = logging.getLogger(__name__)


class PublishOptions(TypedDict, total=False):
    """The options of `Transaction.publish`."""

    key: str | None
    message_id: str | None
    headers: Mapping[str, HeaderValue] | None
    correlation_id: str | None
    reply_to: str | None
    type: str | None
    expiration: Seconds | None
    priority: int | None
    persistent: bool
    mandatory: bool | None
    delay: Seconds | None
    at: datetime | None


class Run:
    """One run of a saga's method: what the saga does goes through it."""

    def __init__(
        self, declaration: Declaration, instance: Instance, transaction: SagaTransaction
    ) -> None:
        self.declaration = declaration
        self.instance = instance
        self.published = Published()
        self._transaction = transaction

    async def publish(
        self,
        exchange: Exchange | str,
        routing_key: str,
        body: object,
        **options: Unpack[PublishOptions],
    ) -> str:
        """Publish through the transaction, and note it for the history."""
        message_id: str = await self._transaction.publish(exchange, routing_key, body, **options)
        self.published.add(
            exchange if isinstance(exchange, str) else exchange.name,
            routing_key,
            message_id,
            type=options.get("type") or type(body).__name__,
            delay=options.get("delay"),
            at=options.get("at"),
        )
        return message_id

    def set_timeout(self, name: str, after: float | None, at: datetime | None) -> None:
        """Set a timeout that the class declares."""
        self._check(name, self.declaration.timeouts, "on_timeout")
        self.instance.set_timeout(name, after, at)

    def cancel_timeout(self, name: str) -> None:
        """Cancel a timeout that the class declares."""
        self._check(name, self.declaration.timeouts, "on_timeout")
        self.instance.cancel_timeout(name)

    def note_done(self, step: str) -> None:
        """Note a step that the class can undo."""
        self._check(step, self.declaration.compensations, "compensates")
        self.instance.note_done(step)

    def _check(self, name: object, known: dict[str, SagaStep], decorator: str) -> None:
        if not isinstance(name, str) or name not in known:
            raise SagaStateError(f"{self.instance.what}: {unknown(name, known, decorator)}")

    async def publish_own(self, undoing: str | None) -> None:
        """Publish the messages to itself: timeouts that were set, and the step to undo next.

        :param undoing: the token of the step whose message was published before this run
        """
        instance, name = self.instance, self.declaration.options.name
        for timeout in instance.set_now.values():
            await self._publish_timeout(name, timeout)
        token = instance.progress.undoing
        if token is not None and token != undoing:
            (step,) = (each for each in instance.progress.done if each.token == token)
            known = self.declaration.compensations
            self._check(step.name, known, "compensates")  # an earlier version may have had it
            queue = known[step.name].queue
            message = UndoStep(saga=name, id=instance.id, step=step.name, token=token)
            await self.publish("", queue.name, message, type=UNDO_TYPE)

    async def _publish_timeout(self, name: str, due: Timeout) -> None:
        queue = self.declaration.timeouts[due.name].queue
        message = TimeoutDue(saga=name, id=self.instance.id, timeout=due.name, token=due.token)
        after = due.after if due.at is None else None
        await self.publish("", queue.name, message, type=TIMEOUT_TYPE, delay=after, at=due.at)


class SagaRunner:
    """Handles the messages of one method of a saga."""

    def __init__(
        self,
        declaration: Declaration,
        step: SagaStep,
        bind: Callable[[Run], Any],
    ) -> None:
        """Handle nothing yet.

        :param bind: makes the saga's object, whose methods go through a run
        """
        self._declaration = declaration
        self._step = step
        self._bind = bind

    async def handle(
        self,
        message: Any,
        received: Received,
        transaction: SagaTransaction,
        call: Callable[[Any], Awaitable[Any]],
    ) -> Any:
        """Run the method for a message, unless its saga has no use for it; return its result.

        :param call: calls the method of the object
        :raises Reject: the declaration says so, or the message has no id
        :raises SagaNotFoundError: there is no saga, and the declaration has it retried
        :raises SagaVersionError: a newer version wrote the saga
        :raises SagaStateError: the method did what cannot be done
        :raises StoreConflictError: another message changed it at the same time
        """
        rows = transaction.saga_rows
        key = (self._declaration.options.name, self._step.id_of(message))
        row = await rows.find(*key)
        instance = Instance(
            self._declaration.what, key[1], draw=lambda: _token(transaction.new_id())
        )
        if row is not None:
            check_version(self._declaration, row)
            instance.load(*_stands(row, instance.what))
        undoing = instance.progress.undoing
        verdict = _verdict(self._step, instance, message)
        if verdict is not Found.RUN:
            why = _refuse(verdict, self._step, instance)
            level = logging.INFO if self._step.takes_body else logging.DEBUG
            text = "%s: message %s %s"
            logger.log(level, text, shown(instance.what), shown(received.message_id), why)
            if row is not None:
                noted = entry(key, rows.now(), received, result=why, status=instance.status)
                await rows.note(noted)
            return None
        before = self._load(instance, row)
        run = Run(self._declaration, instance, transaction)
        saga = self._bind(run)
        result = await call(saga)
        if self._step.declared.kind is Kind.COMPENSATES:
            await _go_on_undoing(saga, instance)
        if instance.status is not SagaStatus.NEW:
            text = self._text(instance, row, before)
            await run.publish_own(undoing)
            changed = (changes(before, text), run.published.to_json())
            noted = _ran(key, rows, received, instance, changed)
            await self._write(rows, row, instance, text, noted)
        return result

    def _load(self, instance: Instance, row: SagaRow | None) -> str | None:
        """Give a saga its state, and return that as it would be written now."""
        if row is None:
            return None
        state = read_state(self._declaration, row)
        instance.load(instance.status, state, instance.progress)
        is_as_written = row.state_version == self._declaration.options.version
        if is_as_written and instance.status is not SagaStatus.COMPLETED:
            return row.state
        return write_state(self._declaration, instance.id, state)

    def _text(self, instance: Instance, row: SagaRow | None, before: str | None) -> str:
        """Return what is to be written of a state.

        :raises SagaStateError: that is not possible, or it was changed after its completion
        """
        text = write_state(self._declaration, instance.id, instance.state)
        if _is_completed(row) and text != before:
            raise SagaStateError(f"{instance.what}: its state was changed, and it is completed")
        return text

    async def _write(
        self,
        rows: SagaRows,
        row: SagaRow | None,
        instance: Instance,
        text: str,
        noted: SagaEntry,
    ) -> None:
        """Write the row, unless nothing of it has changed, and an entry of its history."""
        new = self._next(rows, row, instance, text)
        is_over = instance.status is SagaStatus.COMPLETED
        keep = self._declaration.options.keep if is_over else None
        if row is None:
            await rows.insert(new, noted, keep=keep)
        elif _is_completed(row) or _is_same(row, new):
            await rows.note(noted)
        else:
            await rows.update(new, noted, keep=keep)

    def _next(self, rows: SagaRows, row: SagaRow | None, instance: Instance, text: str) -> SagaRow:
        options, now = self._declaration.options, rows.now()
        return SagaRow(
            name=options.name,
            id=instance.id,
            version=1 if row is None else row.version + 1,
            state_version=options.version,
            status=instance.status.value,
            state=text,
            progress=instance.progress.to_json(),
            started_at=now if row is None else row.started_at,
            updated_at=now,
            completed_at=now if instance.status is SagaStatus.COMPLETED else None,
        )


def _stands(row: SagaRow, what: str) -> tuple[SagaStatus, None, Progress]:
    """Return how a saga stands, by its row; its state is read where it is needed.

    :raises SagaStateError: somebody else than mqkit has written the row
    """
    try:
        return SagaStatus(row.status), None, progress_of(row.progress)
    except ValueError:  # pydantic's, too, which has what stands there
        raise SagaStateError(
            f"{what}: its row has a status or a progress that mqkit has not written; mend the row "
            "in mqkit_saga, and replay the message"
        ) from None


def _is_same(row: SagaRow, new: SagaRow) -> bool:
    return (row.state, row.progress, row.status, row.state_version) == (
        new.state,
        new.progress,
        new.status,
        new.state_version,
    )


def _is_completed(row: SagaRow | None) -> bool:
    return row is not None and row.status == SagaStatus.COMPLETED


def _ran(
    key: tuple[str, str],
    rows: SagaRows,
    received: Received,
    instance: Instance,
    changed: tuple[str, str],
) -> SagaEntry:
    return entry(
        key,
        rows.now(),
        received,
        result=RAN,
        status=instance.status,
        changed=changed[0],
        published=changed[1],
    )


def _verdict(step: SagaStep, instance: Instance, message: Any) -> Found | Missing:
    """Say what becomes of a message whose saga stands as it does."""
    declared = step.declared
    if declared.kind is Kind.TIMEOUT:
        is_due = instance.take_timeout(message.timeout, message.token)
        return Found.RUN if is_due else Found.IGNORE
    if declared.kind is Kind.COMPENSATES:
        is_next = instance.take_step(message.step, message.token)
        return Found.RUN if is_next else Found.IGNORE
    starts = declared.kind is Kind.STARTS
    match instance.status:
        case SagaStatus.NEW:
            return Found.RUN if starts else declared.missing
        case SagaStatus.RUNNING:
            return declared.existing if starts else Found.RUN
        case SagaStatus.COMPENSATING:
            return declared.existing if starts else declared.compensating
        case SagaStatus.COMPLETED:
            return declared.completed


def _refuse(verdict: Found | Missing, step: SagaStep, instance: Instance) -> str:
    """Return why a message does nothing.

    :raises Reject: it is dead-lettered
    :raises SagaNotFoundError: it is tried again
    """
    is_new = instance.status is SagaStatus.NEW
    stands = "is not there" if is_new else f"is {instance.status}"
    if verdict is Found.REJECT or verdict is Missing.REJECT:
        raise Reject(f"{instance.what} {stands}, and {step.method} does not take the message then")
    if verdict is Missing.RETRY:
        raise SagaNotFoundError(f"{instance.what} is not there yet; {step.method} waits for it")
    return f"ignored: it {stands}" if step.takes_body else "ignored: it has moved on"


async def _go_on_undoing(saga: Any, instance: Instance) -> None:
    """Choose the next step to undo after one; where none is left, the saga is completed."""
    if instance.status is SagaStatus.COMPENSATING and instance.undo_next() is None:
        await end_compensation(saga, instance)


async def end_compensation(saga: Any, instance: Instance) -> None:
    """Call the saga's `compensated`, and complete it, once nothing is left to undo."""
    await saga.compensated()
    if instance.status is SagaStatus.COMPENSATING:
        instance.complete()


def _token(new_id: object) -> str:
    """Make what tells a message of the saga's own from all others, of an id that nothing has."""
    return str(new_id).replace("-", "")[:16]
