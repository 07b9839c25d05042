"""What a message says of its body, and what is read then."""

from __future__ import annotations

import pytest

from mqkit import DecodeError
from mqkit.codec import BodyDecoder
from mqkit.message import Properties

BODY = '{"name":"José"}'
ASCII = '{"name":"Jose"}'


def read(body: bytes, content_type: str | None = None, encoding: str | None = None) -> str:
    """The name in a body."""
    properties = Properties(content_type=content_type, content_encoding=encoding)
    name: str = BodyDecoder(dict[str, str]).decode(body, properties)["name"]
    return name


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; charset=",
        "application/vnd.order.v1+json; profile=x",
        "application/x-json",
        "text/json",
        "text/plain",
        "text/plain; charset=utf-8",
        "TEXT/PLAIN;CHARSET=UTF8",
        "text/plain; format=flowed",
        "text/plain; charset=us-ascii",
        "application/octet-stream",
    ],
)
def test_what_clients_call_json_is_read(content_type: str | None) -> None:
    """With its charset, as text, or with no type at all; a byte order mark is left out."""
    assert read(BODY.encode(), content_type) == "José"
    assert read(b"\xef\xbb\xbf" + BODY.encode(), content_type) == "José"


@pytest.mark.parametrize(
    "encoding", [None, "", "utf-8", "UTF-8", "Utf-8", " utf-8 ", "utf8", "identity"]
)
def test_encodings_that_change_nothing_are_read(encoding: str | None) -> None:
    """However they are spelled."""
    assert read(BODY.encode(), None, encoding) == "José"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "utf-16", "base64"])
def test_other_encodings_are_refused(encoding: str) -> None:
    """By their name, for bytes as well."""
    with pytest.raises(DecodeError, match=f"content encoding '{encoding}' is not supported"):
        read(BODY.encode(), None, encoding)
    with pytest.raises(DecodeError, match="is not supported"):
        BodyDecoder(bytes).decode(b"", Properties(content_encoding=encoding))


@pytest.mark.parametrize(
    "charset", ["utf-16", "utf-16le", "utf-32", "latin-1", "iso-8859-1", "koi8-r"]
)
def test_other_charsets_are_refused(charset: str) -> None:
    """Text in them would be read as another one; where it would be the same, it is read."""
    for media_type in ("application/json", "text/plain"):
        with pytest.raises(DecodeError, match=f"charset '{charset}' is not UTF-8"):
            read(BODY.encode(), f"{media_type}; charset={charset}")
    if charset in ("latin-1", "iso-8859-1"):
        assert read(ASCII.encode(), f"text/plain; charset={charset}") == "Jose"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_json_that_is_not_in_utf_8_is_said_to_be_that(encoding: str) -> None:
    """With a byte order mark or without, and with no charset in its type."""
    with pytest.raises(DecodeError, match="the body is not in UTF-8"):
        read(BODY.encode(encoding))


@pytest.mark.parametrize(
    "content_type", ["application/xml", "text/csv", "text/html", "image/png", "json"]
)
def test_other_types_are_refused(content_type: str) -> None:
    """They are for a handler that takes bytes."""
    with pytest.raises(DecodeError, match=f"content type '{content_type}' is not JSON"):
        read(BODY.encode(), content_type)


@pytest.mark.parametrize(
    "body", [b"hello", b"\xef\xbb\xbf", b"\xef\xbb\xbf" * 2 + b"{}", b"1 2", b"'a'"]
)
def test_text_that_is_no_json_is_refused(body: bytes) -> None:
    """A byte order mark does not make it JSON, and two are none."""
    with pytest.raises(DecodeError, match="Invalid JSON"):
        read(body, "text/plain")


def test_a_mark_is_left_to_a_handler_of_bytes() -> None:
    """Bytes are taken as they are."""
    body = b"\xef\xbb\xbf{}"
    assert BodyDecoder(bytes).decode(body, Properties(content_type="text/plain")) == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":"\xff"}',
        b'{"name":"\xed\xa0\x80"}',
        b'{"name":"\\ud800"}',
        b'{"\\udc00":"a"}',
        b'{"name":"\0"}',
    ],
)
def test_text_that_is_no_text_is_refused(body: bytes) -> None:
    """Bytes that are no UTF-8, halves of a character, control characters that are not escaped."""
    with pytest.raises(DecodeError, match="Invalid JSON"):
        read(body)
    assert read(b'{"name":"\\u0000"}') == "\0"
