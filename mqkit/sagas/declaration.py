"""Reads a saga's class: its messages and what each is for, checked, with all types resolved."""

from __future__ import annotations

import inspect
import types
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mqkit.checks import checked
from mqkit.checks.calls import nearest
from mqkit.errors import HandlerError
from mqkit.outcome import Reject
from mqkit.registration.body_fields import field_getter
from mqkit.registration.injection import arguments
from mqkit.registration.options import is_async, name_of
from mqkit.retry import Retry
from mqkit.sagas.declared import DECLARED, Declared, Kind
from mqkit.sagas.own import TimeoutDue, UndoStep
from mqkit.topology import Queue

MAX_NAME = 100
"""Characters of a saga's name, which is part of its queues' names."""

MAX_ID = 255
"""Characters of a saga's id."""

MAX_VERSION = 2**31 - 1

OPTIONS = "__mqkit_saga_options__"
"""The attribute of a saga's class that holds what it was declared with."""


@dataclass(frozen=True, slots=True)
class SagaOptions:
    """What a saga's class was declared with."""

    name: str
    version: int
    keep: float
    retry: Retry | None
    publishes: tuple[type | str, ...]
    """What `compensated` publishes: types, or names."""


@dataclass(frozen=True, slots=True)
class SagaStep:
    """A method of a saga, and the message that it is for."""

    handler: str
    method: str
    declared: Declared
    queue: Queue
    body: str
    """The name of the argument that is the message."""
    body_type: Any
    injected: tuple[tuple[str, Any], ...]
    """The names and the annotations of all others."""
    id_of: Callable[[Any], str]
    """Return the id of a message's saga; a message that has none is rejected by it."""

    @property
    def takes_body(self) -> bool:
        """Whether the method itself takes the message."""
        return self.declared.kind in (Kind.STARTS, Kind.CONTINUES)


@dataclass(frozen=True, slots=True)
class Declaration:
    """All that a saga's class says."""

    saga: type[Any]
    options: SagaOptions
    state_type: type[BaseModel]
    steps: tuple[SagaStep, ...]
    timeouts: dict[str, SagaStep]
    compensations: dict[str, SagaStep]

    @property
    def what(self) -> str:
        """What errors call it."""
        return f"saga {self.options.name}"


def declaration_of(
    saga: type[Any], state_type: Any, *, reserved: Collection[str] = ()
) -> Declaration:
    """Read a saga's class.

    :param reserved: names that its methods cannot have, as every saga has something of that name
    :raises HandlerError: it cannot work; the message says why
    """
    what = f"saga {saga.__qualname__}"
    options = vars(saga).get(OPTIONS)
    if options is None:
        raise HandlerError(
            f"{what}: it has no name; write class {saga.__name__}(Saga[...], name='...')"
        )
    if not (isinstance(state_type, type) and issubclass(state_type, BaseModel)):
        raise HandlerError(
            f"{what}: it has no type of state; write class {saga.__name__}(Saga[State], "
            f"name={options.name!r}), where State is a pydantic model, not "
            f"{checked.shown(state_type)}"
        )
    if options.version > 1 and not inspect.ismethod(getattr(saga, "migrate", None)):
        raise HandlerError(
            f"{what}: version={options.version}, and nothing makes its state of an older one; "
            "write @classmethod def migrate(cls, version: int, data: dict) -> dict"
        )
    steps = tuple(_steps(saga, options, what))
    for step in steps:
        if step.method in reserved:
            raise HandlerError(
                f"handler {step.handler}: every saga has a {step.method!r} of its own, which this "
                "would take the place of; give it another name"
            )
    if not any(step.declared.kind is Kind.STARTS for step in steps):
        raise HandlerError(f"{what}: no message starts it; declare one with @starts(Queue(...))")
    _check_queues(steps, what)
    return Declaration(
        saga,
        options,
        state_type,
        steps,
        _by_name(steps, Kind.TIMEOUT, what),
        _by_name(steps, Kind.COMPENSATES, what),
    )


def _steps(saga: type[Any], options: SagaOptions, what: str) -> Iterator[SagaStep]:
    """Return the methods that are declared, those of its bases first."""
    names = dict.fromkeys(name for each in reversed(saga.__mro__) for name in vars(each))
    for name in names:
        function = inspect.getattr_static(saga, name)
        declared = getattr(function, DECLARED, None)
        if isinstance(declared, Declared):
            yield _step(saga, options, name, function, declared)
        elif any(hasattr(vars(each).get(name), DECLARED) for each in saga.__mro__):
            raise HandlerError(
                f"{what}: {name} is declared for a message in a base of it, and not here; write "
                "the decorator over this one too"
            )


def _step(
    saga: type[Any],
    options: SagaOptions,
    name: str,
    function: Callable[..., Any],
    declared: Declared,
) -> SagaStep:
    handler = f"{saga.__module__}.{saga.__qualname__}.{name}"
    what = f"handler {handler}"
    if not is_async(function):
        raise HandlerError(
            f"{what}: a method of a saga is `async def`: what it publishes it awaits"
        )
    taken = arguments(types.MethodType(function, saga), what)
    required = [each for each in taken if not each[2]]
    step = _step_of_own(declared, options)
    if step is not None:
        body, body_type, queue = step
        return SagaStep(handler, name, declared, queue, body, body_type, _injected(taken), _own_id)
    if not required or taken[0] != required[0]:
        raise HandlerError(
            f"{what}: its first argument after self is the message; write "
            f"async def {name}(self, order: Order)"
        )
    (body, body_type, _), others = taken[0], taken[1:]
    if not isinstance(declared.queue, Queue):
        raise HandlerError(
            f"{what}: @{declared.kind.value} takes a Queue, not {checked.shown(declared.queue)}"
        )
    return SagaStep(
        handler,
        name,
        declared,
        declared.queue,
        body,
        body_type,
        _injected(others),
        _id_getter(declared, body_type, options, what),
    )


def _injected(taken: list[tuple[str, Any, bool]]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, annotation) for name, annotation, _ in taken)


def _step_of_own(declared: Declared, options: SagaOptions) -> tuple[str, Any, Queue] | None:
    """Return the argument, its type and the queue of a message that the saga sends to itself."""
    if declared.kind is Kind.TIMEOUT:
        queue = declared.queue or Queue(f"saga.{options.name}.timeout.{declared.name}")
        return "mqkit_timeout", TimeoutDue, queue
    if declared.kind is Kind.COMPENSATES:
        queue = declared.queue or Queue(f"saga.{options.name}.compensate.{declared.name}")
        return "mqkit_step", UndoStep, queue
    return None


def _own_id(message: Any) -> str:
    return str(message.id)


def _id_getter(
    declared: Declared, body_type: Any, options: SagaOptions, what: str
) -> Callable[[Any], str]:
    by = declared.by
    if isinstance(by, str):
        get: Callable[[Any], object] = field_getter(by, body_type, what, option="by")
        shown = by
    elif callable(by) and not is_async(by) and checked.takes(by, 1):
        get, shown = by, f"what {name_of(by)} returned"
    else:
        raise HandlerError(
            f"{what}: by takes the name of a field of the message, or a function of it, "
            f"not {checked.shown(by)}"
        )

    def id_of(message: Any) -> str:
        return _checked_id(get(message), f"saga {options.name}: {shown}")

    return id_of


def _checked_id(value: object, what: str) -> str:
    """Return the id that a message gives as text.

    :raises Reject: it can be none
    """
    if isinstance(value, bool) or not isinstance(value, str | int | uuid.UUID):
        raise Reject(f"{what} is the id of a saga, which {type(value).__name__} cannot be")
    # Of an enum that is text: its value, and not its name.
    text = str.__str__(value) if isinstance(value, str) else str(value)
    if not text or len(text) > MAX_ID or "\0" in text or not checked.is_utf8(text):
        raise Reject(
            f"{what} is the id of a saga: 1 to {MAX_ID} characters without NUL, "
            f"not {checked.shown(value)}"
        )
    return text


def _check_queues(steps: tuple[SagaStep, ...], what: str) -> None:
    """Refuse two methods that take messages of one queue."""
    methods: dict[str, str] = {}
    for step in steps:
        other = methods.setdefault(step.queue.name, step.method)
        if other != step.method:
            raise HandlerError(
                f"{what}: {other} and {step.method} both take the messages of queue "
                f"{step.queue.name!r}, and each would get only some; give each its own queue"
            )


def _by_name(steps: tuple[SagaStep, ...], kind: Kind, what: str) -> dict[str, SagaStep]:
    found: dict[str, SagaStep] = {}
    for step in steps:
        if step.declared.kind is kind:
            other = found.setdefault(step.declared.name, step)
            if other is not step:
                raise HandlerError(
                    f"{what}: {other.method} and {step.method} both have "
                    f"@{kind.value}({step.declared.name!r}); a name has one method"
                )
    return found


def unknown(name: object, known: dict[str, SagaStep], decorator: str) -> str:
    """Say that a saga has no timeout, or no compensation, of a name; and which it has."""
    there = nearest(name, list(known)) if isinstance(name, str) else ""
    return f"it has no @{decorator}({checked.shown(name)}){there}"
