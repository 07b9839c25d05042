"""A plan: what differs between the declarations and a broker, as values and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from mqkit.errors import ConfigurationError

FORMAT = "mqkit topology plan"
VERSION = 1


class Kind(StrEnum):
    """What is to be done about a difference."""

    CREATE = "create"
    """It is declared, and not on the broker: `apply` declares it."""
    CHANGE = "change"
    """It is on the broker otherwise, and `apply` moves its messages and declares it anew."""
    DRIFT = "drift"
    """It is on the broker otherwise, and somebody has to decide: `apply` leaves it."""
    REFUSED = "refused"
    """A version of RabbitMQ refuses it, or takes it otherwise than it is meant."""
    UNUSED = "unused"
    """It is on the broker and declared no more: `apply --prune` takes it away."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    kind: Kind
    what: str
    """'exchange', 'queue', 'binding', 'partitions', 'ladder' or 'policy'."""
    name: str
    detail: str = ""
    risk: str = ""
    messages: int | None = None
    """Ready and unacknowledged, when it was looked at; by AMQP alone the ready ones."""
    consumers: int | None = None

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What must be the same when a stored plan is applied: not the risk, which moves on."""
        return (self.kind.value, self.what, self.name, self.detail)

    def __str__(self) -> str:
        text = f"{self.kind:<7} {self.what} {self.name}"
        text += f": {self.detail}" if self.detail else ""
        counts = [
            f"{number} {noun if number != 1 else noun[:-1]}"
            for number, noun in ((self.messages, "messages"), (self.consumers, "consumers"))
            if number is not None
        ]
        risk = ", ".join([*counts, *([self.risk] if self.risk else [])])
        return text + (f" [{risk}]" if risk else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """All differences, and what could not be seen."""

    services: tuple[str, ...]
    broker: str
    """Host, port and virtual host, without the password."""
    changes: tuple[Change, ...]
    unseen: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what is stored of it, and printed with --json."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "services": list(self.services),
            "broker": self.broker,
            "changes": [asdict(each) for each in self.changes],
            "unseen": list(self.unseen),
        }


def plan_from(text: str) -> Plan:
    """Read a stored plan.

    :raises ConfigurationError: it is none, or of a version that this mqkit does not know
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"the plan is no JSON: {error}") from error
    if not isinstance(found, Mapping) or found.get("format") != FORMAT:
        raise ConfigurationError("the file is no plan: `mqkit topology plan --out` writes one")
    if found.get("version") != VERSION:
        raise ConfigurationError(
            f"the plan is of version {found.get('version')!r}, and this mqkit reads {VERSION}: "
            "make a new one"
        )
    try:
        return Plan(
            services=tuple(map(_text, found["services"])),
            broker=_text(found["broker"]),
            changes=tuple(_change(each) for each in found["changes"]),
            unseen=tuple(map(_text, found["unseen"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the plan is damaged ({type(error).__name__}: {error}): make a new one"
        ) from error


def _change(found: Mapping[str, Any]) -> Change:
    texts = {name: _text(found[name]) for name in ("what", "name", "detail", "risk")}
    counts = {name: _count(found[name]) for name in ("messages", "consumers")}
    return Change(kind=Kind(found["kind"]), **texts, **counts)  # type: ignore[arg-type]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _count(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{value!r} is no count")
    return value


def staleness(stored: Plan, now: Plan) -> list[str]:
    """Say how the broker, or what is declared, has changed since a plan was stored.

    :raises ConfigurationError: it is a plan for something else
    """
    if stored.services != now.services:
        raise ConfigurationError(
            f"the plan is for {', '.join(stored.services)}, not for {', '.join(now.services)}"
        )
    if stored.broker != now.broker:
        raise ConfigurationError(f"the plan is for {stored.broker}, not for {now.broker}")
    before = {each.identity for each in stored.changes}
    after = {each.identity for each in now.changes}
    return [
        *(f"not in the plan: {each}" for each in now.changes if each.identity not in before),
        *(f"no more so: {each}" for each in stored.changes if each.identity not in after),
    ]
