"""What a run must leave as it found it."""

from __future__ import annotations

import contextvars
import decimal
from collections.abc import Callable
from decimal import Decimal

import pytest

from mqkit.consuming.surroundings import Surroundings

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


def changed_by(change: Callable[[], object]) -> bool:
    """Whether the change is seen, in a context of its own."""

    def run() -> bool:
        surroundings = Surroundings()
        assert surroundings.are_unchanged()
        change()
        return not surroundings.are_unchanged()

    return contextvars.copy_context().run(run)


def _set_and_reset() -> None:
    variable.reset(variable.set("for a while"))


def _calculate() -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        assert Decimal(1) / 3 == Decimal("0.333")
    assert Decimal(2) / 3


@pytest.mark.parametrize(
    "change",
    [
        lambda: variable.set("set"),
        lambda: setattr(decimal.getcontext(), "prec", 5),
        lambda: setattr(decimal.getcontext(), "rounding", decimal.ROUND_UP),
        lambda: setattr(decimal.getcontext(), "Emax", 999),
        lambda: setattr(decimal.getcontext(), "clamp", 1),
        lambda: decimal.getcontext().traps.__setitem__(decimal.Inexact, True),
        lambda: decimal.setcontext(decimal.Context(prec=5)),
    ],
    ids=["variable", "precision", "rounding", "Emax", "clamp", "trap", "context"],
)
def test_a_change_is_seen(change: Callable[[], object]) -> None:
    """A variable that is set, and each setting of decimal arithmetic, is a change."""
    assert changed_by(change)


@pytest.mark.parametrize(
    "harmless",
    [_set_and_reset, _calculate, lambda: decimal.getcontext().copy().clear_traps()],
    ids=["reset", "calculation", "copy"],
)
def test_what_is_put_back_is_no_change(harmless: Callable[[], object]) -> None:
    """A variable that was set and reset, and arithmetic in a context of its own, change nothing."""
    if harmless is _set_and_reset:
        variable.set("before")
    assert not changed_by(harmless)


def test_the_decimal_context_of_others_is_left_alone() -> None:
    """It has the settings that were found, and to change it changes nobody else's."""
    outer = decimal.getcontext()
    outer.prec = 17

    def run() -> None:
        Surroundings()
        assert decimal.getcontext().prec == 17
        decimal.getcontext().prec = 5

    contextvars.copy_context().run(run)
    assert outer.prec == 17
    outer.prec = 28
