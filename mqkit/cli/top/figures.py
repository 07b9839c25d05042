"""Writes figures in few characters. Pure."""

from __future__ import annotations

NOT_KNOWN = "-"

_THOUSAND = 1000
_WHOLE = 9.95
"""From here on a rate has no decimals."""


def rate(value: float | None) -> str:
    """Write how many there are a second: 0, 0.4, 12, 9,999, 12.3k."""
    if value is None:
        return NOT_KNOWN
    if 0 < value < _WHOLE:
        return f"{max(value, 0.1):.1f}"  # seldom is not never
    return count(round(value))


def count(value: int | None) -> str:
    """Write how many there are: 0, 9,999, 12.3k, 4.5M."""
    if value is None:
        return NOT_KNOWN
    if value < 10 * _THOUSAND:
        return f"{value:,}"
    for unit in "kMG":
        value_in, power = value / _THOUSAND ** ("kMG".index(unit) + 1), unit
        if value_in < _THOUSAND:
            return f"{value_in:.1f}{power}"
    return f"{value / _THOUSAND**3:,.0f}G"


def share(value: float) -> str:
    """Write a share as percent; what is more than nothing is never shown as nothing."""
    percent = value * 100
    if 0 < percent < 1:
        return "<1%"
    return f"{percent:.0f}%"


def seconds(value: float | None) -> str:
    """Write a duration: 80us, 4.2ms, 350ms, 1.5s, 4m05s, 3h20m, 5d04h."""
    if value is None:
        return NOT_KNOWN
    if value < 0.001:  # noqa: PLR2004 - a millisecond
        return f"{value * 1e6:.0f}us"
    if value < 0.1:  # noqa: PLR2004 - 100 ms
        return f"{value * 1e3:.1f}ms"
    if value < 1:
        return f"{value * 1e3:.0f}ms"
    if value < 60:  # noqa: PLR2004 - a minute
        return f"{value:.1f}s"
    return span(value)


def span(value: float) -> str:
    """Write a time in whole seconds: 5s, 4m05s, 3h20m, 5d04h."""
    whole = max(int(value), 0)
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{rest}s"
    hours, minutes_left = divmod(minutes, 60)
    if not hours:
        return f"{minutes}m{rest:02}s"
    days, hours_left = divmod(hours, 24)
    return f"{days}d{hours_left:02}h" if days else f"{hours}h{minutes_left:02}m"
