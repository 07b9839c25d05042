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

Scope = Literal["message", "service"]

RUNTIME_PROVIDED = "__mqkit_runtime_provided__"
"""A class with this attribute set is supplied by the running service (the publisher, say)."""

TRANSACTIONAL = "__mqkit_transaction__"
"""A class with this attribute set is a store's transaction: handlers ask for it by annotation."""


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
    """The annotation of the body."""


def plan(function: Callable[..., Any], what: str, providers: Mapping[Any, Provider]) -> Plan:
    """Match a handler's arguments; at most one is left over, and it is the body.

    :raises HandlerError: an argument cannot be resolved; the message names it
    """
    injected: dict[str, Any] = {}
    bodies: dict[str, Any] = {}
    for name, annotation, has_default in _arguments(function, what):
        if _is_injectable(annotation, providers):
            injected[name] = annotation
        elif not has_default:
            bodies[name] = annotation
    if len(bodies) > 1:
        listed = " and ".join(f"{name}: {_name(kind)}" for name, kind in bodies.items())
        raise HandlerError(
            f"{what}: {listed} could each be the body; only one can. "
            "Call service.provide(type, factory) for the others before registering the handler"
        )
    if not bodies:
        return Plan(None, None, injected)
    ((body, annotation),) = bodies.items()
    return Plan(body, _decoder(annotation, body, what), injected, annotation)


def batch_plan(function: Callable[..., Any], what: str, providers: Mapping[Any, Provider]) -> Plan:
    """Match the arguments of a function of many messages: a list of bodies, and of deliveries.

    :raises HandlerError: an argument cannot be resolved, or is one message's
    """
    injected: dict[str, Any] = {}
    bodies: dict[str, Any] = {}
    for name, annotation, has_default in _arguments(function, what):
        if annotation == DELIVERIES:
            injected[name] = annotation
        elif _is_of_one_message(annotation, providers):
            raise HandlerError(
                f"{what}: argument {name!r} of type {_name(annotation)} is for one message; a "
                "batch takes list[Delivery], and what lives as long as the service"
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
    return Plan(body, _decoder(kind, body, what), injected)


DELIVERIES = list[Delivery]


def _is_of_one_message(annotation: Any, providers: Mapping[Any, Provider]) -> bool:
    if annotation is Delivery or getattr(annotation, TRANSACTIONAL, False):
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
    for name, annotation, has_default in _arguments(factory, what):
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


def _arguments(function: Callable[..., Any], what: str) -> list[tuple[str, Any, bool]]:
    target = function if inspect.isroutine(function) else function.__call__  # type: ignore[operator]
    if inspect.isclass(function):
        target = function.__init__
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise HandlerError(
            f"{what}: an annotation names {error.name!r}, which is not defined in its module"
        ) from error
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        has_default = parameter.default is not parameter.empty
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise HandlerError(f"{what}: it takes {parameter}, and nothing can be matched to that")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise HandlerError(f"{what}: argument {name!r} is positional only; remove the '/'")
        if name not in hints and not has_default:
            raise HandlerError(f"{what}: argument {name!r} has no annotation")
        found.append((name, hints.get(name), has_default))
    return found


def _is_injectable(annotation: Any, providers: Mapping[Any, Provider]) -> bool:
    if annotation is Delivery or getattr(annotation, RUNTIME_PROVIDED, False):
        return True
    try:
        return annotation in providers
    except TypeError:  # an annotation that cannot be hashed was never provided
        return False


def _name(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
