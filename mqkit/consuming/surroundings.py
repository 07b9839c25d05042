"""What code may change around itself and leave to whatever runs in its place next."""

from __future__ import annotations

import contextvars
import decimal
from operator import attrgetter
from typing import Any

_SETTINGS = attrgetter("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps")


class Surroundings:
    """The context variables of the current task, and the settings of its decimal arithmetic.

    The latter are one object that is changed in place: a precision set for one payment would
    else hold for the next. So the task gets one of its own, with the settings that it finds.
    """

    def __init__(self) -> None:
        self._as_found = decimal.getcontext().copy()
        self._settings: Any = _SETTINGS(self._as_found)
        self._decimal = self._as_found.copy()
        self._decimal.clear_flags()
        decimal.setcontext(self._decimal)
        self._variables = contextvars.copy_context()

    def are_unchanged(self) -> bool:
        """Whether all is as it was at the beginning; what calculations signalled is cleared."""
        try:
            unchanged = contextvars.copy_context() == self._variables
        except BaseException:  # noqa: BLE001 - the values are anybody's, and so is what compares them
            return False
        self._decimal.clear_flags()
        return unchanged and _SETTINGS(self._decimal) == self._settings
