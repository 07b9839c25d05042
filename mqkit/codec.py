"""Bodies: from a Python value to bytes, and back to the type that a handler asks for."""

from __future__ import annotations

from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from mqkit.errors import DecodeError, InvalidMessageError, MqkitError
from mqkit.limits import DEFAULT_LIMITS, Limits
from mqkit.message import RESERVED_PREFIX, Header, Properties

JSON = "application/json"
BYTES = "application/octet-stream"

MAX_REPORTED_ERRORS = 20
"""How many validation errors a `DecodeError` lists; the rest are counted."""


_BYTES = (bytes, bytearray, memoryview)

_FROM_THE_BROKER = (
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-count",
    "x-acquired-count",
)
"""Headers that the broker adds begin with one of these."""


def encode(
    body: object, content_type: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> tuple[bytes, str]:
    """The bytes of a body and their content type: bytes as they are, all else as JSON.

    Decimals become strings, so that no digit is lost. Bytes that are said to be JSON may be no
    deeper than what is written here: a handler on the other side would refuse them.

    :param content_type: what the body is said to be; by default, what this finds
    :raises InvalidMessageError: the value has something that JSON and pydantic do not know, is
        nested without end, or is over the limits
    """
    if isinstance(body, _BYTES):
        size = body.nbytes if isinstance(body, memoryview) else len(body)
        _refuse(limits.body_problem(size), InvalidMessageError)
        encoded = bytes(body)
        if content_type is not None and is_json(content_type):
            _refuse(limits.json_problem(encoded), InvalidMessageError)
        return encoded, content_type or BYTES
    try:
        encoded = to_json(body)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise InvalidMessageError(
            f"a body of type {type(body).__name__} cannot be written as JSON: {error}"
        ) from error
    problem = limits.body_problem(len(encoded)) or limits.json_problem(encoded)
    _refuse(problem, InvalidMessageError)
    return encoded, content_type or JSON


def check_received(body: bytes, properties: Properties, limits: Limits) -> None:
    """See that a message is within the limits before anything is made of it.

    Neither mqkit's own headers nor those that the broker has added count: they come to a message
    that was within its limits when it was published.

    :raises DecodeError: its body or its headers are over the limits; it quotes nothing of them
    """
    _refuse(limits.body_problem(len(body)), DecodeError)
    headers = properties.headers
    if Header.UNREADABLE in headers:
        raise DecodeError(
            "its headers cannot be decoded: they are nested too deeply, or hold a time after the "
            "year 9999; they are left out"
        )
    if headers and limits.headers_problem(headers) is not None:
        added = (RESERVED_PREFIX, *_FROM_THE_BROKER)
        published = {name: v for name, v in headers.items() if not name.startswith(added)}
        _refuse(limits.headers_problem(published), DecodeError)


def is_json(content_type: str) -> bool:
    """Whether a content type is one of JSON (RFC 6839, section 3.1, for `+json`)."""
    if content_type == JSON:
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in (JSON, "text/json") or media_type.endswith("+json")


def _refuse(problem: str | None, kind: type[MqkitError]) -> None:
    if problem is not None:
        raise kind(problem)


class BodyDecoder:
    """Turns a body into one type: `bytes` is taken as it is, all else is validated from JSON.

    :raises PydanticUserError: pydantic cannot validate that type
    """

    def __init__(self, annotation: Any) -> None:
        self._adapter: TypeAdapter[Any] | None = None
        if annotation is not bytes:
            self._adapter = TypeAdapter(annotation)

    def decode(self, body: bytes, properties: Properties, limits: Limits = DEFAULT_LIMITS) -> Any:
        """The validated body.

        :raises DecodeError: the encoding is not known, the body is no JSON, nested too deeply, or
            not of the type. The message names each field that is wrong, and never its value,
            which may be secret.
        """
        encoding = properties.content_encoding
        if encoding not in (None, "", "utf-8", "UTF-8", "identity"):
            raise DecodeError(f"content encoding {encoding!r} is not supported")
        content_type = properties.content_type
        if self._adapter is None:
            if content_type is not None and is_json(content_type):
                _refuse(limits.json_problem(body), DecodeError)
            return body
        if content_type and content_type != BYTES and not is_json(content_type):
            raise DecodeError(
                f"content type {content_type!r} is not JSON; a handler of other formats takes bytes"
            )
        _refuse(limits.json_problem(body), DecodeError)
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


__all__ = [
    "BYTES",
    "JSON",
    "BodyDecoder",
    "PydanticUserError",
    "check_received",
    "encode",
    "is_json",
]
