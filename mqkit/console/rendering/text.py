"""Writes values as people read them: masked and printable, with units that fit."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from markupsafe import Markup, escape

from mqkit.logging.masking import Masker

NONE = "\N{EN DASH}"
"""Stands where nothing is known."""

_KEPT = "\n\t"


def clean(text: str, masker: Masker) -> str:
    """Mask secrets in a text, and write what is not printable as Python would."""
    masked = masker.mask(text)
    if masked.isprintable():
        return masked
    return "".join(c if c.isprintable() or c in _KEPT else ascii(c)[1:-1] for c in masked)


def number(value: float | None) -> str:
    """Write a count, its thousands apart."""
    return NONE if value is None else f"{value:,.0f}"


def counted(value: int, one: str, many: str = "") -> str:
    """Write a count with its noun: `1 queue`, `2 queues`."""
    return f"{number(value)} {one if value == 1 else many or f'{one}s'}"


def rate(value: float | None) -> str:
    """Write a number of messages a second."""
    if value is None:
        return NONE
    if 0 < value < 0.05:  # noqa: PLR2004 - what would be written as 0.0
        return "< 0.1/s"
    return f"{value:.1f}/s" if value < 100 else f"{number(value)}/s"  # noqa: PLR2004 - three digits


def share(value: float | None) -> str:
    """Write a share as percent; what is more than nothing is not written as nothing."""
    if value is None:
        return NONE
    return "< 1 %" if 0 < value < 0.01 else f"{value:.0%}".replace("%", " %")  # noqa: PLR2004


_STEPS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def span(seconds: float | None) -> str:
    """Write a number of seconds in the unit that fits."""
    if seconds is None:
        return NONE
    for size, unit in _STEPS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    if seconds >= 10 or seconds == 0:  # noqa: PLR2004 - two digits
        return f"{seconds:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1_000:.3g} ms"


def size(count: int | None) -> str:
    """Write a number of bytes."""
    if count is None:
        return NONE
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1_000:  # noqa: PLR2004 - as SI has it
            return f"{value:.3g} {unit}"
        value /= 1_000
    return f"{value:.3g} GB"


def age(moment: datetime, now: datetime) -> str:
    """Write how long ago something was."""
    seconds = max(round((now - moment).total_seconds()), 0)
    if seconds < 1:
        return "just now"
    return f"{seconds} s ago" if seconds < 120 else f"{span(seconds)} ago"  # noqa: PLR2004 - 2 min


def when(moment: datetime | None, now: datetime) -> Markup:
    """Write a time as how long ago it was; the time itself is shown by the browser on hover."""
    if moment is None:
        return escape(NONE)
    stamp = moment.isoformat(timespec="seconds")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(stamp, age(moment, now))


def moment_of(text: object) -> datetime | None:
    """Read a time as a dead letter's values have it; None where there is none."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def dated(moment: datetime | None, now: datetime) -> Markup:
    """Write a time itself, and how long ago it was."""
    if moment is None:
        return escape(NONE)
    stamp = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup("{}, {}").format(stamp, when(moment, now))


def link(path: str, /, **query: object) -> Markup:
    """Make the address of a page; names go into its query, quoted, whatever they have in them.

    What is None or empty is left out.
    """
    told = {name: str(each) for name, each in query.items() if each not in (None, "")}
    # Lone surrogates have no UTF-8; such a name is none of a broker's.
    asked = urlencode(told, errors="replace", quote_via=quote)
    return escape(f"{path}?{asked}" if asked else path)
