"""The strategies of a retry policy: whether one can be asked at all, and what its answer means."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from numbers import Real
from typing import Any

import tenacity
from tenacity.retry import retry_base
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from mqkit import checked
from mqkit.errors import OptionError, PolicyError
from mqkit.outcome import MAX_DELAY

_KINDS = {"stop": stop_base, "wait": wait_base, "retry": retry_base}

STRATEGIES = {
    "stop": "stop=stop_after_attempt(6)",
    "wait": "wait=wait_exponential_jitter(max=60)",
    "retry": "retry=retry_if_exception_type(KeyError)",
}


def check_strategy(name: str, strategy: Any) -> None:
    """See that a strategy can be asked.

    :raises OptionError: it cannot; the error says what to write
    """
    shown, example = checked.shown(strategy), STRATEGIES[name]
    kinds = strategy if isinstance(strategy, tuple | list) else (strategy,)
    if name == "retry" and any(_is_error(kind) for kind in kinds):
        names = ", ".join(getattr(kind, "__name__", type(kind).__name__) for kind in kinds)
        to_write = f"({names})" if isinstance(strategy, tuple | list) else names
        raise OptionError(
            f"Retry(retry=...) takes a tenacity strategy, not {shown}: write "
            f"retry=retry_if_exception_type({to_write})"
        )
    if isinstance(strategy, type):
        raise OptionError(
            f"Retry({name}=...) takes a tenacity strategy, not a class of them: call "
            f"{strategy.__name__}, as in {example}"
        )
    if strategy is tenacity.retry or isinstance(
        strategy, tuple(kind for other, kind in _KINDS.items() if other != name)
    ):
        raise OptionError(
            f"Retry({name}=...) takes what decides on {name}, not {shown}: write one like {example}"
        )
    if not callable(strategy):
        raise OptionError(
            f"Retry({name}=...) takes a tenacity strategy, not {shown}: write one like {example}"
        )
    call = getattr(strategy, "__call__", None)  # noqa: B004 - the method itself is inspected
    if any(is_kind(each) for is_kind in _NO_ANSWERS for each in (strategy, call)):
        raise OptionError(
            f"Retry({name}={shown}): asynchronous strategies, and those with a `yield`, are not "
            "supported"
        )
    if not checked.takes(strategy, 1):
        raise OptionError(
            f"Retry({name}=...) takes a tenacity strategy or a function of a RetryCallState, and "
            f"{shown} cannot be called with one argument; write one like {example}"
        )
    for part in _parts(strategy):
        check_strategy(name, part)


def _parts(strategy: Any) -> Iterator[Any]:
    """What one of tenacity's is put together of: of `stop | stop`, both."""
    if isinstance(strategy, tuple(_KINDS.values())):
        for attribute in ("stops", "retries", "wait_funcs", "strategies"):
            parts = getattr(strategy, attribute, ())
            if isinstance(parts, tuple | list):
                yield from parts


_NO_ANSWERS = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def _is_error(kind: object) -> bool:
    return isinstance(kind, BaseException) or (
        isinstance(kind, type) and issubclass(kind, BaseException)
    )


def _seconds(answer: Any) -> float:
    """The seconds of a number or a timedelta; NaN is anything else."""
    if isinstance(answer, timedelta):
        return answer.total_seconds()
    is_number = isinstance(answer, Real | Decimal) and not isinstance(answer, bool)
    try:
        return float(answer) if is_number else math.nan
    except OverflowError:
        return math.inf if answer > 0 else -math.inf
    except ValueError:  # a signaling NaN
        return math.nan


def is_yes(name: str, answer: Any) -> bool:
    """What `retry` or `stop` answered: anything that Python takes for true or false.

    :raises PolicyError: it is a strategy, which was to be called, or something to be awaited
    """
    if answer is True or answer is False:
        return bool(answer)
    if callable(answer) or inspect.isawaitable(answer) or inspect.isgenerator(answer):
        _close(answer)
        raise PolicyError(
            f"Retry({name}=...) answered with a {type(answer).__name__}, which says neither yes "
            "nor no: return what that returns when it is called, or awaited"
        )
    return bool(answer)


def wait_of(answer: Any) -> float:
    """The seconds that `wait` answered, within what the broker can hold.

    :raises PolicyError: it is no time
    """
    seconds = _seconds(answer)
    if math.isnan(seconds):
        _close(answer)
        raise PolicyError(
            f"Retry(wait=...) answered with {checked.shown(answer)}, which is no time: return "
            "seconds, as a number or a timedelta"
        )
    return min(max(seconds, 0.0), MAX_DELAY)


def _close(answer: Any) -> None:
    """End a coroutine that nobody awaits; Python would say so otherwise, at some other time."""
    if inspect.iscoroutine(answer):
        answer.close()
