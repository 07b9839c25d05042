"""The decorators that say which messages a saga's methods are for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict, TypeVar, Unpack

from mqkit.checks import checked
from mqkit.checks.checked import Seconds
from mqkit.errors import HandlerError
from mqkit.middleware import Middleware
from mqkit.pause import Pause
from mqkit.registration.options import name_of
from mqkit.retry import Retry
from mqkit.sagas.values import Found, Missing
from mqkit.topology import Queue, Source

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Enum)

By = str | Callable[[Any], object]
"""A field of the message, or a function of it, that is the id of its saga."""

DECLARED = "__mqkit_saga_message__"
"""The attribute by which a method says what it is for."""


class HandlerOptions(TypedDict, total=False):
    """The options of `Service.handler` that a method of a saga takes as well."""

    retry: Retry | None
    prefetch: int
    concurrency: int | None
    middleware: Iterable[Middleware]
    timeout: Seconds | None
    cancel_when_lost: bool
    pause: Pause | None
    order_by: Callable[[Any], Hashable] | str | None
    share_commits: bool


class Kind(Enum):
    """What a method of a saga is for."""

    STARTS = "starts"
    CONTINUES = "continues"
    TIMEOUT = "on_timeout"
    COMPENSATES = "compensates"


@dataclass(frozen=True, slots=True)
class Declared:
    """What a decorator was given."""

    kind: Kind
    queue: Queue | None
    options: HandlerOptions
    name: str = ""
    """Of the timeout, or of the step."""
    by: By = ""
    bind: Source | Iterable[Source] = ()
    missing: Missing = Missing.REJECT
    existing: Found = Found.IGNORE
    compensating: Found = Found.IGNORE
    completed: Found = Found.IGNORE
    publishes: tuple[type | str, ...] = field(default=())
    """The messages that it publishes: their types, or their names."""

    @property
    def published_names(self) -> tuple[str, ...]:
        """The names of what it publishes."""
        return names_of(self.publishes)


def starts(
    queue: Queue,
    *,
    by: By,
    bind: Source | Iterable[Source] = (),
    existing: Found = Found.IGNORE,
    completed: Found = Found.IGNORE,
    publishes: Iterable[type | str] = (),
    **options: Unpack[HandlerOptions],
) -> Callable[[F], F]:
    """Declare that a message of this queue starts a saga, unless there is one of its id.

    `by` is the field of the message that is the id of its saga, or a function of the message;
    `existing` what a message does whose saga is running or compensating already, and `completed`
    what it does where that is over. `publishes` names the messages that the method publishes, for
    the diagram. All else is as in `Service.handler`.

    :raises HandlerError: an option is not what it takes
    """

    def declare(function: F) -> F:
        return _declare(
            function,
            Declared(
                Kind.STARTS,
                queue,
                options,
                by=by,
                bind=bind,
                existing=_checked(Found, existing, function, "existing"),
                completed=_checked(Found, completed, function, "completed"),
                publishes=_said(publishes, function),
            ),
        )

    return declare


def continues(
    queue: Queue,
    *,
    by: By,
    bind: Source | Iterable[Source] = (),
    missing: Missing = Missing.REJECT,
    compensating: Found = Found.IGNORE,
    completed: Found = Found.IGNORE,
    publishes: Iterable[type | str] = (),
    **options: Unpack[HandlerOptions],
) -> Callable[[F], F]:
    """Declare that a message of this queue continues the saga of its id.

    `missing` is what a message does whose saga is not there; `compensating` and `completed` are
    what one does that finds it so. The other options are those of `starts`.

    :raises HandlerError: an option is not what it takes
    """

    def declare(function: F) -> F:
        return _declare(
            function,
            Declared(
                Kind.CONTINUES,
                queue,
                options,
                by=by,
                bind=bind,
                missing=_checked(Missing, missing, function, "missing"),
                compensating=_checked(Found, compensating, function, "compensating"),
                completed=_checked(Found, completed, function, "completed"),
                publishes=_said(publishes, function),
            ),
        )

    return declare


def on_timeout(
    name: str,
    *,
    queue: Queue | None = None,
    publishes: Iterable[type | str] = (),
    **options: Unpack[HandlerOptions],
) -> Callable[[F], F]:
    """Declare what happens when a timeout comes that the saga still waits for.

    Its message is held by the broker until then, and comes by a `queue` of its own.

    :raises HandlerError: an option is not what it takes
    """

    def declare(function: F) -> F:
        checked.name(name, f"{_what(function)}: on_timeout", error=HandlerError)
        said = _said(publishes, function)
        return _declare(function, Declared(Kind.TIMEOUT, queue, options, name, publishes=said))

    return declare


def compensates(
    step: str,
    *,
    queue: Queue | None = None,
    publishes: Iterable[type | str] = (),
    **options: Unpack[HandlerOptions],
) -> Callable[[F], F]:
    """Declare what undoes a step that `self.done(step)` has noted.

    Each step is undone by a message of its own, which comes by a `queue` of its own and is retried
    by its own policy.

    :raises HandlerError: an option is not what it takes
    """

    def declare(function: F) -> F:
        checked.name(step, f"{_what(function)}: compensates", error=HandlerError)
        said = _said(publishes, function)
        return _declare(function, Declared(Kind.COMPENSATES, queue, options, step, publishes=said))

    return declare


def _what(function: Callable[..., Any]) -> str:
    return f"handler {name_of(function)}"


def _declare(function: F, declared: Declared) -> F:
    what, decorator = _what(function), declared.kind.value
    if not callable(function) or isinstance(function, type | staticmethod | classmethod):
        raise HandlerError(
            f"{what}: @{decorator} is for a method of a saga, not {checked.shown(function)}"
        )
    if (other := getattr(function, DECLARED, None)) is not None:
        raise HandlerError(
            f"{what}: it has @{other.kind.value} already; each message has a method of its own"
        )
    for name in declared.options:
        if name not in HandlerOptions.__annotations__:
            raise HandlerError(
                f"{what}: @{decorator} has no option {name!r}; besides its own ones it takes "
                f"{', '.join(HandlerOptions.__annotations__)}"
            )
    setattr(function, DECLARED, declared)
    return function


def _checked(kind: type[E], value: object, function: Callable[..., Any], option: str) -> E:
    if isinstance(value, kind):
        return value
    members = ", ".join(str(f"{kind.__name__}.{each.name}") for each in kind)
    raise HandlerError(f"{_what(function)}: {option} takes {members}, not {checked.shown(value)}")


def _said(publishes: Iterable[type | str], function: Callable[..., Any]) -> tuple[type | str, ...]:
    return checked_publishes(publishes, _what(function))


def names_of(publishes: Iterable[type | str]) -> tuple[str, ...]:
    """Return the names of messages that are said to be published."""
    return tuple(each if isinstance(each, str) else each.__name__ for each in publishes)


def checked_publishes(publishes: Any, what: str) -> tuple[type | str, ...]:
    """Check what is said to be published.

    :raises HandlerError: it is no list of types and names
    """
    each = publishes
    if isinstance(publishes, Iterable) and not isinstance(publishes, str):
        found = list(publishes)
        wrong = [each for each in found if not isinstance(each, type | str)]
        if not wrong:
            return tuple(found)
        each = wrong[0]
    raise HandlerError(
        f"{what}: publishes takes a list of types of messages, or of their names, "
        f"not {checked.shown(each)}"
    )
