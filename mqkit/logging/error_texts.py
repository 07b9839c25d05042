"""Texts of errors for logs and dead letters, whatever their classes do."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from itertools import islice

from mqkit.logging.masking import DEFAULT, MAX_MASKED, Masker, cut

NO_TRACEBACK = "<traceback failed>"

MAX_LINE = 4_000
"""Characters of one line of a traceback; a longer one is cut."""

MAX_LOOKED_AT = 4_000
"""Characters of an error's text that are looked at, to put a part of them on a line."""


def error_type(error: BaseException) -> str:
    """Name an error's type with its module, as a traceback does."""
    kind = type(error)
    try:
        module, name = f"{kind.__module__}", f"{kind.__qualname__}"
    except BaseException:  # noqa: BLE001 - a class may do anything there, too
        return "<a type without a name>"
    return name if module == "builtins" else f"{module}.{name}"


def error_text(error: BaseException) -> str:
    """Return an error's own text; '<str() failed>' where its class cannot give it."""
    try:
        # Exactly a str: a class derived from it may do anything where it is cut or encoded.
        return str.__add__("", str(error))
    except BaseException:  # noqa: BLE001 - what an application's `__str__` raises is no news
        return "<str() failed>"


def masked_text(error: BaseException, masker: Masker = DEFAULT) -> str:
    """Return an error's own text without secrets."""
    return masker.mask(error_text(error))


def masked_line(error: BaseException, masker: Masker = DEFAULT, limit: int = 500) -> str:
    """Return an error's own text on one line, without secrets.

    :param limit: characters of it, before the mark of a cut
    """
    text = error_text(error)
    if len(text) > MAX_LOOKED_AT:
        text = cut(text, MAX_LOOKED_AT)
    # The lines are joined first: what is on two of them must be seen as one.
    masked = masker.mask(" ".join(text.split()))
    return masked if len(masked) <= limit else f"{masked[:limit]} [cut]"


def masked_traceback(
    error: BaseException, masker: Masker = DEFAULT, *, with_texts: bool = True
) -> str:
    """Format an error with its traceback and causes, without secrets; of a long one, the end.

    :param with_texts: whether the texts of the errors are in it, or their types alone
    :return: '<traceback failed>' where that fails
    """
    try:
        if with_texts:
            text = "".join(traceback.format_exception(error))
        else:
            text = "".join(_without_texts(error))
    except BaseException:  # noqa: BLE001 - as `error_text`
        return NO_TRACEBACK
    if len(text) > MAX_LINE:  # else one line, of a giant text, would be all that there is
        text = "\n".join(
            cut(line, MAX_LINE) if len(line) > MAX_LINE else line for line in text.split("\n")
        )
    if len(text) > MAX_MASKED:  # from the beginning of a line
        text = f"[cut]\n{text[-MAX_MASKED + 10 :].partition(chr(10))[2]}"
    return masker.mask(text)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Return what caused an error, and what caused that, as a traceback shows them."""
    seen = {id(error)}
    while (cause := _cause(error)) is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        error = cause


def _cause(error: BaseException) -> BaseException | None:
    try:
        stated, implied = error.__cause__, error.__context__
        suppressed = error.__suppress_context__
    except BaseException:  # noqa: BLE001 - as `error_text`
        return None
    return implied if stated is None and not suppressed else stated


def _without_texts(error: BaseException) -> Iterator[str]:
    for each in reversed([error, *islice(causes(error), 10)]):
        if each.__traceback__ is not None:
            yield "Traceback (most recent call last):\n"
            yield from traceback.format_tb(each.__traceback__)
        yield f"{error_type(each)}\n"
        if each is not error:
            yield "\nwhich led to\n\n"
