"""Fail points: places in mqkit where a process kills itself, as often as a test issued tickets.

    issue(tmp_path / "tickets", 5)
    arm("retry-confirmed", tmp_path / "tickets")      # in the process that is to die

A method of mqkit is wrapped from here; mqkit itself knows nothing of it. Whoever reaches the point
takes a ticket, if there is one left, and dies by SIGKILL: nothing is flushed, closed or told to the
broker. Any number of processes share the tickets, and each is used once, so that the test decides
exactly how many deaths there are.
"""

from __future__ import annotations

import functools
import inspect
import os
import pkgutil
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

When = Literal["before", "after"]

USED = ".used."
"""Between a used ticket's number and the id of the process that used it."""


RETURNED = "return"
"""Among a call's arguments, what it returned: no argument can have this name."""

IN_TURN = 0.3
"""How likely a turn of a group's member is the place where its process dies."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place: before a method (or function) runs, or after it returned; not where it raised."""

    path: str
    """Dotted: module, class, method."""
    when: When
    messages: Callable[[Mapping[str, Any]], int] | None = None
    """How many messages' work is lost there, by the arguments of the call, and by what it returned:
    with one of fewer than two it is not reached. Without it, any call will do."""


def _in_turn(arguments: Mapping[str, Any]) -> int:
    ended: Sequence[object] = arguments["group"].ended
    # Not always with the second one, which is the first that comes here.
    return len(ended) + 1 if ended and random.random() < IN_TURN else 0


def _committed(arguments: Mapping[str, Any]) -> int:
    # Who was handled before got no turn, and was told so before the commit.
    return sum(each.seconds is not None for each in arguments["members"])


def _returned(arguments: Mapping[str, Any]) -> int:
    # Where the database failed, for example by a deadlock, that is each message's result.
    return sum(not isinstance(each, BaseException) for each in arguments[RETURNED])


def _count_of(name: str) -> Callable[[Mapping[str, Any]], int]:
    return lambda arguments: len(arguments[name])


POINTS: dict[str, Point] = {
    # The copy of a delivery (a retry or a dead letter) is confirmed, its original not acked yet.
    "retry-confirmed": Point("mqkit.consuming.republisher.Republisher._send", "after"),
    # The handler has run for some of those that share a transaction, and others are to come.
    "group-in-turn": Point("mqkit.store.running.once.Once._turn", "before", _in_turn),
    # It has run for all of them; each published a message.
    "shared-handled": Point("mqkit.store.outbox.write", "before", _count_of("messages")),
    # Their outbox is written, and not committed.
    "shared-written": Point("mqkit.store.inbox.keep_results", "before", _count_of("results")),
    # They are committed, and none is acked.
    "group-committed": Point("mqkit.store.running.once.Once.group", "after", _committed),
    "batch-committed": Point("mqkit.store.store.Store.run_batch_once", "after", _returned),
}


def point_of(name: str) -> Point:
    """A point by its name in `POINTS`, or written out as `before:module.Class.method`."""
    if name in POINTS:
        return POINTS[name]
    when, colon, path = name.partition(":")
    if not colon or when not in ("before", "after"):
        raise LookupError(
            f"no fail point {name!r}: one of {', '.join(POINTS)}, or before:PATH, or after:PATH"
        )
    return Point(path, "before" if when == "before" else "after")


def place_of(point: Point) -> tuple[Any, str]:
    """The class (or module) that has the point's method, and the method's name."""
    owner, _, attribute = point.path.rpartition(".")
    return pkgutil.resolve_name(owner), attribute


def issue(tickets: Path, count: int) -> None:
    """Add so many tickets to a directory, which is made where it is not there."""
    tickets.mkdir(parents=True, exist_ok=True)
    first = len(list(tickets.iterdir()))
    for number in range(first, first + count):
        (tickets / f"{number:06}").touch()


def left(tickets: Path) -> int:
    """Tickets that nobody has used yet."""
    return len(_unused(tickets))


def used_by(tickets: Path) -> list[int]:
    """Ids of the processes that used one, and died of it."""
    return [int(path.name.partition(USED)[2]) for path in sorted(tickets.glob(f"*{USED}*"))]


def lost_by(tickets: Path) -> list[int]:
    """How many messages' work each death cost, where the point counts them."""
    texts = [path.read_text() for path in sorted(tickets.glob(f"*{USED}*"))]
    return [int(text) for text in texts if text]


def claim(tickets: Path, messages: int = 0) -> bool:
    """Take a ticket; False where there is none left. Only one process gets each.

    The rename is what takes it: of two that try the same file, one finds it gone. `messages` is
    written into it, unless it is zero.
    """
    unused = _unused(tickets)
    random.shuffle(unused)
    for path in unused:
        try:
            used = path.rename(f"{path}{USED}{os.getpid()}")
        except FileNotFoundError:
            continue
        if messages:
            used.write_text(str(messages))
        return True
    return False


def _unused(tickets: Path) -> list[Path]:
    return [path for path in tickets.iterdir() if USED not in path.name]


def arm(name: str, tickets: Path) -> None:
    """Wrap the point's method in this process; from now on who reaches it may die.

    :raises LookupError: there is no such point
    :raises AttributeError, ImportError: mqkit no longer has the method
    """
    point = point_of(name)
    owner, attribute = place_of(point)
    found = inspect.getattr_static(owner, attribute)

    def reached(messages: int) -> None:
        if claim(tickets, messages):
            os.kill(os.getpid(), signal.SIGKILL)

    if isinstance(found, staticmethod | classmethod):
        setattr(owner, attribute, type(found)(_wrapped(found.__func__, point, reached)))
    else:
        setattr(owner, attribute, _wrapped(found, point, reached))


def _wrapped(
    function: Callable[..., Any], point: Point, reached: Callable[[int], None]
) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        # Calling one runs nothing of it.
        raise TypeError(f"{function.__qualname__} is a generator; choose a method that it calls")
    signature = inspect.signature(function)

    def passed(
        when: When, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any = None
    ) -> None:
        if when != point.when:
            return
        if point.messages is None:
            reached(0)
            return
        arguments = {**signature.bind(*args, **kwargs).arguments, RETURNED: result}
        if (messages := point.messages(arguments)) > 1:
            reached(messages)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def in_loop(*args: Any, **kwargs: Any) -> Any:
            passed("before", args, kwargs)
            result = await function(*args, **kwargs)
            passed("after", args, kwargs, result)
            return result

        return in_loop

    @functools.wraps(function)
    def in_place(*args: Any, **kwargs: Any) -> Any:
        passed("before", args, kwargs)
        result = function(*args, **kwargs)
        if point.when == "after" and inspect.isawaitable(result):
            # Nothing of what is awaited has run.
            raise TypeError(f"{function.__qualname__} is no coroutine function, and returns one")
        passed("after", args, kwargs, result)
        return result

    return in_place
