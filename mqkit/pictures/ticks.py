"""Chooses round numbers for an axis, and writes them."""

from __future__ import annotations

import math

_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST_DIGITS = 6

FEW_DECADES = 3
"""Over so many powers of ten, or fewer, there are ticks between them."""


def linear(low: float, high: float, about: int) -> list[float]:
    """Return round numbers from at or below `low` to at or above `high`.

    :param about: how many there are, roughly
    """
    step = _step((high - low) / max(about - 1, 1))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * number for number in range(first, max(last, first + 1) + 1)]


def _step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * each for each in _ROUND if power * each >= least * (1 - 1e-9))


def logarithmic(low: float, high: float) -> list[float]:
    """Return powers of ten around both; twice and five times them, too, where there are few.

    :param low: more than 0
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    if last - first <= FEW_DECADES:
        steps = [each * 10.0**power for power in range(first, last + 1) for each in (1, 2, 5)]
        start = sum(step <= low * (1 + 1e-9) for step in steps) - 1
        end = sum(step < high * (1 - 1e-9) for step in steps)
        return steps[start : max(end, start + 1) + 1]
    last = max(last, first + 1)
    step = max(1, math.ceil((last - first) / 8))
    return [10.0**power for power in range(first, last + step, step)]


def written(value: float) -> str:
    """Write a number as it is read best: 0, 0.05, 2,500, 1e9."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:  # noqa: PLR2004
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        if not exponent:
            mantissa, _, exponent = f"{value:.2e}".partition("e")
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:,.{_MOST_DIGITS}f}".rstrip("0").rstrip(".")
