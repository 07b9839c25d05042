"""Things that code raises, by name, from ordinary to hostile."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
from collections.abc import Callable
from typing import Any, NoReturn

from mqkit import Reject, RetryLater, errors


class ServerGone(BaseException):
    """As gevent's and some drivers' errors: no `Exception`."""


class Over(StopIteration):
    """As a library's own end of an iteration."""


class Aborted(asyncio.CancelledError):
    """A cancellation that a library has made its own."""


class Stop(KeyboardInterrupt):
    """An interrupt that a library has made its own."""


class BrokenTextError(Exception):
    """Cannot be written as text."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class NoTextError(Exception):
    """What it gives for text is none."""

    def __str__(self) -> str:
        found: Any = 7
        return found  # type: ignore[no-any-return]


class HostileTextError(Exception):
    """Its text raises what no `except Exception` sees."""

    def __str__(self) -> str:
        raise ServerGone("in __str__")


class HiddenCauseError(Exception):
    """Does not let one see its cause."""

    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override]
        raise ValueError("no cause")


class FalsyError(Exception):
    """An error that is false, and has no truth to tell in another case."""

    def __len__(self) -> int:
        return 0


class NoTruthError(Exception):
    """An error that cannot be compared, hashed or tested."""

    def __bool__(self) -> bool:
        raise ValueError("no truth")

    def __eq__(self, other: object) -> bool:
        raise ValueError("not comparable")

    __hash__ = None  # type: ignore[assignment]


def _cycle() -> Exception:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    first.__context__, second.__context__ = second, second
    return first


def _chain(length: int) -> Exception:
    error = first = ValueError("0")
    for number in range(1, length):
        error.__cause__ = ValueError(str(number))
        error = error.__cause__
    return first


def _nested(levels: int) -> Exception:
    error: Exception = ValueError("inside")
    for _ in range(levels):
        error = ExceptionGroup("a level", [error])
    return error


def _noted() -> Exception:
    error = ValueError("noted")
    error.__notes__ = 7  # type: ignore[assignment]
    return error


def _unpicklable() -> Exception:
    error = ValueError("unpicklable")
    error.held = lambda: None  # type: ignore[attr-defined]
    return error


def _odd_class(**attributes: Any) -> Exception:
    name = attributes.pop("name", "Odd")
    odd: type[Exception] = type("Odd", (Exception,), attributes)
    odd.__name__ = odd.__qualname__ = name
    return odd("odd")


def _nan_later() -> Exception:
    later = RetryLater(0)
    later.seconds = float("nan")
    return later


def _syntax() -> Exception:
    error = SyntaxError("odd")
    error.lineno, error.text, error.offset = "x", b"\xff", -3  # type: ignore[assignment]
    return error


RETRIED: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("a failure"),
    "KeyError": lambda: KeyError("k"),
    "TimeoutError": TimeoutError,
    "InvalidOperation": lambda: decimal.InvalidOperation([decimal.InvalidOperation]),
    "RecursionError": lambda: RecursionError("too deep"),
    "MemoryError": MemoryError,
    "StopAsyncIteration": StopAsyncIteration,
    "group": lambda: ExceptionGroup("g", [ValueError("one"), KeyError("two")]),
    "deep group": lambda: _nested(60),
    "StopIteration": lambda: StopIteration(7),
    "StopIteration subclass": lambda: Over(7),
    "BaseException": lambda: ServerGone("gone"),
    "base group": lambda: BaseExceptionGroup("g", [ServerGone("one"), ValueError("two")]),
    "group of interrupts": lambda: BaseExceptionGroup("g", [KeyboardInterrupt()]),
    "GeneratorExit": GeneratorExit,
    "SystemExit": lambda: SystemExit(3),
    "SystemExit with text": lambda: SystemExit("\ud800"),
    "KeyboardInterrupt": KeyboardInterrupt,
    "KeyboardInterrupt subclass": Stop,
    "CancelledError": asyncio.CancelledError,
    "CancelledError subclass": lambda: Aborted("mine"),
    "broken text": BrokenTextError,
    "text that is none": NoTextError,
    "text that raises a BaseException": HostileTextError,
    "hidden cause": lambda: HiddenCauseError("x"),
    "falsy": lambda: FalsyError("x"),
    "no truth": lambda: NoTruthError("x"),
    "cycle of causes": _cycle,
    "long chain": lambda: _chain(1_500),
    "odd notes": _noted,
    "huge text": lambda: ValueError("x" * 2_000_000),
    "huge text, wide": lambda: ValueError("\U0001f4a3" * 200_000),
    "surrogate": lambda: ValueError("lone \ud800 and \udfff"),
    "NUL and escapes": lambda: ValueError("a\0b\x1b[31m\r\nc"),
    "unpicklable": _unpicklable,
    "class without module": lambda: _odd_class(__module__=None),
    "class of module 7": lambda: _odd_class(__module__=7),
    "class of a module of surrogates": lambda: _odd_class(__module__="m\ud800"),
    "class with a long name": lambda: _odd_class(name="Odd" * 50_000),
    "class with a line break": lambda: _odd_class(name="Odd\nname", __module__="m\r\n"),
    "odd SyntaxError": _syntax,
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    "mqkit DecodeError": lambda: errors.DecodeError("the handler's own"),
    "mqkit InvalidMessageError": lambda: errors.InvalidMessageError("the handler's own"),
    "mqkit ConnectError": lambda: errors.ConnectError("the handler's own"),
    "mqkit ChannelClosedError": lambda: errors.ChannelClosedError(
        404, "a channel of the handler's"
    ),
    "mqkit HandlerPausedError": lambda: errors.HandlerPausedError("the handler's own"),
    "mqkit StoreUnavailableError": lambda: errors.StoreUnavailableError("the handler's own"),
    "RetryLater": lambda: RetryLater(0.1),
    "RetryLater at once": lambda: RetryLater(0),
    "RetryLater in a group": lambda: ExceptionGroup("g", [RetryLater(0.1)]),
}
"""A failure, for the policy to judge."""

FINAL: dict[str, Callable[[], BaseException]] = {
    "Reject": lambda: Reject("no"),
    "Reject of huge text": lambda: Reject("r" * 300_000),
    "Reject of a surrogate": lambda: Reject("\ud800"),
    "Reject of a number": lambda: Reject(7),  # type: ignore[arg-type]
    "Reject in a group": lambda: ExceptionGroup("g", [Reject("no")]),
    "Reject in a deep group": lambda: ExceptionGroup("g", [ExceptionGroup("h", [Reject("no")])]),
    "Reject in a base group": lambda: BaseExceptionGroup("g", [Reject("no"), ServerGone("x")]),
    "RetryLater of NaN": _nan_later,
}
"""An end without another attempt."""

RAISED = RETRIED | FINAL

AMBIGUOUS = frozenset({"Reject in a base group"})
"""Of the final ones, those that could as well be told by what is beside the `Reject`."""

INTERRUPTS = (
    "SystemExit",
    "SystemExit with text",
    "KeyboardInterrupt",
    "KeyboardInterrupt subclass",
)
"""asyncio itself gives these of a task to the loop, whoever waits for the task."""


def raised(kind: str, number: int) -> BaseException:
    """The error of this kind, which knows its message where it can."""
    error = RAISED[kind]()
    with contextlib.suppress(Exception):
        error.fuzzed = number  # type: ignore[attr-defined]
    return error
