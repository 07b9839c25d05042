"""Content types and encodings: which of them are read as JSON, and why others are not."""

from __future__ import annotations

JSON = "application/json"
BYTES = "application/octet-stream"

BOM_UTF8 = b"\xef\xbb\xbf"
"""A byte order mark, which a parser of JSON may ignore (RFC 8259, section 8.1)."""

_JSON = frozenset({JSON, "application/x-json", "text/json", "text/x-json"})

_SAYS_NOTHING = frozenset({"", BYTES, "text/plain"})
"""Types that clients stamp on any body; whether it is JSON is seen then."""

_ENCODINGS = frozenset({"", "identity", "utf-8", "utf8"})
"""Content encodings that change nothing; clients put the charset there, too."""

_UTF8 = frozenset({"", "ascii", "us-ascii", "utf-8", "utf8"})

_ASCII_AND_MORE = ("iso-8859-", "iso8859-", "latin", "windows-125", "cp125")
"""Beginnings of charsets in which ASCII is ASCII."""

_MAX_QUOTED = 100


def is_json(content_type: str) -> bool:
    """Tell whether a content type is one of JSON (RFC 6839, section 3.1, for `+json`)."""
    if content_type == JSON:
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type in _JSON or media_type.endswith("+json")


def encoding_problem(content_encoding: str | None) -> str | None:
    """Say what is wrong with a content encoding; None is nothing."""
    if content_encoding is None or content_encoding.strip().lower() in _ENCODINGS:
        return None
    return f"content encoding {content_encoding[:_MAX_QUOTED]!r} is not supported"


def content_problem(
    content_type: str | None, content_encoding: str | None, body: bytes
) -> str | None:
    """Say why a body of this content type is not read as JSON; None is that it is tried.

    JSON is UTF-8 (RFC 8259, section 8.1). Another charset is believed, and refused, unless the body
    is the same bytes in it.
    """
    problem = encoding_problem(content_encoding)
    if problem is not None or content_type is None or content_type == JSON:
        return problem
    media_type, *parameters = content_type.split(";")
    if media_type.strip().lower() not in _SAYS_NOTHING and not is_json(media_type):
        return (
            f"content type {content_type[:_MAX_QUOTED]!r} is not JSON; "
            "a handler of other formats takes bytes"
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip("\"'").lower() if name.strip().lower() == "charset" else ""
        if charset not in _UTF8 and not (charset.startswith(_ASCII_AND_MORE) and body.isascii()):
            return (
                f"charset {charset[:_MAX_QUOTED]!r} is not UTF-8, which JSON is in; "
                "a handler of other charsets takes bytes"
            )
    return None


def is_utf16_or_32(body: bytes) -> bool:
    """Tell whether a body begins as JSON in UTF-16 or UTF-32: a byte order mark, or a NUL."""
    return body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in body[:4]
