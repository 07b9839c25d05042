"""What is stated of a pause, and which errors it is for."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit import ConfigurationError, Pause, Queue, Reject, Retry, RetryLater, Service
from mqkit.errors import HandlerError


class GatewayDownError(Exception):
    """What a dependency raises."""


class GatewaySlowError(GatewayDownError):
    """One kind of it."""


DOWN = GatewayDownError("card 4000-1234")
GATEWAY = Pause(on=GatewayDownError, rate=0.5, over=4, minimum=2, every=7)


def raised_from(error: BaseException, cause: BaseException) -> BaseException:
    """`raise error from cause`."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"on": ()}, "types of exceptions"),
        ({"on": DOWN}, "types of exceptions"),
        ({"on": KeyboardInterrupt}, "types of exceptions"),
        ({"on": (OSError, Reject)}, "Reject and RetryLater say what becomes of one message"),
        ({"rate": 0}, "rate"),
        ({"rate": 1.1}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"minimum": 21}, "the minimum is 1 to all of them"),
        ({"minimum": 0}, "the minimum is 1 to all of them"),
        ({"over": 2.5}, "both are numbers of runs"),
        ({"every": 0}, "every"),
        ({"every": float("inf")}, "every"),
        ({"probe": "ping"}, "a function without arguments"),
    ],
)
def test_a_pause_that_cannot_work_is_refused(wrong: dict[str, Any], words: str) -> None:
    """The error says which value is wrong, and what it may be."""
    with pytest.raises(ConfigurationError, match=words):
        Pause(**{"on": OSError, **wrong})


@pytest.mark.parametrize(
    ("error", "is_named"),
    [
        (DOWN, True),
        (GatewaySlowError(), True),
        (ValueError(), False),
        (raised_from(ValueError(), DOWN), True),
        (raised_from(KeyError(), raised_from(ValueError(), DOWN)), True),
        (ExceptionGroup("two", [ValueError(), DOWN]), True),
        (ExceptionGroup("two", [ValueError(), KeyError()]), False),
        (Reject("no"), False),
        (raised_from(Reject("no"), DOWN), False),
        (RetryLater(1), False),
        (raised_from(RetryLater(1), DOWN), True),
    ],
)
def test_what_counts_as_one_of_the_named_exceptions(error: BaseException, is_named: bool) -> None:
    """Subclasses, what was raised from one, and groups that hold one; never a Reject."""
    assert (GATEWAY.named(error) is not None) == is_named


def test_an_error_met_while_another_was_handled_is_not_named() -> None:
    """Only `raise ... from` says that one was the reason for the other."""
    error = ValueError()
    error.__context__ = DOWN
    assert GATEWAY.named(error) is None


def test_instructions_of_a_handler_are_no_failures_even_of_everything() -> None:
    """on=Exception takes every error, and neither Reject nor RetryLater."""
    everything = Pause(on=Exception)
    assert everything.named(KeyError()) is not None
    assert everything.named(Reject("no")) is None
    assert everything.named(RetryLater(1)) is None


def test_causes_that_go_in_a_circle_are_seen_once() -> None:
    """A chain of causes that a program has closed does not hang."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert GATEWAY.named(first) is None


def test_a_handlers_own_pause_goes_before_the_services() -> None:
    """The service's holds for every handler that states none."""
    whole, own = Pause(on=OSError), Pause(on=KeyError)
    service = Service("s", retry=Retry.never(), pause=whole)

    async def handle(body: bytes) -> None: ...

    service.handler(Queue("a"))(handle)
    service.handler(Queue("b"), pause=own)(handle)
    assert [handler.pause for handler in service.handlers] == [whole, own]
    with pytest.raises(HandlerError, match="pause takes Pause"):
        service.handler(Queue("c"), pause=OSError)(handle)  # type: ignore[arg-type]
    with pytest.raises(HandlerError, match="service 't': pause takes Pause"):
        Service("t", pause=5)  # type: ignore[arg-type]
