"""Reads an AsyncAPI document, of mqkit's making or another's, and follows its references."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import unquote

from mqkit.errors import ConfigurationError
from mqkit.logging.shown import shown

MAX_DOCUMENT = 64 * 1024 * 1024
"""Bytes of a document that is read."""

MAX_LINKS = 32
"""References that lead to each other before something that is none."""

_VERSION = re.compile(r"3\.\d+\.\d+")


class AsyncapiError(ConfigurationError):
    """What was given is no AsyncAPI 3 document, or one that cannot be understood."""


def read(text: bytes, what: str) -> Reader:
    """Read a document from JSON.

    :param what: what it is called in errors: its file
    :raises AsyncapiError: it is no JSON, no AsyncAPI document, one of another version, or broken
    """
    if len(text) > MAX_DOCUMENT:
        raise AsyncapiError(f"{what} has over {MAX_DOCUMENT} bytes, which no document has")
    try:
        found = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AsyncapiError(
            f"{what} is not JSON ({type(error).__name__}); mqkit reads what "
            "`mqkit asyncapi --out FILE` wrote, and no YAML"
        ) from None
    return Reader(found, what)


class Reader:
    """A document whose references can be followed; what is not as it should be is an error."""

    def __init__(self, document: Any, what: str) -> None:
        """Check what kind of document it is.

        :raises AsyncapiError: it is none, or one of another version
        """
        self.what = what
        self._document: Mapping[str, Any] = self.mapping(document, "the document")
        version = self._document.get("asyncapi")
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            said = "says no version" if version is None else f"is of version {shown(version)}"
            raise AsyncapiError(f"{what}: an AsyncAPI document of version 3 is read; it {said}")

    def mapping(self, value: Any, place: str) -> Mapping[str, Any]:
        """Return an object of the document.

        :raises AsyncapiError: it is something else
        """
        if not isinstance(value, dict):
            raise AsyncapiError(
                f"{self.what}: {place} is no object, but {shown(type(value).__name__)}"
            )
        return value

    def part(self, name: str) -> Mapping[str, Any]:
        """Return a part of the document by its name; an empty one where it is not there."""
        return self.mapping(self._document.get(name, {}), name)

    def listed(self, value: Any, place: str) -> list[Any]:
        """Return a list of the document; an empty one where it is not there.

        :raises AsyncapiError: it is something else
        """
        if value is None:
            return []
        if not isinstance(value, list):
            raise AsyncapiError(f"{self.what}: {place} is no list, but {type(value).__name__}")
        return value

    def names(self, value: Any, place: str) -> list[str]:
        """Return a list of texts of the document; an empty one where it is not there.

        :raises AsyncapiError: it is something else
        """
        return [self.text(each, place) for each in self.listed(value, place)]

    def text(self, value: Any, place: str) -> str:
        """Return a text of the document.

        :raises AsyncapiError: it is something else
        """
        if not isinstance(value, str):
            raise AsyncapiError(f"{self.what}: {place} is no text, but {type(value).__name__}")
        return value

    def part_text(self, name: str, default: str) -> str:
        """Return a text of the document by its name.

        :raises AsyncapiError: it is something else
        """
        return self.text(self._document.get(name, default), name)

    def refuse(self, problem: str) -> NoReturn:
        """Say what is wrong with the document.

        :raises AsyncapiError: always
        """
        raise AsyncapiError(f"{self.what}: {problem}")

    def name_in(self, reference: str) -> str:
        """Return the last name in a reference."""
        return _unescaped(reference.rpartition("/")[2])

    def followed(self, value: Any, place: str) -> Any:
        """Return what a value refers to, or itself where it is no reference.

        :raises AsyncapiError: it leads nowhere, out of the document, or in a circle
        """
        for _ in range(MAX_LINKS):
            if not isinstance(value, dict) or "$ref" not in value:
                return value
            value = self._at(self.text(value["$ref"], f"{place}/$ref"), place)
        raise AsyncapiError(f"{self.what}: {place}: its $ref leads in a circle")

    def _at(self, reference: str, place: str) -> Any:
        if not reference.startswith("#/"):
            raise AsyncapiError(
                f"{self.what}: {place}: {shown(reference)} leads out of the document; "
                "bundle it into one file"
            )
        found: Any = self._document
        for part in reference[2:].split("/"):
            name = _unescaped(part)
            if not isinstance(found, dict) or name not in found:
                raise AsyncapiError(f"{self.what}: {place}: there is nothing at {shown(reference)}")
            found = found[name]
        return found


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return one schema for two that both hold; where they differ in a limit, the second's."""
    made = {**first, **second}
    for keyword in ("properties", "required"):
        both = first.get(keyword), second.get(keyword)
        if isinstance(both[0], dict) and isinstance(both[1], dict):
            made[keyword] = {**both[0], **both[1]}
        elif isinstance(both[0], list) and isinstance(both[1], list):
            made[keyword] = [*both[0], *(each for each in both[1] if each not in both[0])]
    return made


def _unescaped(part: str) -> str:
    """Return a name that stands in a reference (RFC 6901, section 6)."""
    return unquote(part).replace("~1", "/").replace("~0", "~")
