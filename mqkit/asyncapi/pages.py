"""Writes an AsyncAPI document as one page of HTML, which loads nothing and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from mqkit.asyncapi.fields import fields, kind_of
from mqkit.asyncapi.overview import overview
from mqkit.asyncapi.reading import Reader
from mqkit.asyncapi.sheet import SHEET
from mqkit.logging.shown import shown

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even if markup came in, nothing of it would be loaded or run."""


def page(reader: Reader) -> str:
    """Return a page that shows a document to people, for light and dark, wide and narrow.

    :raises AsyncapiError: something in the document is not as it should be
    """
    info = reader.part("info")
    title = _words(info.get("title", "AsyncAPI"))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{title}</title>",
            f"<style>{SHEET}</style>",
            "</head>",
            "<body>",
            f"<header><h1>{title}</h1><p>Version {_words(info.get('version', ''))}</p>",
            *_servers(reader),
            "</header>",
            *_contents(reader),
            "<main>",
            *_overview(reader),
            *_services(reader),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _words(value: Any) -> str:
    """Return text of the document as it stands in HTML, also in an attribute."""
    return escape(shown(value, 10_000))


_CODE = re.compile("`([^`]+)`")


def _marked(value: Any) -> str:
    """Return text as HTML; what stands between backticks is code, as CommonMark has it."""
    return _CODE.sub(r"<code>\1</code>", _words(value))


def _servers(reader: Reader) -> Iterator[str]:
    for name, value in reader.part("servers").items():
        server = reader.mapping(reader.followed(value, name), f"servers/{name}")
        place = f"{server.get('protocol')}://{server.get('host')}{server.get('pathname', '')}"
        yield f"<p>{_words(name)}: <code>{_words(place)}</code></p>"


def _overview(reader: Reader) -> Iterator[str]:
    yield '<section id="overview"><h2>Overview</h2>'
    yield f'<div class="wide" tabindex="0" role="region" aria-label="Overview">{overview(reader)}'
    yield "</div></section>"


def _by_service(reader: Reader) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name, value in reader.part("operations").items():
        operation = reader.mapping(reader.followed(value, name), f"operations/{name}")
        tags = reader.listed(operation.get("tags"), f"operations/{name}/tags")
        service = tags[0].get("name") if tags and isinstance(tags[0], dict) else "operations"
        found.setdefault(str(service), []).append({**operation, "x-id": name})
    return found


def _contents(reader: Reader) -> Iterator[str]:
    yield '<nav aria-label="Services"><ul><li><a href="#overview">Overview</a></li>'
    for number, service in enumerate(_by_service(reader)):
        yield f'<li><a href="#service-{number}">{_words(service)}</a></li>'
    yield "</ul></nav>"


def _services(reader: Reader) -> Iterator[str]:
    for number, (service, operations) in enumerate(_by_service(reader).items()):
        yield f'<section id="service-{number}"><h2>{_words(service)}</h2>'
        for action, words in (("receive", "Receives"), ("send", "Sends")):
            those = [each for each in operations if each.get("action") == action]
            if those:
                yield f"<h3>{words}</h3>"
            for operation in those:
                yield from _operation(operation, reader)
        yield "</section>"


def _operation(operation: Mapping[str, Any], reader: Reader) -> Iterator[str]:
    yield f'<article class="{_words(operation.get("action"))}">'
    yield f"<h4>{channel_name(operation.get('channel'), reader)}</h4>"
    if "summary" in operation:
        yield f"<p>{_marked(operation['summary'])}</p>"
    bound = reader.listed(operation.get("x-bound-to"), "x-bound-to")
    if bound:
        places = ", ".join(channel_name(each, reader) for each in bound)
        yield f'<p class="small">Bound to {places}</p>'
    for each in reader.listed(operation.get("messages"), "messages"):
        yield from _message(each, reader)
    reply = operation.get("reply")
    if reply is not None:
        yield '<p class="small">Replies with</p>'
        found = reader.mapping(reader.followed(reply, "reply"), "reply")
        for each in reader.listed(found.get("messages"), "messages"):
            yield from _message(each, reader)
    yield "</article>"


def channel_name(reference: Any, reader: Reader) -> str:
    """Return what a channel is, as HTML."""
    channel = reader.mapping(reader.followed(reference, "channel"), "channel")
    bindings = reader.mapping(reader.followed(channel.get("bindings", {}), "bindings"), "bindings")
    amqp = reader.mapping(bindings.get("amqp", {}), "amqp")
    address = channel.get("address")
    if "queue" in amqp:
        return f"queue <code>{_words(reader.mapping(amqp['queue'], 'queue').get('name'))}</code>"
    if "exchange" in amqp:
        exchange = reader.mapping(amqp["exchange"], "exchange")
        key = "any key" if address is None else f"key <code>{_words(address)}</code>"
        return f"exchange <code>{_words(exchange.get('name'))}</code>, {key}"
    return f"<code>{_words(address)}</code>"


def _message(reference: Any, reader: Reader) -> Iterator[str]:
    message = reader.mapping(reader.followed(reference, "message"), "message")
    yield f"<details><summary>{_words(message.get('name', 'message'))}"
    if "summary" in message:
        yield f' <span class="small">{_marked(message["summary"])}</span>'
    yield "</summary>"
    payload = message.get("payload", True)
    listed = list(fields(payload, reader))
    if not listed:
        kind = "a body that is not described" if payload is True else kind_of(payload, reader)
        yield f"<p>{_words(kind)}</p></details>"
        return
    yield '<div class="wide" tabindex="0" role="region" aria-label="Fields"><table>'
    yield "<thead><tr><th>field</th><th>type</th><th>limits</th><th>about</th></tr></thead><tbody>"
    for field in listed:
        needed = "" if field.needed else ' <span class="small">optional</span>'
        yield (
            f'<tr><th scope="row" style="padding-left:{0.6 + field.depth * 1.2:.1f}em">'
            f"<code>{_words(field.name)}</code>{needed}</th><td>{_words(field.kind)}</td>"
            f"<td>{_words('; '.join(field.limits))}</td><td>{_marked(field.about)}</td></tr>"
        )
    yield "</tbody></table></div></details>"
