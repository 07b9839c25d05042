"""The books of a fuzz: what became of each message, and whether that is as promised.

They are kept by what the handlers say and by what mqkit tells the broker, and not by what mqkit
says of itself. An ack needs a reason: a handler that said 'done', or a copy that was confirmed.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mqkit.broker.delays import level_name
from mqkit.outcome import DELAY_LEVELS, DeathReason
from mqkit.topology import DEAD_SUFFIX
from tests.faults.fuzz.messages import Fuzzed
from tests.faults.fuzz.plans import DEAD, DONE, ENDS_DONE, FAILS_ALWAYS, FAILS_ONCE, HELD

SPARE = 4
"""Deliveries of a message, beyond its runs and its way to a partition, that are no fault.

A delivery that could not be settled goes back, after a wait, and has another try.
"""

LOOP = 100
"""Deliveries of one message after which it is certain that they never end."""

LONG = frozenset(level_name(level) for level in range(12, DELAY_LEVELS))
"""Exchanges of the delay ladder for waits of minutes and more."""

NEVER_RUN = frozenset({"undecodable", "no-order-key", "no-message-id"})
"""Reasons of dead letters whose message no handler has seen."""

BY_THE_BROKER = "(the broker)"
"""The reason of a dead letter that has none of mqkit's: it expired, or came back too often."""

EXPIRED = (BY_THE_BROKER, "expired")


@dataclass(slots=True)
class Record:
    """What happened to one message."""

    deliveries: int = 0
    runs: int = 0
    done: int = 0
    copies: int = 0
    """Confirmed, and not yet followed by the ack of what they replace."""
    dead_copies: int = 0
    held: int = 0
    """Copies that are in the delay ladder for longer than any fuzz takes."""
    acked_done: int = 0
    """Acks for the sake of a run."""
    acked_for_nothing: int = 0
    acks: int = 0
    nacked: int = 0
    refused: int = 0
    """Left to the broker, to be dead-lettered."""
    breaks: int = 0
    """How often the driver failed to write a copy of it."""
    dead: list[str] = field(default_factory=list)
    """The reason of each dead letter that was found at the end."""

    @property
    def ends(self) -> int:
        """How often it has ended; once is right."""
        return self.acked_done + self.acked_for_nothing + self.held + len(self.dead)

    @property
    def seems_ended(self) -> bool:
        """As far as is known before the dead letters are looked at."""
        acks = self.acked_done + self.acked_for_nothing
        return acks + self.held + self.dead_copies + self.refused > 0


class Account:
    """Keeps a record of each message; handlers in threads may tell it, too."""

    def __init__(self, messages: Sequence[Fuzzed]) -> None:
        self._messages = messages
        self.records = [Record() for _ in messages]
        self.faults: list[str] = []
        """What is wrong with no message in particular: a lost connection, a task that is left."""
        self.connections = 0
        self.looping: set[int] = set()
        """Messages that came again and again, and that the tap has let through no more."""
        self._open = set(range(len(messages)))
        self._lock = threading.Lock()

    # --- what handlers tell ----------------------------------------------------------------------

    def ran(self, number: int) -> None:
        """A handler was called."""
        with self._lock:
            self.records[number].runs += 1

    def done(self, number: int) -> None:
        """A handler has done its work, or a middleware said that there is none."""
        with self._lock:
            self.records[number].done += 1

    # --- what the tap tells ----------------------------------------------------------------------

    def delivered(self, number: int) -> bool:
        record = self.records[number]
        record.deliveries += 1
        if record.deliveries > LOOP:
            self.looping.add(number)
        return record.deliveries <= LOOP

    def confirmed(self, number: int, exchange: str, routing_key: str) -> None:
        record = self.records[number]
        if exchange:  # of the delay ladder
            record.copies += 1
            record.held += exchange in LONG
        elif routing_key.endswith(DEAD_SUFFIX):
            record.copies += 1
            record.dead_copies += 1
        self._look(number)

    def acked(self, number: int) -> None:
        record = self.records[number]
        record.acks += 1
        with self._lock:
            if record.copies:
                record.copies -= 1
            elif record.done:
                record.done -= 1
                record.acked_done += 1
            else:
                record.acked_for_nothing += 1
        self._look(number)

    def nacked(self, number: int) -> None:
        self.records[number].nacked += 1

    def refused(self, number: int) -> None:
        self.records[number].refused += 1
        self._look(number)

    def breaks(self, number: int) -> bool:
        act, record = self._messages[number].plan.act, self.records[number]
        if act == FAILS_ALWAYS or (act == FAILS_ONCE and not record.breaks):
            record.breaks += 1
            return True
        return False

    def connected(self) -> None:
        self.connections += 1

    def closed(self, what: str) -> None:
        self.faults.append(what)

    # --- what the fuzz asks ----------------------------------------------------------------------

    def expired(self, number: int, reason: str) -> None:
        """A dead letter was found."""
        self.records[number].dead.append(reason)
        self._open.discard(number)

    def _look(self, number: int) -> None:
        if self.records[number].seems_ended:
            self._open.discard(number)

    @property
    def open(self) -> frozenset[int]:
        """The messages that have not ended, as far as is known, and still may."""
        return frozenset(self._open - self.looping)

    @property
    def worst(self) -> tuple[int, int]:
        """The number of the message that ran most often, and how often."""
        number = max(range(len(self.records)), key=lambda n: self.records[n].runs)
        return number, self.records[number].runs

    def problems(self) -> dict[int, list[str]]:
        """What is wrong with each message of which something is."""
        found = {
            message.number: problems_of(message, self.records[message.number])
            for message in self._messages
        }
        return {number: problems for number, problems in found.items() if problems}

    def ends(self) -> Counter[str]:
        """How many messages ended how."""
        return Counter(end_of(record) for record in self.records)


def end_of(record: Record) -> str:
    """How a message ended: done, dead with its reason, or wrongly."""
    if record.ends != 1:
        return f"ended {record.ends} times"
    if record.held:
        return HELD
    return f"{DEAD}: {record.dead[0]}" if record.dead else DONE


def problems_of(message: Fuzzed, record: Record) -> list[str]:
    """What is not as promised with a message."""
    plan, problems = message.plan, []
    if record.ends != 1:
        problems.append(f"ended {record.ends} times")
    if record.acked_for_nothing:
        problems.append("acked, with neither a run that was done nor a confirmed copy")
    if record.runs > plan.runs:
        problems.append(f"ran {record.runs} times, and may {plan.runs}")
    hops = 1 if message.lane == "partitioned" else 0
    if record.deliveries > max(plan.runs, 1) * 3 + hops + SPARE:
        problems.append(f"delivered {record.deliveries} times")
    if record.ends == 1 and not record.acked_for_nothing:
        problems += _wrong_end(message, record)
    return problems


def _wrong_end(message: Fuzzed, record: Record) -> list[str]:
    """What is wrong with the one end that it has."""
    end = end_of(record).partition(":")[0]
    reason = record.dead[0] if record.dead else ""
    if reason in EXPIRED:
        expires = "expiration" in message.raw.properties or message.plan.act == FAILS_ALWAYS
        return [] if expires else [f"dead-lettered for no reason of its own: {reason}"]
    if reason == DeathReason.UNSETTLED and message.plan.act not in (FAILS_ONCE, FAILS_ALWAYS):
        return ["it was the last resort that ended it"]
    if end in message.plan.ends:
        return []
    if not message.is_plain and reason in NEVER_RUN:
        return []
    if message.plan.ends == ENDS_DONE:
        return [f"it was to be done, and is {end}: {reason}"]
    return [f"it was to be dead, and is {end}"]
