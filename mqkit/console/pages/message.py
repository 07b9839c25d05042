"""A message's whole way by its id: what each handler did with it, and the sagas of this id."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mqkit.console.asking import ask_all, listed
from mqkit.console.desk import desk_of, page
from mqkit.console.letters.looks import Look
from mqkit.console.pages.dead_letters import dead_queues
from mqkit.console.rendering.paging import LONGEST_ID, asked_page, searched
from mqkit.console.rendering.pictures import page_with_pictures
from mqkit.dead_letters import Letter, Survey
from mqkit.sagas.view import masked

if TYPE_CHECKING:
    from mqkit.store import MessageStatus, SagaStory, Store

STATES = {
    "outgoing": "plain",
    "received": "plain",
    "processing": "plain",
    "succeeded": "good",
    "retrying": "warn",
    "dead": "bad",
}
"""How each state is coloured."""

TROUBLED = ("retrying", "dead")
"""The states that are listed where no message is asked for."""

MOST_PAGES = 100
"""Pages of the list: each one costs the rows of those before it where there are several stores."""

MOST_QUEUES = 20
"""Queues whose dead letters are looked through for one message."""

MAX_RESULT = 2_000
"""Characters of a result that are shown."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the stores know of a message."""

    statuses: tuple[tuple[str, MessageStatus], ...]
    """Each with the name of its store."""
    sagas: tuple[tuple[str, SagaStory], ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InQueue:
    """What was found of a message among the dead letters of a queue."""

    queue: str
    look: Look[Survey]
    letters: Sequence[Letter]


async def told_of(request: Request, message_id: str) -> Told:
    """Ask all stores for a message, and for sagas that are called by its id."""
    stores = desk_of(request).stores

    async def ask(store: Store) -> tuple[list[MessageStatus], list[SagaStory]]:
        return await store.status(message_id), await store.saga(message_id)

    answers = await ask_all(stores, ask)
    statuses = [(name, each) for name, (some, _) in answers.given for each in some]
    statuses.sort(key=lambda row: row[1].updated_at)
    sagas = [(name, each) for name, (_, some) in answers.given for each in some]
    return Told(tuple(statuses), tuple(sagas), answers.problems)


async def show(request: Request) -> Response:
    """Show a message; or those that failed last, where none is asked for."""
    message_id = searched(request, "id", LONGEST_ID)
    if not message_id:
        return await _show_troubled(request)
    told = await told_of(request, message_id)
    return page_with_pictures(
        request,
        "message.html",
        _pictures(message_id, [each for _, each in told.statuses]),
        title="Message",
        id=message_id,
        told=told,
        results=[_result(request, each.result) for _, each in told.statuses],
        states=STATES,
        has_stores=bool(desk_of(request).stores),
        dead=await _dead_letters(request, told, message_id),
        is_wide=_is_wide(request),
    )


def _pictures(message_id: str, statuses: Sequence[MessageStatus]) -> list[str]:
    if not statuses:
        return []
    from mqkit.store.drawing.message import message_svg  # noqa: PLC0415 - as in `sources`

    return [message_svg(message_id, statuses)]


def _result(request: Request, result: Any) -> str | None:
    """Write what a handler has returned, without secrets."""
    if result is None:
        return None
    return to_json(masked(result, desk_of(request).masker)).decode()[:MAX_RESULT]


async def _dead_letters(request: Request, told: Told, message_id: str) -> list[InQueue]:
    """Look for a message among the dead letters of the queues where it may be.

    That is where a handler has dead-lettered it; all queues that have some, where one asks for it.
    """
    desk = desk_of(request)
    belongs = {each.name: each.of for each in desk.overview().queues if each.of}
    dead = [each.queue for _, each in told.statuses if each.queue and each.state.value == "dead"]
    queues = dict.fromkeys(belongs.get(each, each) for each in dead)
    if _is_wide(request):
        queues |= dict.fromkeys(each.of for each in dead_queues(desk.overview()) if each.count)
    names = list(queues)[:MOST_QUEUES]
    looks = await asyncio.gather(*(desk.letters.survey(each, archived=False) for each in names))
    return [
        InQueue(queue, look, [each for each in _letters(look) if each.message_id == message_id])
        for queue, look in zip(names, looks, strict=True)
    ]


def _letters(look: Look[Survey]) -> Sequence[Letter]:
    return () if look.found is None else look.found.letters


def _is_wide(request: Request) -> bool:
    return searched(request, "among") == "all"


async def _show_troubled(request: Request) -> Response:
    from mqkit.store import State  # noqa: PLC0415 - as in `sources`

    asked = searched(request, "state")
    among = [State(asked)] if asked in STATES else [State(each) for each in TROUBLED]

    async def ask(store: Store, limit: int, offset: int) -> Sequence[MessageStatus]:
        return await store.recent(among=among, limit=limit, offset=offset)

    stores = desk_of(request).stores
    number = asked_page(request, MOST_PAGES)
    rows, problems = await listed(stores, ask, number, order=lambda each: each.updated_at)
    return page(
        request,
        "messages.html",
        title="Messages",
        rows=rows,
        problems=problems,
        states=STATES,
        state=asked if asked in STATES else "",
        has_stores=bool(stores),
    )


ROUTES = (Route("/message", show, methods=["GET"]),)
