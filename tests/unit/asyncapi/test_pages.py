"""The page shows a document to people, and runs nothing."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mqkit import Exchange, Queue, Retry, Service
from mqkit.asyncapi.describing import describe
from mqkit.asyncapi.pages import page
from mqkit.asyncapi.reading import Reader
from tests.unit.asyncapi.payments import payment_services

NASTY = '<script>alert("x")</script><img src=//evil onerror=x>'


class Seen(HTMLParser):
    """Collects tags, links and text, and sees that what is opened is closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "action")
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_payment_services_have_a_page() -> None:
    """It is well-formed, its links lead to its sections, and it loads and runs nothing."""
    seen = Seen(page(Reader(describe(payment_services()), "d")))
    assert seen.open == []
    assert not {"script", "link", "img", "iframe", "object", "form"} & seen.tags
    assert len(seen.ids) == len(set(seen.ids))
    assert {link.removeprefix("#") for link in seen.links} <= set(seen.ids)
    for words in ("PlaceOrder", "order_id", "risk.answered", "Replies with", "AccountBalance"):
        assert words in seen.text


def test_markup_in_a_document_is_text() -> None:
    """Names, keys, docstrings and descriptions with markup in them are shown as they are."""
    exchange = Exchange(NASTY)
    service = Service(NASTY, retry=Retry.never(), publishes=[exchange.carries(NASTY, int)])

    class Body(BaseModel):
        field: Annotated[int, Field(description=NASTY, title=NASTY)]
        other: dict[Literal["<script>alert(1)</script>"], int]

    async def handle(body: Body) -> None: ...

    handle.__doc__ = NASTY
    handle.__annotations__["body"] = Body
    service.handler(Queue(NASTY), bind=[exchange.key(NASTY)])(handle)
    seen = Seen(page(Reader(describe([service], title=NASTY, version=NASTY), "d")))
    assert not {"script", "img"} & seen.tags
    assert seen.text.count("<script>alert") >= 6
