"""The messages of a fuzz: drawn from a seed, each by itself, as bytes on the wire."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from random import Random

from tests.faults.fuzz import tables
from tests.faults.fuzz.plans import LANES, Plan, drawn
from tests.faults.fuzz.wire import Raw, long, short

MARKED = ("correlation_id", "type", "app_id")
"""One of these properties has the message's number, wherever it goes; the others are drawn."""

_MARK = re.compile(rb"fz-(\d{6})\Z")

BODY_LIMIT = 1024 * 1024
"""Bytes; the `Limits.body` of the service."""

HEADERS_LIMIT = 16 * 1024


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """One message: where it goes, what it is, and what is done with it."""

    number: int
    lane: str
    content: str
    """What is hostile about it; 'plain' is nothing."""
    plan: Plan
    raw: Raw

    @property
    def is_plain(self) -> bool:
        """Whether it is certain that it can be decoded, and that its plan is what is done."""
        return self.content == "plain"


def mark(number: int) -> bytes:
    """What marks the message of this number."""
    return b"fz-%06d" % number


def number_of(*values: bytes | str | None) -> int | None:
    """The number of the message that has one of these properties."""
    for value in values:
        data = value.encode("utf-8", "replace") if isinstance(value, str) else value
        if data and (match := _MARK.match(data)):
            return int(match[1])
    return None


def generated(seed: int, number: int, prefix: str, *, modest: bool = False) -> Fuzzed:
    """The message of this number; the same one each time.

    :param prefix: what the names of the queues begin with
    :param modest: without what the embedded broker refuses: names and properties that are no
        UTF-8, and times after the year 292 billion
    """
    random = Random(f"{seed}/{number}")
    lane = random.choice(LANES)
    plan = drawn(random, lane)
    content, body, properties = "plain", _json(number), {"content_type": b"application/json"}
    if random.random() < 0.5:
        content, body, properties = _hostile(random, number)
        if plan.act == "validator raises":  # it may see nothing of its plan
            plan = Plan("return", "None")
    if random.random() < 0.3:
        properties["reply_to"] = random.choice(_REPLY_TO)
    properties[random.choice(MARKED)] = mark(number)
    properties.setdefault("message_id", b"m-%d" % number)
    if not properties["message_id"]:
        del properties["message_id"]
    # Its own number in a header tells whether the headers survived.
    entries = properties.get("headers", b"")
    properties["headers"] = short(b"x-fuzz") + b"I" + struct.pack(">i", number) + entries
    if modest:
        properties = _modest(properties)
    queue = f"{prefix}.{lane}"
    raw = Raw(queue.encode(), body, properties)
    if random.random() < 0.3:
        key = random.choice(_ROUTING_KEYS)
        raw = Raw(_as_text(key) if modest else key, body, properties, f"{queue}.in".encode())
    return Fuzzed(number, lane, content, plan, raw)


def _modest(properties: dict[str, bytes]) -> dict[str, bytes]:
    found = {}
    for name, value in properties.items():
        if name == "headers":
            found[name] = value if tables.is_modest(tables.meaning(value)) else b""
        elif name == "timestamp":
            found[name] = value if value[0] < 0x80 else bytes(8)
        else:
            found[name] = value if name in _NUMBERS else _as_text(value)
    return found


_NUMBERS = ("delivery_mode", "priority")


def _as_text(value: bytes) -> bytes:
    return value.decode(errors="ignore").encode()


def _json(number: int) -> bytes:
    return json.dumps({"n": number}).encode()


_TEXTS = (
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"nul\0nul",
    b"line\r\nline\x1b[31m",
    b"\xf0\x9f\x92\xa3" * 63,
    b"n" * 255,
    b"'; --",
    b"{}",
)

_IDS = (b"", b"always the same", b"also the same", *_TEXTS)

_CONTENT_TYPES = (
    b"application/json; charset=utf-16",
    b"application/vnd.peer+json",
    b"text/plain",
    b"text/plain; charset=utf-8",
    b"application/octet-stream",
    b"application/xml",
    b"",
    *_TEXTS,
)

_ENCODINGS = (b"gzip", b"utf-8", b"UTF-16", b"identity", b"", *_TEXTS)

_REPLY_TO = (b"no.such.queue", b"amq.rabbitmq.reply-to.nobody", b"*.#", *_TEXTS)

_ROUTING_KEYS = (b"", b"order.accepted", b"#", b"*.*", b"a..b", *_TEXTS)

_TIMES = (0, 1, 1_700_000_000, 253_402_300_800, 2**63, 2**64 - 1)

_EXPIRATIONS = (b"0", b"1", b"60000", b"3600000", b"4294967295")


def _hostile(random: Random, number: int) -> tuple[str, bytes, dict[str, bytes]]:
    """What is hostile, the body, and the properties."""
    content, body = "", _json(number)
    properties = {"content_type": b"application/json"}
    kinds = ("body", "headers", "id", "type", "encoding", "texts", "numbers", "expiration")
    for kind in random.sample(kinds, random.choice((1, 1, 2, 4))):
        match kind:
            case "body":
                detail, body = _body(random, number)
            case "headers":
                detail, properties["headers"] = _headers(random)
            case "id":
                detail, properties["message_id"] = "", random.choice(_IDS)
            case "type":
                detail, properties["content_type"] = "", random.choice(_CONTENT_TYPES)
            case "encoding":
                detail, properties["content_encoding"] = "", random.choice(_ENCODINGS)
            case "texts":
                detail = ""
                properties |= {each: random.choice(_TEXTS) for each in (*MARKED, "cluster_id")}
                properties["user_id"] = b"guest"  # RabbitMQ lets nobody say another name
            case "expiration":
                detail, properties["expiration"] = "", random.choice(_EXPIRATIONS)
            case _:
                detail = ""
                properties["priority"] = bytes([random.choice((0, 9, 10, 255))])
                properties["delivery_mode"] = bytes([random.choice((0, 1, 2, 3, 255))])
                properties["timestamp"] = struct.pack(">Q", random.choice(_TIMES))
        content += f"{' + ' if content else ''}{detail or kind}"
    return content, body, properties


def _body(random: Random, number: int) -> tuple[str, bytes]:
    bodies = {
        "empty body": b"",
        "random bytes": random.randbytes(random.choice((1, 8, 300))),
        "no UTF-8": b'{"n": "\xff"}',
        "NaN": b'{"n": %d, "v": [NaN, Infinity, -Infinity]}' % number,
        "null": b"null",
        "huge number": b"1" * 5_000,
        "huge exponent": b'{"n": 1e999999999}',
        "key twice": b'{"n": 1, "n": %d}' % number,
        "BOM": b"\xef\xbb\xbf" + _json(number),
        "UTF-16": _json(number).decode().encode("utf-16"),
        "surrogate escape": b'{"n": "\\ud800"}',
        "NUL": b'{"n": "\\u0000"}',
        "deep": b"[" * random.choice((99, 101, 5_000, 100_000)),
        "deep and whole": b"[" * 150 + b"]" * 150,
        "unfinished": b'{"n": ',
        "wrong types": b"[" + b'"a",' * 20_000 + b"1]",
        "large": b'"' + b"x" * random.choice((1_000, 300_000)) + b'"',
        "over the limit": b'"' + b"x" * BODY_LIMIT + b'"',
        "white": b" \n" * 100,
    }
    kind = random.choice(list(bodies))
    return kind, bodies[kind]


def _headers(random: Random) -> tuple[str, bytes]:
    match random.randrange(6):
        case 0:
            return "deep headers", tables.deep(random.choice((31, 33, 101, 250)))
        case 1:
            giant = b"S" + long(b"x" * random.choice((6_000, HEADERS_LIMIT, 90_000)))
            return "giant header", short(b"giant") + giant
        case 2:
            many = random.choice((300, 3_000))
            entries = (short(b"m%d" % n) + b"I" + struct.pack(">i", n) for n in range(many))
            return "many headers", b"".join(entries)
    return "headers", tables.table(random)
