"""Matches a handler's arguments to what can supply them, once, at registration."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import PydanticUserError

from mqkit.codec import BodyDecoder
from mqkit.errors import HandlerError
from mqkit.message import Delivery
from mqkit.registration.body_fields import fields_of, members

Scope = Literal["message", "service"]

RUNTIME_PROVIDED = "__mqkit_runtime_provided__"
"""A class with this attribute set is supplied by the running service (the publisher, say)."""

TRANSACTIONAL = "__mqkit_transaction__"
"""A class with this attribute set is a store's transaction: handlers ask for it by annotation."""

SYNCHRONOUS = "__mqkit_synchronous__"
"""A transaction's class with this attribute set is for the thread of a `def` handler."""


@dataclass(frozen=True, slots=True)
class Provider:
    """How to make values of one type: per message, or once for the life of the service."""

    type: Any
    factory: Callable[..., Any]
    scope: Scope
    parameters: Mapping[str, Any]
    """The factory's own arguments: name to type, each injected in turn."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each argument of a handler comes from."""

    body: str | None
    decoder: BodyDecoder | None
    injected: Mapping[str, Any]
    """Argument name to type: `Delivery`, a provided type, or one that the runtime supplies."""
    body_type: Any = None
    """The annotation of the body; of a batch, that of each in its list."""


def plan(function: Callable[..., Any], what: str, providers: Mapping[Any, Provider]) -> Plan:
    """Match a handler's arguments; at most one is left over, and it is the body.

    :raises HandlerError: an argument cannot be resolved; the message names it
    """
    injected: dict[str, Any] = {}
    bodies: dict[str, Any] = {}
    for name, annotation, has_default in arguments(function, what):
        if _is_injectable(annotation, providers):
            injected[name] = annotation
        elif not has_default:
            bodies[name] = annotation
    if len(bodies) > 1:
        _refuse_optional(bodies, what, providers)
        listed = " and ".join(f"{name}: {_name(kind)}" for name, kind in bodies.items())
        raise HandlerError(
            f"{what}: {listed} could each be the body; only one can. "
            "Call service.provide(type, factory) for the others before registering the handler"
        )
    if not bodies:
        _refuse_defaulted_body(function, what, injected)
        return Plan(None, None, injected)
    ((body, annotation),) = bodies.items()
    return Plan(body, _decoder(annotation, body, what), injected, annotation)


def _refuse_optional(
    bodies: Mapping[str, Any], what: str, providers: Mapping[Any, Provider]
) -> None:
    """Refuse `delivery: Delivery | None`: what is injected is always there."""
    for name, annotation in bodies.items():
        kinds = members(annotation)
        if type(None) in kinds and any(_is_injectable(kind, providers) for kind in kinds):
            (kind,) = (_name(kind) for kind in kinds if _is_injectable(kind, providers))
            raise HandlerError(
                f"{what}: argument {name!r} always gets a {kind}; annotate it {name}: {kind}"
            )


def _refuse_defaulted_body(
    function: Callable[..., Any], what: str, injected: Mapping[str, Any]
) -> None:
    """Refuse `order: Order = None` where nothing else is the body: each message would be None.

    An argument of a plain type may have a default of its own, for who calls the function directly.
    """
    for name, annotation, _ in arguments(function, what):
        if name not in injected and any(fields_of(kind).is_record for kind in members(annotation)):
            raise HandlerError(
                f"{what}: argument {name!r} has a default, and would have that for every message; "
                "take the default away, and it is the body"
            )


def batch_plan(function: Callable[..., Any], what: str, providers: Mapping[Any, Provider]) -> Plan:
    """Match the arguments of a function of many messages: a list of bodies, and of deliveries.

    :raises HandlerError: an argument cannot be resolved, or is one message's
    """
    injected: dict[str, Any] = {}
    bodies: dict[str, Any] = {}
    for name, annotation, has_default in arguments(function, what):
        if annotation == DELIVERIES:
            injected[name] = annotation
        elif _is_of_one_message(annotation, providers):
            raise HandlerError(
                f"{what}: argument {name!r} of type {_name(annotation)} is for one message; a "
                "batch takes list[Delivery], a store's transaction, and what is made without a "
                "Delivery"
            )
        elif _is_injectable(annotation, providers):
            injected[name] = annotation
        elif not has_default:
            bodies[name] = annotation
    if len(bodies) != 1 or typing.get_origin(next(iter(bodies.values()))) is not list:
        listed = ", ".join(f"{name}: {_name(kind)}" for name, kind in bodies.items()) or "none"
        raise HandlerError(f"{what}: a batch takes one list of bodies, list[Order], not {listed}")
    ((body, annotation),) = bodies.items()
    (kind,) = typing.get_args(annotation)
    return Plan(body, _decoder(kind, body, what), injected, kind)


DELIVERIES = list[Delivery]


def _is_of_one_message(annotation: Any, providers: Mapping[Any, Provider]) -> bool:
    if annotation is Delivery:
        return True
    try:
        known = providers.get(annotation)
    except TypeError:  # no hash
        return False
    return known is not None and any(
        _is_of_one_message(needed, providers) for needed in known.parameters.values()
    )


def _decoder(annotation: Any, body: str, what: str) -> BodyDecoder:
    try:
        return BodyDecoder(annotation)
    except PydanticUserError as error:
        if error.code == "typed-dict-version":
            raise HandlerError(
                f"{what}: argument {body!r} is of a TypedDict that pydantic cannot read before "
                "Python 3.12: import TypedDict from typing_extensions"
            ) from error
        raise HandlerError(
            f"{what}: argument {body!r} of type {_name(annotation)} is neither a body that "
            f"pydantic can validate nor provided; call service.provide({_name(annotation)}, "
            "factory) before registering the handler"
        ) from error


def provider(
    type_: Any, factory: Callable[..., Any], scope: Scope, known: Mapping[Any, Provider]
) -> Provider:
    """Make a provider, and check that its own arguments can all be supplied.

    A generator function is a context manager: what stands after its `yield` runs when the
    message (or the service) is done, and sees the exception if there was one.

    :raises HandlerError: it cannot be made; the message says why
    """
    what = f"the provider of {_name(type_)}"
    if not callable(factory):
        raise HandlerError(f"{what}: {factory!r} is not callable")
    if scope not in ("message", "service"):
        raise HandlerError(f"{what}: scope is 'message' or 'service', not {scope!r}")
    parameters: dict[str, Any] = {}
    for name, annotation, has_default in arguments(factory, what):
        if _is_injectable(annotation, known):
            parameters[name] = annotation
        elif not has_default:
            raise HandlerError(
                f"{what}: argument {name!r} of type {_name(annotation)} is not provided"
            )
        needed = known.get(annotation)
        if scope == "service" and (annotation is Delivery or (needed and needed.scope != scope)):
            raise HandlerError(
                f"{what}: it lives as long as the service and cannot take {name!r}, which is made "
                "for one message"
            )
    if inspect.isasyncgenfunction(factory):
        factory = contextlib.asynccontextmanager(factory)
    elif inspect.isgeneratorfunction(factory):
        factory = contextlib.contextmanager(factory)
    return Provider(type_, factory, scope, parameters)


def arguments(function: Callable[..., Any], what: str) -> list[tuple[str, Any, bool]]:
    """Return a function's arguments: the name and annotation of each, and if it has a default.

    :raises HandlerError: one of them has no annotation, or one that cannot be read
    """
    target = function if inspect.isroutine(function) else function.__call__  # type: ignore[operator]
    if inspect.isclass(function):
        target = function.__init__
    hints = _hints(target, what)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        has_default = parameter.default is not parameter.empty
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise HandlerError(f"{what}: it takes {parameter}, and nothing can be matched to that")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise HandlerError(f"{what}: argument {name!r} is positional only; remove the '/'")
        if name not in hints and not has_default:
            raise HandlerError(f"{what}: argument {name!r} has no annotation{_for_want(name)}")
        found.append((name, hints.get(name), has_default))
    return found


def _hints(target: Any, what: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise HandlerError(
            f"{what}: an annotation names {error.name!r}, which is not defined in its module; "
            "annotations are read when the handler is registered: import it at the top, and not "
            "under `if TYPE_CHECKING:`"
        ) from error
    except Exception as error:  # an annotation in quotes may be any expression, and no type
        raise HandlerError(f"{what}: an annotation cannot be read: {error}") from error


def _for_want(name: str) -> str:
    """Say what to write where an annotation is missing."""
    if name in ("self", "cls"):
        return (
            "; a method is registered once there is an object: "
            "service.handler(Queue(...))(thing.method)"
        )
    return f"; say what it is: {name}: Order for the body, {name}: Delivery for its headers and ids"


def _is_injectable(annotation: Any, providers: Mapping[Any, Provider]) -> bool:
    if annotation is Delivery or getattr(annotation, RUNTIME_PROVIDED, False):
        return True
    try:
        return annotation in providers
    except TypeError:  # an annotation that cannot be hashed was never provided
        return False


def _name(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
