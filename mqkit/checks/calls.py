"""Says what a function takes where it was called with something else."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from mqkit.errors import ConfigurationError, OptionError

P = ParamSpec("P")
R = TypeVar("R")


def names_its_options(
    what: str,
    *,
    error: type[ConfigurationError] = OptionError,
    example: str = "",
    first: Callable[..., None] = lambda *_: None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a decorator for a method of the public API, whose callers are told what it takes.

    Python's own TypeError names what is wrong, and before 3.13 not what was probably meant.

    :param what: what the error calls it: 'Service'
    :param error: what is raised where the arguments do not fit
    :param example: how it is called, for who leaves something out
    :param first: called with the positional arguments, before anything else
    """

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            first(*arguments)
            try:
                signature.bind(*arguments, **options)
            except TypeError as wrong:
                hint = f"; write {example}" if example else ""
                problem = _unknown(signature, options) or f"{wrong}{hint}"
                raise error(f"{what}: {problem}") from None
            return method(*arguments, **options)

        return call

    return decorate


def nearest(name: str, names: list[str]) -> str:
    """Say which of the names was probably meant, or else which there are: '; did you mean ...?'."""
    if near := difflib.get_close_matches(name, names, n=1):
        return f"; did you mean {near[0]}?"
    return f"; there {'is' if len(names) == 1 else 'are'} {', '.join(names)}" if names else ""


def _unknown(signature: inspect.Signature, options: Mapping[str, Any]) -> str:
    """Say which option there is not; '' if it is something else that does not fit."""
    unknown = [name for name in options if name not in signature.parameters]
    if not unknown:
        return ""
    names = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    return f"there is no option {unknown[0]!r}{nearest(unknown[0], names)}"
