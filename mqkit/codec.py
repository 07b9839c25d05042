"""Encodes bodies from Python values, and decodes them to the type that a handler asks for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from mqkit.bodies.content_types import (
    BOM_UTF8,
    BYTES,
    JSON,
    content_problem,
    encoding_problem,
    is_json,
    is_utf16_or_32,
)
from mqkit.bodies.decimals import ExactValidator, may_lose_digits, pattern_of, reads_decimals
from mqkit.bodies.losses import loss, marks_in
from mqkit.bodies.schemas import Schema, stop_early, validator
from mqkit.bodies.validation_errors import MAX_BUILT, MAX_PART, MAX_PLACE, MAX_TEXT, cut, explain
from mqkit.errors import DecodeError, InvalidMessageError, MqkitError
from mqkit.limits import DEFAULT_LIMITS, Limits
from mqkit.message import RESERVED_PREFIX, Delivery, Header, Properties

LARGE_BODY = 4 * 1024
"""Bytes of a body that is validated up to the first wrong item of each list. Of a smaller one all
errors are counted. That takes 3 ms at most for a list of single values, and so many times that as
a union has choices, or a model in a list has fields without a default."""

SLOW_BODY = 256 * 1024
"""Bytes of a body that may hold an event loop for longer than it should be."""


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
    """Encode a body, and return its bytes and content type: all but bytes as JSON.

    Decimals become strings, so that no digit is lost. Bytes that are said to be JSON may be no
    deeper than what is written here: a handler on the other side would refuse them.

    :param content_type: what the body is said to be; by default, what this finds
    :raises InvalidMessageError: the value has something that JSON and pydantic do not know, or that
        would be lost in JSON (a number that is not finite, a secret, one of two equal keys), is
        nested without end, or is over the limits; or something of it failed, with whatever error
    """
    try:
        if isinstance(body, _BYTES):
            return _as_they_are(body, content_type, limits)
        encoded = to_json(body)
        marks = marks_in(encoded)
        if len(encoded) > limits.body:
            _refuse(limits.body_problem(len(encoded)), InvalidMessageError)
        if limits.unique_keys or len(marks) > limits.depth:
            _refuse(limits.json_problem(encoded), InvalidMessageError)
        problem = loss(body, encoded, marks)
        if problem is None:
            return encoded, content_type or JSON
    except (InvalidMessageError, KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException as error:  # noqa: BLE001 - an object may raise anything
        problem = _unwritable(error)
    # Not chained: the original's text can quote the value.
    raise InvalidMessageError(
        f"a body of type {type(body).__name__} cannot be written as JSON: {problem}"
    )


def _as_they_are(body: Any, content_type: str | None, limits: Limits) -> tuple[bytes, str]:
    size = body.nbytes if isinstance(body, memoryview) else len(body)
    _refuse(limits.body_problem(size), InvalidMessageError)
    encoded = bytes(body)
    if content_type is not None and is_json(content_type):
        _refuse(limits.json_problem(encoded), InvalidMessageError)
    return encoded, content_type or BYTES


_IN_A_FUNCTION = re.compile(r"Error calling function `([^`]*)`: (\w+)")
_IN_A_VALUE = re.compile(r"Error serializing to JSON: (\w+): ")


def _unwritable(error: BaseException) -> str:
    """Say why a value has no JSON: of what the application's own code raised, the type alone."""
    text = str(error) if isinstance(error, PydanticSerializationError) else ""
    called = _IN_A_FUNCTION.search(text)
    found = called or _IN_A_VALUE.match(text)
    raised = found.group(found.re.groups) if found else type(error).__name__
    if raised == KeyboardInterrupt.__name__:
        raise KeyboardInterrupt
    if called:
        return f"its serializer {cut(called[1], MAX_PART)!r} failed with {cut(raised, MAX_PART)}"
    if raised == UnicodeEncodeError.__name__:
        return "text in it has half of a character (a surrogate), which cannot be encoded"
    if "invalid utf-8" in text:
        return "bytes in it are no UTF-8; write them as text, such as base64"
    if found or not text:
        return f"something in it failed with {cut(raised, MAX_PART)}"
    return cut(text, MAX_TEXT)


def check_received(body: bytes, properties: Properties, limits: Limits) -> None:
    """Check that a message is within the limits, before anything is made of it.

    Neither mqkit's own headers nor those that the broker has added count: they come to a message
    that was within its limits when it was published.

    :raises DecodeError: its body or its headers are over the limits; it quotes nothing of them
    """
    _refuse(limits.body_problem(len(body)), DecodeError)
    headers = properties.headers
    if Header.UNREADABLE in headers:
        raise DecodeError(
            "its headers cannot be decoded: they are nested too deeply, or of a type that AMQP "
            "does not have; those are left out"
        )
    if headers and limits.headers_problem(headers) is not None:
        added = (RESERVED_PREFIX, *_FROM_THE_BROKER)
        published = {name: v for name, v in headers.items() if not name.startswith(added)}
        _refuse(limits.headers_problem(published), DecodeError)


def _refuse(problem: str | None, kind: type[MqkitError]) -> None:
    if problem is not None:
        raise kind(problem)


def _as_bytes(body: bytes, properties: Properties, limits: Limits) -> bytes:
    _refuse(encoding_problem(properties.content_encoding), DecodeError)
    if properties.content_type is not None and is_json(properties.content_type):
        _refuse(limits.json_problem(body), DecodeError)
    return body


class BodyDecoder:
    """Turns a body into one type: `bytes` is taken as it is, all else is validated from JSON.

    :raises PydanticUserError: pydantic cannot validate that type
    """

    def __init__(self, annotation: Any) -> None:
        self._adapter: TypeAdapter[Any] | None = None
        self._validate: Callable[[bytes], Any] = self._prepare_and_validate
        self._decimals = False
        self._title = "body of its type"
        if annotation is not bytes:
            self._adapter = TypeAdapter(annotation)
            # A type whose parts are not all defined yet is looked at with its first body.
            if self._adapter.pydantic_complete:
                self._prepare(self._adapter)

    def decode(self, body: bytes, properties: Properties, limits: Limits = DEFAULT_LIMITS) -> Any:
        """Validate a body and return it as the type; a byte order mark before it is left out.

        :raises DecodeError: the encoding is not known, the body is no JSON, over a limit, or not of
            the type, or a validator of the type failed, with whatever error. The message names each
            field that is wrong, and never its value, which may be secret; nor does it quote what a
            validator said of that.
        """
        if self._adapter is None:
            return _as_bytes(body, properties, limits)
        if properties.content_type != JSON or properties.content_encoding is not None:
            _refuse(
                content_problem(properties.content_type, properties.content_encoding, body),
                DecodeError,
            )
        pattern = pattern_of(body) if self._decimals else None
        # This and the next step are a good part of what most bodies take.
        if pattern is None or pattern.count(b"[") > limits.depth or limits.unique_keys:
            _refuse(limits.json_problem(body), DecodeError)
        try:
            if pattern is not None and may_lose_digits(pattern, body):
                return self._read_exactly(body)
            if len(body) > LARGE_BODY:
                return self._stopping_early(body)
            return self._validate(body)
        except BaseException as error:  # noqa: BLE001 - a validator may raise anything
            problem = self._problem(error, body)
        if body.startswith(BOM_UTF8) and not body.startswith(BOM_UTF8, len(BOM_UTF8)):
            return self.decode(body.removeprefix(BOM_UTF8), properties, limits)
        # Not chained: the original's text quotes the input.
        raise DecodeError(problem) from None

    def is_slow(self, body: bytes) -> bool:
        """Tell whether a body may take too long to decode for an event loop to wait for it."""
        return self._adapter is not None and len(body) >= SLOW_BODY

    def complete(self) -> None:
        """Resolve the names in the type now, rather than with its first body.

        :raises NameError: a name in it stands for nothing
        :raises PydanticUserError: pydantic cannot validate that type
        """
        if self._adapter is not None and not self._adapter.pydantic_complete:
            self._adapter.rebuild()
            self._prepare(self._adapter)

    def _prepare(self, adapter: TypeAdapter[Any]) -> None:
        self._title = getattr(adapter.validator, "title", self._title)
        self._decimals = reads_decimals(cast("Schema", adapter.core_schema))
        self._validate = adapter.validator.validate_json

    def _prepare_and_validate(self, body: bytes) -> Any:
        adapter = self._adapter
        assert adapter is not None, "bytes are not read"
        if not adapter.pydantic_complete:
            adapter.rebuild()
        self._prepare(adapter)
        return self._read_exactly(body) if self._decimals else self._validate(body)

    def _read_exactly(self, body: bytes) -> Any:
        numbers = self._exact.numbers(body)
        if numbers:
            return self._exact.validate(body, numbers)
        return self._stopping_early(body) if len(body) > LARGE_BODY else self._validate(body)

    @cached_property
    def _exact(self) -> ExactValidator:
        assert self._adapter is not None, "bytes are not read"
        return ExactValidator(cast("Schema", self._adapter.core_schema))

    @cached_property
    def _stopping_early(self) -> Callable[[bytes], Any]:
        assert self._adapter is not None, "bytes are not read"
        return validator(cast("Schema", self._adapter.core_schema), stop_early).validate_json

    def _problem(self, error: BaseException, body: bytes) -> str:
        if is_utf16_or_32(body):
            return "the body is not in UTF-8, which JSON is in"
        if not isinstance(error, ValidationError):
            return (
                f"the body cannot be read as a {cut(self._title, MAX_PLACE)}: a validator of it "
                f"failed with {cut(type(error).__name__, MAX_PART)}"
            )
        few = self._few(body) if error.error_count() > MAX_BUILT else None
        return explain(self._title, error, few, partly=len(body) > LARGE_BODY)

    def _few(self, body: bytes) -> ValidationError | None:
        """Validate a body of many errors again, up to a few of them; None if that finds none."""
        try:
            self._stopping_early(body)
        except ValidationError as error:
            return error
        except BaseException:  # noqa: BLE001 - a validator that fails the second time only
            return None
        return None


__all__ = [
    "BYTES",
    "JSON",
    "BodyDecoder",
    "PydanticUserError",
    "check_received",
    "encode",
    "is_json",
]


class DeliveryDecoder:
    """Decodes the bodies of the messages of one handler."""

    def __init__(self, decoder: BodyDecoder | None, limits: Limits = DEFAULT_LIMITS) -> None:
        self._decoder = decoder
        self._limits = limits

    def decode(self, delivery: Delivery) -> Any:
        """Return the validated body; None where the handler takes none.

        :raises DecodeError: it is over the limits, or not what the handler takes
        """
        if (ahead := delivery.decoded) is not None:
            # Once: what comes after a first run must not see what that did to its body.
            delivery.decoded = None
            return ahead[0]
        check_received(delivery.body, delivery.properties, self._limits)
        if self._decoder is None:
            return None
        return self._decoder.decode(delivery.body, delivery.properties, self._limits)

    def decode_ahead(self, delivery: Delivery) -> Any:
        """Decode for who only looks at the body, which the delivery's run is then given.

        A large one is not kept: many deliveries wait for their run.

        :raises DecodeError: as `decode`
        """
        body = self.decode(delivery)
        if len(delivery.body) <= LARGE_BODY:
            delivery.decoded = (body,)
        return body

    async def decode_aside(self, delivery: Delivery) -> Any:
        """Decode in a thread: the event loop goes on wherever a validator in Python runs.

        pydantic itself lets no other thread run while it parses and validates, which takes some
        tenths of a second for the largest body that there may be by default.

        :raises DecodeError: as `decode`
        """
        if self._decoder is None or not self._decoder.is_slow(delivery.body):
            return self.decode(delivery)
        return await asyncio.to_thread(self.decode, delivery)
