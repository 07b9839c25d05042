"""Masks secrets in texts that go to a log: the one place that says what a secret looks like.

Masked are

- what stands after a name of a secret: `password=`, `"api_key": "..."`, `Authorization: Bearer`;
- passwords in URLs; tokens by their form (JWT, those of well-known issuers, long random ones);
- private keys, card numbers (`cards`), and what errors of pydantic, SQLAlchemy and PostgreSQL quote
  of the data that they were given;
- what the application names by `Service(masks=...)`.

A text without any of it stays as it is. Each pass takes time in proportion to the text's length: a
pattern either eats what it has looked at, or looks at a bounded number of characters.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from mqkit.logging.cards import mask_cards
from mqkit.logging.values import end_of_value

MASK = "***"

MAX_MASKED = 20_000
"""Characters of a text that are looked at; the rest of a longer one is cut off."""

_ENDINGS = (
    r"pass(?:word|wd|phrase|code)s?|secrets?|token|credentials?|authorization|cookie"
    r"|api[-_ ]?key|access[-_ ]?key|secret[-_ ]?key|private[-_ ]?key|account[-_ ]?key"
    r"|signing[-_ ]?key|encryption[-_ ]?key"
)
"""How names of secrets end: `password`, `db_password` and `dbPassword` are names of one."""

_WHOLE = ("pwd", "pass", "pin", "cvv", "cvv2", "cvc", "cvc2", "sig", "x-amz-signature")
"""Names that are endings of too many ordinary words."""

_SEPARATORS = (
    r"(?:\\*[\"'`]|\))?[ \t]{0,3}(?:=>|:=|==?|%3d|:(?!//))[ \t]{0,3}"
    r"|(?P<tuple>\\*[\"'],[ ]{0,3}(?=b?\\*[\"']))"
    r"|(?P<quoted>[ ](?=[\"']))"
    r"|(?P<option>[ ]{1,3}(?=\S))"
    r"|>(?=[^<\s>])"
)

_PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:.*?-----END [A-Z ]{0,30}PRIVATE KEY-----|.*)"
    # The beginning was cut off.
    r"|\A(?:(?!-----).){0,9000}-----END [A-Z ]{0,30}PRIVATE KEY-----",
    re.DOTALL,
)

_QUOTED = re.compile(
    r"(?<=input_value=).*?(?=, input_type=|\n|\Z)"  # pydantic's
    r"|(?<=\[parameters: )(?:[^\n]*(?=\])|[^\n]*)"  # SQLAlchemy's
    r"|(?<=Failing row contains \()[^\n]*?(?=\)\.|\)?(?:\n|\Z))"  # PostgreSQL's
)
"""What libraries' errors quote of the data that they were given."""

_QUOTING = ("input_value=", "[parameters: ", "Failing row contains (")

_URL = re.compile(r"(:(?:\\?/){2})([^\s\"'<>`]+)")

_IS_PORT = re.compile(r"[^@:]*:[0-9]{1,5}")

_TOKENS = re.compile(
    r"eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){1,4}"
    r"|(?:ghp_|gho_|ghs_|ghr_|ghu_|github_pat_|glpat-|sk_live_|sk_test_|rk_live_|sk-|xoxa-|xoxb-"
    r"|xoxe-|xoxp-|xoxr-|xoxs-|npm_|pypi-|hf_|whsec_|AKIA|ASIA|AIza|ya29\.|SG\.|shpat_)"
    r"[A-Za-z0-9_./-]{12,}"
    # What begins as one and is none is eaten as well, or it would be looked at again and again.
    r"|eyJ[A-Za-z0-9_-]*"
)

_BEARER = re.compile(r"\b((?:bearer|basic)\s{1,3})([A-Za-z0-9._~+/=-]{6,})", re.IGNORECASE)

_OPAQUE = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{40,}")

_LONG = 20
"""Characters; after 'Bearer' a word is as long as that, or has a digit in it, if it is a token."""


class Masker:
    """Masks secrets, those of the application among them.

    :param masks: names of fields, whose values are masked wherever `name=value`, `'name': value`
        or the like stands, in upper or lower case; and compiled patterns, what matches which is
        masked
    :raises TypeError: one is neither
    """

    def __init__(self, masks: Iterable[str | re.Pattern[str]] = ()) -> None:
        self.masks = tuple(masks)
        self._own, self._patterns = set[str](), list[re.Pattern[str]]()
        for each in self.masks:
            if isinstance(each, str) and each.strip():
                self._own.add(_lower(each.strip()))
            elif isinstance(each, re.Pattern) and isinstance(each.pattern, str):
                self._patterns.append(each)
            else:
                raise TypeError(f"a mask is the name of a field, or a compiled pattern: {each!r}")
        self._whole = self._own.union(_WHOLE)
        whole = "|".join(re.escape(name) for name in sorted(self._whole))
        # Each alternative begins with a letter, so that the search looks for those letters alone.
        names = f"{_ENDINGS}|{whole}"
        self._named = re.compile(f"(?P<name>{names})(?![a-z0-9_])(?:{_SEPARATORS})")
        self._is_named = re.compile(f"(?P<name>{names})\\Z")

    def mask(self, text: str) -> str:
        """Return the text without its secrets; masking it again changes nothing."""
        if len(text) > MAX_MASKED:
            text = cut(text, MAX_MASKED)
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        if "-----" in text:
            text = _PEM.sub(MASK, text)
        if any(words in text for words in _QUOTING):
            text = _QUOTED.sub(MASK, text)
        if "://" in text or ":\\/" in text:
            text = _URL.sub(_without_passwords, text)
        text = self._mask_named(text)
        text = _BEARER.sub(_without_bearer, text)
        text = _TOKENS.sub(_without_token, text)
        text = _OPAQUE.sub(_without_opaque, text)
        return mask_cards(text, MASK)

    def hides(self, name: str) -> bool:
        """Whether the value of a field of this name is a secret."""
        name = _lower(name[:200])
        return any(self._is_name(name, each) for each in self._is_named.finditer(name))

    def _mask_named(self, text: str) -> str:
        lower = _lower(text)
        made, kept, at = [], 0, 0
        while found := self._named.search(lower, at):
            at = found.end()
            if not (self._is_name(lower, found) and _is_assignment(lower, found)):
                continue
            name = found["name"]
            begin, end = end_of_value(text, at, name, has_groups=name in self._own)
            if end > begin:
                made += [text[kept:begin], MASK]
                kept = end
            at = max(at, end)
        return "".join([*made, text[kept:]]) if made else text

    def _is_name(self, text: str, found: re.Match[str]) -> bool:
        """Whether what was found is a name of a secret, and no end of an ordinary word."""
        if found["name"] not in self._whole or not (start := found.start()):
            return True
        before = text[start - 1]
        return not (before.isalnum() or (before == "_" and found["name"] in self._own))


_ASCII_LOWER = {ord(each): each.lower() for each in string.ascii_uppercase}


def _lower(text: str) -> str:
    """Return the text in lower case, of the same length: that of 'İ' has two characters."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def _is_assignment(text: str, found: re.Match[str]) -> bool:
    """Whether what follows the name is its value, where the separator alone does not say so."""
    if found["option"] is None and found["tuple"] is None:
        return True
    before = text[max(found.start() - 40, 0) : found.start()]
    if found["tuple"] is not None:
        return re.search(r"\(b?\\*[\"'][\w-]*$", before) is not None
    return re.search(r"(?:^|\s)--?[\w-]*$", before) is not None


def _without_passwords(found: re.Match[str]) -> str:
    separator, run = found.groups()
    return separator + separator.join(_without_password(url) for url in run.split(separator))


def _without_password(url: str) -> str:
    """Mask the password of a URL of which this is what follows its `://`."""
    query = len(url) if (mark := url.find("?")) < 0 else mark
    at = url.rfind("@", 0, query)
    if at < 0:
        at = url.rfind("@")
    slash = url.find("/")
    authority = url if slash < 0 else url[:slash]
    if at < 0 or ("@" not in authority and _IS_PORT.fullmatch(authority)):
        return url
    user, colon, password = url[:at].partition(":")
    if not colon or not password or "/" in user or "?" in user:
        return url
    return f"{user}:{MASK}{url[at:]}"


def _without_bearer(found: re.Match[str]) -> str:
    scheme, token = found.groups()
    is_token = len(token) >= _LONG or any(each.isdigit() or each == "=" for each in token)
    return f"{scheme}{MASK}" if is_token else found.group()


def _without_token(found: re.Match[str]) -> str:
    """Mask a token by its form, where it begins a word; `eyJ` alone, without its dots, is none."""
    start, token = found.start(), found.group()
    before = found.string[max(start - 2, 0) : start]
    if token.startswith("eyJ") and "." not in token:
        return token
    # Of an escaped text: a backslash and the letter of a line's end.
    inside = before[-1:].isalnum() and not (before[0] == "\\" and before[-1] in "nrt")
    return token if inside else MASK


def _without_opaque(found: re.Match[str]) -> str:
    """Mask a long word that is random: with small and large letters, and several digits."""
    word = found.group()
    digits = sum(each.isdigit() for each in word)
    is_random = digits > 3 and word != word.lower() and word != word.upper()  # noqa: PLR2004
    return MASK if is_random else word


def cut(text: str, limit: int) -> str:
    """Cut a text where no secret is cut in two, of which the half would not be known as one.

    :param limit: characters of the result, before the mark of the cut
    """
    text = text[:limit].rstrip()
    edge = re.search(r"[^\s\"',;&{}()\[\]<>|]*\Z", text[-1_000:])
    text = text[: len(text) - (len(edge.group()) if edge else 0)]
    return f"{text.rstrip('0123456789 -')} [cut]"


DEFAULT = Masker()
"""Masks what is a secret everywhere, for what belongs to no service."""
