"""What is done with each message, by whom, and how it must then end; drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from tests.faults.fuzz.raising import AMBIGUOUS, FINAL, INTERRUPTS, RAISED, RETRIED

ATTEMPTS = 3
"""Runs that the policy of every handler allows a message."""

DONE, DEAD, HELD = "done", "dead", "held"
"""How a message ends: acked, dead-lettered, or in the delay ladder for most of a year."""

ENDS_DONE, ENDS_DEAD = frozenset({DONE}), frozenset({DEAD})
EITHER = ENDS_DONE | ENDS_DEAD

RESULTS = (
    "None",
    "a number",
    "a text",
    "bytes",
    "an error, returned",
    "NaN",
    "an object",
    "a lambda",
    "a list in itself",
    "a surrogate",
    "odd keys",
    "3 MB",
)
"""What a handler may return that is done; the last ones cannot be written for a reply."""

AWAITABLES = (
    "a coroutine",
    "a generator",
    "an async generator",
    "a future",
    "an awaitable",
)
"""What a handler returns whose work has not been done, whatever it thinks."""

WAITS = ("NaN", "infinity", "minus infinity", "negative", "None", "text", "huge", "a list", "True")

ENDLESS = ("infinity", "huge")
"""Waits that are as long as any can be, which is what mqkit makes of them: 310 days."""

KEYS = (
    "NaN",
    "Decimal",
    "a list",
    "None",
    "True",
    "bytes",
    "a surrogate",
    "a huge text",
    "a tuple",
    "a frozenset",
    "no hash",
    "a hash that raises",
    "text that raises",
    "an enum",
    "an object",
)

BATCH_RESULTS = ("None", "too few", "too many", "no list", "a dict", "a generator", "mixed")

PROVIDERS = (
    "fails on open",
    "fails on close",
    "yields twice",
    "yields nothing",
    "async fails on open",
    "async fails on close",
    "async yields twice",
    "async yields nothing",
    "is good",
)

FAILS_ONCE, FAILS_ALWAYS = "driver fails once", "driver fails always"
"""The handler fails, and the driver to write the copy that this asks for, so that the last resort
is all that is left."""

LANES = (
    "async",
    "async-timeout",
    "def",
    "def-timeout",
    "any",
    "model",
    "policy",
    "middleware",
    "provider",
    "batch",
    "batch-def",
    "batch-timeout",
    "ordered",
    "partitioned",
)
"""The handlers, each of which has a queue of this name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done with one message."""

    act: str
    kind: str = ""
    ends: frozenset[str] = EITHER
    runs: int = ATTEMPTS
    """Runs of the handler at most."""

    def __str__(self) -> str:
        return f"{self.act} {self.kind}".strip()


def drawn(random: Random, lane: str) -> Plan:
    """A plan for a message of this lane; a busy machine lets any run take longer than its time."""
    plan = _drawn(random, lane)
    return replace(plan, ends=plan.ends | ENDS_DEAD, runs=ATTEMPTS) if "timeout" in lane else plan


def _drawn(random: Random, lane: str) -> Plan:
    if random.random() < 0.25:
        return Plan("return", "None", ENDS_DONE, 1) if not lane.startswith("batch") else _BATCHED
    draw = _BY_LANE.get(lane)
    if draw is None or (draw is _key and random.random() < 0.4):
        return _handler(random, lane)
    return draw(random)


_BATCHED = Plan("return", "None", EITHER)
"""What becomes of one of a batch is the first one's doing."""


def _handler(random: Random, lane: str) -> Plan:
    acts = ["raise"] * 5 + ["flaky"] * 2 + ["return", "block", "return awaitable"]
    if "def" not in lane:
        acts += ["cancel the task", "task group", "cancelled future"]
    if random.random() < 0.1:
        # Retries that keep an order need no copy.
        runs = ATTEMPTS if lane in ("ordered", "partitioned") else 1
        return Plan(random.choice((FAILS_ONCE, FAILS_ALWAYS)), "ValueError", ENDS_DEAD, runs)
    if "timeout" in lane:
        acts += ["outlast", "outlast"]
    act = random.choice(acts)
    if act == "raise":
        return _raise(random)
    # A result for one who asks for a reply is a failure if it cannot be written.
    plans = {
        "flaky": Plan(act, random.choice(list(RETRIED)), ENDS_DONE, 2),
        "return": Plan(act, random.choice(RESULTS), EITHER),
        "block": Plan(act, "", ENDS_DONE, 1),
        "return awaitable": Plan(act, random.choice(AWAITABLES), ENDS_DEAD),
        "task group": Plan(act, random.choice([k for k in RAISED if k not in INTERRUPTS]), EITHER),
    }
    return plans.get(act, Plan(act, "", ENDS_DEAD))


def _raise(random: Random, act: str = "raise") -> Plan:
    # What has no second attempt is a small part of all, and worth more of them.
    kind = random.choice(list(FINAL if random.random() < 0.25 else RAISED))
    return Plan(act, kind, ENDS_DEAD, 1 if kind in FINAL.keys() - AMBIGUOUS else ATTEMPTS)


def _policy(random: Random) -> Plan:
    act = random.choice(("wait is", "wait is", "wait raises", "stop raises", "retry raises"))
    if act == "wait is":
        kind = random.choice(WAITS)
        if kind in ENDLESS:
            return Plan(act, kind, frozenset({HELD}), 1)
        return Plan(act, kind, ENDS_DEAD)
    return Plan(act, random.choice(list(RAISED)), ENDS_DEAD)


def _middleware(random: Random) -> Plan:
    act = random.choice(
        (
            "middleware raises before",
            "middleware raises before",
            "middleware raises after",
            "middleware raises after",
            "middleware skips",
            "middleware forgets to await",
            "middleware swallows",
            "middleware calls twice",
            "middleware calls with nothing",
        )
    )
    if "raises" in act:
        return _raise(random, act)
    if act == "middleware forgets to await":
        return Plan(act, "", ENDS_DEAD, 0)
    if act == "middleware calls with nothing":
        return Plan(act, "", ENDS_DEAD)
    if act == "middleware calls twice":
        return Plan(act, "", ENDS_DONE, 2)
    return Plan(act, "", ENDS_DONE, 0 if act == "middleware skips" else 1)


def _provider(random: Random) -> Plan:
    kind = random.choice(PROVIDERS)
    if kind == "is good":
        return _raise(random)
    return Plan(f"provider {kind}", random.choice(list(RAISED)), ENDS_DEAD)


def _batch(random: Random) -> Plan:
    if random.random() < 0.5:
        return Plan("raise", random.choice(list(RAISED)))
    act = random.choice(("results", "results", "block", "outlast"))
    return Plan(act, random.choice(BATCH_RESULTS) if act == "results" else "")


def _key(random: Random) -> Plan:
    if random.random() < 0.5:
        return Plan("key raises", random.choice(list(RAISED)), EITHER)
    return Plan("key is", random.choice(KEYS), EITHER)


_BY_LANE: dict[str, Callable[[Random], Plan]] = {
    "model": lambda random: Plan("validator raises", random.choice(list(RAISED)), ENDS_DEAD, 0),
    "policy": _policy,
    "middleware": _middleware,
    "provider": _provider,
    "batch": _batch,
    "batch-def": _batch,
    "batch-timeout": _batch,
    "ordered": _key,
    "partitioned": _key,
}
"""What is planned for lanes where it is not the handler alone that is hostile."""
