"""Reads the form that a browser sends, as far as it may be large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request

LARGEST = 64 * 1024
"""Bytes of a form."""

MOST_FIELDS = 200

FORM_TYPE = "application/x-www-form-urlencoded"


class FormError(Exception):
    """What was sent is no form, or too large a one; `status` is how that is answered."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form; of a name that stands there twice, the last one."""

    fields: Mapping[str, str]

    def get(self, name: str, default: str = "") -> str:
        """Return a field, without white space around it."""
        return self.fields.get(name, default).strip()


async def read_form(request: Request) -> Form:
    """Read a form.

    :raises FormError: it is none, or too large
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM_TYPE:
        raise FormError(f"a form is sent as {FORM_TYPE}", 415)
    read = bytearray()
    async for part in request.stream():
        read += part
        if len(read) > LARGEST:
            raise FormError(f"a form has {LARGEST} bytes at most", 413)
    try:
        text = read.decode()
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise FormError("the form cannot be read") from error
    return Form(dict(fields))
