"""Bodies: from a Python value to bytes, and back to the type that a handler asks for."""

from __future__ import annotations

from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from mqkit.errors import DecodeError, InvalidMessageError
from mqkit.message import Properties

JSON = "application/json"
BYTES = "application/octet-stream"

MAX_REPORTED_ERRORS = 20
"""How many validation errors a `DecodeError` lists; the rest are counted."""


def encode(body: object) -> tuple[bytes, str]:
    """The bytes of a body and their content type: bytes as they are, all else as JSON.

    Decimals become strings, so that no digit is lost.

    :raises InvalidMessageError: the value has something that JSON and pydantic do not know
    """
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body), BYTES
    try:
        return to_json(body), JSON
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidMessageError(
            f"a body of type {type(body).__name__} cannot be written as JSON: {error}"
        ) from error


class BodyDecoder:
    """Turns a body into one type: `bytes` is taken as it is, all else is validated from JSON.

    :raises PydanticUserError: pydantic cannot validate that type
    """

    def __init__(self, annotation: Any) -> None:
        self._adapter: TypeAdapter[Any] | None = None
        if annotation is not bytes:
            self._adapter = TypeAdapter(annotation)

    def decode(self, body: bytes, properties: Properties) -> Any:
        """The validated body.

        :raises DecodeError: the encoding is not known, the body is no JSON, or not of the type.
            The message names each field that is wrong, and never its value, which may be secret.
        """
        encoding = properties.content_encoding
        if encoding not in (None, "", "utf-8", "UTF-8", "identity"):
            raise DecodeError(f"content encoding {encoding!r} is not supported")
        if self._adapter is None:
            return body
        content_type = (properties.content_type or JSON).partition(";")[0].strip().lower()
        if content_type not in (JSON, BYTES, "text/json") and not content_type.endswith("+json"):
            raise DecodeError(
                f"content type {content_type!r} is not JSON; a handler of other formats takes bytes"
            )
        try:
            return self._adapter.validate_json(body)
        except ValidationError as error:
            # Not chained: the original's text quotes the input.
            raise DecodeError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [
        f"{'.'.join(str(part) for part in item['loc']) or 'body'}: {item['msg']}"
        for item in errors[:MAX_REPORTED_ERRORS]
    ]
    if len(errors) > MAX_REPORTED_ERRORS:
        lines.append(f"and {len(errors) - MAX_REPORTED_ERRORS} more")
    return f"the body is not a {error.title}: " + "; ".join(lines)


__all__ = ["BYTES", "JSON", "BodyDecoder", "PydanticUserError", "encode"]
