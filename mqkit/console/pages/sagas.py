"""Sagas: a list by name and status, and each with its state, its history and its diagrams."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mqkit.console.asking import ask_all, listed
from mqkit.console.desk import desk_of, page
from mqkit.console.rendering.paging import LONGEST_ID, asked_page, searched
from mqkit.console.rendering.pictures import page_with_pictures
from mqkit.console.rendering.text import link
from mqkit.registration.sagas import SagaRow
from mqkit.sagas import view
from mqkit.sagas.values import SagaStatus

if TYPE_CHECKING:
    from mqkit.store import SagaStory, Store

STATUSES = {
    SagaStatus.RUNNING.value: "plain",
    SagaStatus.COMPENSATING.value: "warn",
    SagaStatus.COMPLETED.value: "good",
}
"""How each status is coloured."""

MOST_PAGES = 100
"""Pages of the list: each one costs the rows of those before it where there are several stores."""

MAX_VALUE = 2_000
"""Characters of one value that are shown."""


async def show(request: Request) -> Response:
    """List sagas, the ones that changed last first."""
    if saga_id := searched(request, "id", LONGEST_ID):
        return RedirectResponse(str(link("/sagas/saga", id=saga_id)), 303)
    name, asked = searched(request, "name"), searched(request, "status")
    status = asked if asked in STATUSES else ""

    async def ask(store: Store, limit: int, offset: int) -> Sequence[SagaRow]:
        return await store.sagas(
            name=name or None, status=status or None, limit=limit, offset=offset
        )

    stores = desk_of(request).stores
    number = asked_page(request, MOST_PAGES)
    rows, problems = await listed(stores, ask, number, order=lambda each: each.updated_at)
    going_on = await ask_all(stores, lambda store: store.backlog())
    counts: Counter[tuple[str, str]] = Counter()
    for _, reading in going_on.given:
        counts.update(reading.sagas)
    return page(
        request,
        "sagas.html",
        title="Sagas",
        rows=rows,
        problems=problems,
        counts=sorted(counts.items()),
        names=sorted({each for each, _ in counts} | {each.name for _, each in rows.rows}),
        name=name,
        of_status=status,
        statuses=STATUSES,
        has_stores=bool(stores),
    )


async def show_one(request: Request) -> Response:
    """Show one saga; or those of all names that have its id."""
    saga_id, name = searched(request, "id", LONGEST_ID), searched(request, "name", LONGEST_ID)
    answers = await ask_all(
        desk_of(request).stores, lambda store: store.saga(saga_id, name=name or None)
    )
    found = [story for _, some in answers.given for story in some]
    if not found and not answers.problems:
        raise HTTPException(
            404,
            f"No store knows a saga {saga_id}: it never began, or was completed so long ago that "
            "it is forgotten.",
        )
    masker = desk_of(request).masker
    return page_with_pictures(
        request,
        "saga.html",
        [picture for each in found for picture in _pictures(request, each)],
        title=f"Saga {saga_id}",
        stories=[
            {
                "saga": each.saga,
                "told": view.summary(each.saga, masker),
                "steps": [
                    {**view.step(entry, masker), "moment": entry.at} for entry in each.history
                ],
                "declared": _declared(request, each) is not None,
            }
            for each in found
        ],
        problems=answers.problems,
        statuses=STATUSES,
        value=_value,
        short=_short,
        fields=_fields,
        knows_services=bool(desk_of(request).settings.services),
    )


def _pictures(request: Request, story: SagaStory) -> list[str]:
    """Draw what has happened, and what its class lets happen where that is known."""
    from mqkit.store.drawing.saga import saga_svg  # noqa: PLC0415 - as in `sources`

    declared = _declared(request, story)
    return [saga_svg(story), *([] if declared is None else [declared.diagram_svg()])]


def _declared(request: Request, story: SagaStory) -> Any:
    """Return the class of a saga, where its service was given to the console."""
    services = desk_of(request).settings.services
    return next(
        (each.sagas[story.saga.name] for each in services if story.saga.name in each.sagas), None
    )


def _fields(state: Any) -> list[tuple[str, Any]]:
    return list(state.items()) if isinstance(state, dict) else [("state", state)]


def _value(value: Any) -> str:
    """Write a value of the state, which is masked already."""
    if isinstance(value, str):
        return value[:MAX_VALUE]
    indent = 2 if isinstance(value, dict | list) and value else None
    return json.dumps(value, ensure_ascii=False, indent=indent)[:MAX_VALUE]


def _short(value: Any) -> str:
    """Write a value in one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:MAX_VALUE] or '""'


ROUTES = (
    Route("/sagas", show, methods=["GET"]),
    Route("/sagas/saga", show_one, methods=["GET"]),
)
