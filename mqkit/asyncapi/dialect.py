"""Turns pydantic's JSON Schema (2020-12) into the Schema Object of AsyncAPI (draft 07 and more)."""

from __future__ import annotations

from typing import Any

REFERENCE = "#/components/schemas/"
"""Where the schemas that others refer to stand."""

_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
"""Keys under which each key is a name, and no keyword."""

_VALUES = frozenset({"const", "default", "enum", "examples", "required"})
"""Keys of values, which may look like a schema and are none."""


def converted(schema: Any) -> Any:
    """Return a schema as AsyncAPI has it.

    A tuple's `prefixItems` are `items`. What stands beside a `$ref` counts in 2020-12 and not in
    draft 07, so that the reference goes into an `allOf`. A discriminator is OpenAPI's, and is kept
    as an extension.
    """
    if isinstance(schema, list):
        return [converted(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: value
        if key in _VALUES
        else {name: converted(each) for name, each in value.items()}
        if key in _MAPS and isinstance(value, dict)
        else converted(value)
        for key, value in schema.items()
        if key != "$defs"
    }
    if "prefixItems" in found:
        rest = found.pop("items", True)
        found["items"] = found.pop("prefixItems")
        found["additionalItems"] = rest
    if isinstance(found.get("discriminator"), dict):
        found["x-discriminator"] = found.pop("discriminator")
    if "$ref" in found and len(found) > 1:
        found["allOf"] = [{"$ref": found.pop("$ref")}]
    return found
