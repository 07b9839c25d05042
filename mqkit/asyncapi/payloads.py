"""Makes the schemas of bodies, and gives each message a name of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import (
    PydanticInvalidForJsonSchema,
    PydanticUndefinedAnnotation,
    PydanticUserError,
)
from pydantic.json_schema import GenerateJsonSchema

from mqkit.asyncapi.dialect import REFERENCE, converted
from mqkit.asyncapi.facts import Body
from mqkit.codec import BYTES, JSON

BINDING = "0.3.0"
"""The version of the AMQP bindings (https://github.com/asyncapi/bindings/tree/v3.0.0/amqp)."""

ARGUMENTS = "x-arguments"
"""Where the `x-` arguments stand that a queue or an exchange is declared with.

The bindings have no place for them, and leave room for extensions."""

_NOT_AN_ID = re.compile(r"[^A-Za-z0-9._-]+")


def component_id(text: str, taken: Iterable[str] = ()) -> str:
    """Return a name that may stand in a reference, and is none of those taken."""
    text = text.replace("#", "_all_").replace("*", "_any_")
    name = wanted = _NOT_AN_ID.sub("_", text).strip("_") or "unnamed"
    number = 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


class Messages:
    """The messages of a document, and the schemas that they refer to."""

    def __init__(self, bodies: Iterable[Body]) -> None:
        distinct: list[Body] = []
        for body in bodies:
            if body not in distinct:
                distinct.append(body)
        schemas, self.schemas = _schemas(distinct)
        self.messages: dict[str, dict[str, Any]] = {}
        self._ids: list[tuple[Body, str]] = []
        for body, schema in zip(distinct, schemas, strict=True):
            about = _about(schema) or _about(self.schemas.get(_referred(schema)))
            self._ids.append((body, self._added(_message(body, schema, about), body)))

    def _added(self, message: dict[str, Any], body: Body) -> str:
        """Add a message unless one that is the same is there; return its id."""
        for known, other in self.messages.items():
            if other == message:
                return known
        name = body.name
        if component_id(name) in self.messages and body.mode == "serialization":
            name += ".sent"
        found = component_id(name, self.messages)
        self.messages[found] = message
        return found

    def id_of(self, body: Body) -> str:
        """Return the id of the message of a body."""
        return next(found for known, found in self._ids if known == body)


def _about(schema: Any) -> str:
    """Return the first line of what a schema says of itself: of its class' docstring."""
    about = schema.get("description") if isinstance(schema, dict) else None
    return about.strip().partition("\n")[0] if isinstance(about, str) else ""


def _referred(schema: Any) -> str:
    reference = schema.get("$ref") if isinstance(schema, dict) else None
    return str(reference).removeprefix(REFERENCE)


def _message(body: Body, schema: Any, about: str) -> dict[str, Any]:
    message: dict[str, Any] = {"name": body.name, "title": body.name}
    if about:
        message["summary"] = about
    if body.type is not None:
        message["contentType"] = BYTES if body.type is bytes else JSON
        message["payload"] = schema
    message["bindings"] = {"amqp": {"bindingVersion": BINDING}}
    return message


class _Schemas(GenerateJsonSchema):
    """Says of what is written that it has each field: mqkit writes defaults as well."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        if self.mode != "serialization" or field["type"] == "typed-dict-field":
            return super().field_is_required(field, total)
        return not (field.get("serialization_exclude") or field.get("serialization_exclude_if"))


def _schemas(bodies: list[Body]) -> tuple[list[Any], dict[str, Any]]:
    """Return a schema for each body, and by name those that they refer to.

    A type that pydantic has no JSON Schema for (what a validator in Python makes of anything) has
    one that says so, and takes all.
    """
    inputs: list[Any] = []
    found: dict[int, Any] = {}
    for number, body in enumerate(bodies):
        if body.type is None or body.type is bytes:
            found[number] = {"type": "string", "format": "binary"}
            continue
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(body.type)
            adapter.json_schema(mode=body.mode)
        except (
            PydanticInvalidForJsonSchema,
            PydanticUserError,
            PydanticUndefinedAnnotation,
        ) as error:
            reason = str(error).partition("\n")[0]
            found[number] = {"description": f"{body.name} has no JSON Schema: {reason}"}
        else:
            inputs.append((number, body.mode, adapter))
    made, rest = TypeAdapter.json_schemas(
        inputs, ref_template=REFERENCE + "{model}", schema_generator=_Schemas
    )
    found |= {number: converted(schema) for (number, _), schema in made.items()}
    shared = {name: converted(schema) for name, schema in rest.get("$defs", {}).items()}
    return [found[number] for number in range(len(bodies))], shared
