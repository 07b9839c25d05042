"""Dead letters: their queues, groups and letters, and the audit of what was done with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from mqkit.console.access.addresses import own_path
from mqkit.console.desk import desk_of, page
from mqkit.console.letters.looks import Look
from mqkit.console.pages.login import form_of
from mqkit.console.rendering.paging import has, paged, searched
from mqkit.console.rendering.templates import REFRESH
from mqkit.console.rendering.text import moment_of
from mqkit.dead_letters import Group, Letter, Survey
from mqkit.dead_letters.queues import Names
from mqkit.errors import ConfigurationError
from mqkit.overview.values import Overview, Role

LOOKING = 1
"""Seconds between two looks of a page that waits for what is being read."""


@dataclass(frozen=True, slots=True)
class DeadQueue:
    """The dead letters of one queue, as the broker counts them."""

    of: str
    count: int
    archived: int


def dead_queues(overview: Overview) -> list[DeadQueue]:
    """Return the queues with dead letters, those with the most first."""
    archived = {each.of: each.ready for each in overview.queues if each.role is Role.ARCHIVE}
    counts = {
        each.of or Names.of(each.name).queue: each.ready
        for each in overview.queues
        if each.role is Role.DEAD
    }
    found = [DeadQueue(of, counts.get(of, 0), archived.get(of, 0)) for of in {**counts, **archived}]
    return sorted(found, key=lambda each: (-each.count, -each.archived, each.of))


def queue_of(request: Request) -> str:
    """Return the queue that a page is about, given by its own name or its dead letter queue's.

    :raises HTTPException: no queue has this name
    """
    try:
        return Names.of(request.query_params.get("queue", "")).queue
    except ConfigurationError as error:
        raise HTTPException(400, str(error)) from error


def is_archived(request: Request) -> bool:
    """Whether a page is about what was archived."""
    return request.query_params.get("archived") == "yes"


async def show(request: Request) -> Response:
    """Show the queues with dead letters, and what was done lately."""
    desk = desk_of(request)
    words = searched(request)
    empty = searched(request, "empty") == "yes"
    rows = [
        each
        for each in dead_queues(desk.overview())
        if has(words, each.of) and (empty or each.count or each.archived)
    ]
    return page(
        request,
        "dead_letters.html",
        title="Dead letters",
        refresh=REFRESH,
        rows=paged(rows, request),
        jobs=desk.letters.jobs.latest()[:10],
        empty=empty,
        is_filtered=bool(words),
    )


async def show_queue(request: Request) -> Response:
    """Show how the dead letters of a queue have failed."""
    queue, archived = queue_of(request), is_archived(request)
    look = await desk_of(request).letters.survey(queue, archived=archived)
    groups = look.found.groups if look.found is not None else []
    title = f"Archive of {queue}" if archived else f"Dead letters of {queue}"
    return _page(
        request,
        "dead_queue.html",
        look,
        title=title,
        groups=paged(groups, request),
        archived_count={each.of: each.archived for each in _queues(request)}.get(queue, 0),
    )


def _queues(request: Request) -> list[DeadQueue]:
    return dead_queues(desk_of(request).overview())


async def show_group(request: Request) -> Response:
    """Show one group, and its letters."""
    queue, archived = queue_of(request), is_archived(request)
    name, words = request.query_params.get("group", ""), searched(request)
    look = await desk_of(request).letters.survey(queue, archived=archived)
    group, letters = _of_group(look.found, name)
    found = [each for each in letters if has(words, each.message_id, each.error_message, each.ref)]
    return _page(
        request,
        "dead_group.html",
        look,
        title=_title(group, name),
        group=group,
        name=name,
        letters=paged(found, request),
        listed=len(letters),
        is_filtered=bool(words),
    )


def _of_group(survey: Survey | None, name: str) -> tuple[Group | None, Sequence[Letter]]:
    if survey is None:
        return None, ()
    group = next((each for each in survey.groups if each.group == name), None)
    return group, survey.by_group.get(name, ())


def _title(group: Group | None, name: str) -> str:
    return f"Group {name}" if group is None else group.error_type or group.reason


async def show_letter(request: Request) -> Response:
    """Show all that there is to one dead letter."""
    queue, archived = queue_of(request), is_archived(request)
    ref = request.query_params.get("ref", "")
    if not ref:
        raise HTTPException(400, "Which dead letter? Its address lacks a ref.")
    look = await desk_of(request).letters.letter(queue, ref, archived=archived)
    found = look.found or {}
    return _page(
        request,
        "dead_letter.html",
        look,
        title=f"Dead letter {found.get('message_id') or ref}",
        letter=look.found,
        ref=ref,
        first=moment_of(found.get("first_failure")),
        last=moment_of(found.get("last_failure")),
        body=_body(found.get("body", {})),
        properties=_as_text(found.get("properties", {})),
        headers=_as_text(found.get("headers", {})),
    )


def _body(body: dict[str, Any]) -> str:
    """Return the text that is shown of a body."""
    if "json" in body:
        return json.dumps(body["json"], indent=2, ensure_ascii=False)
    return str(body.get("text") or body.get("binary") or "")


def _as_text(values: dict[str, Any]) -> dict[str, str]:
    return {
        name: each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)
        for name, each in values.items()
    }


async def show_audit(request: Request) -> Response:
    """Show who did what with the dead letters of a queue."""
    queue = queue_of(request)
    look = await desk_of(request).letters.audit(queue)
    entries = [
        (each, json.dumps(each.details, ensure_ascii=False, sort_keys=True))
        for each in look.found or ()
    ]
    return _page(
        request,
        "dead_audit.html",
        look,
        title=f"What was done with the dead letters of {queue}",
        entries=paged(entries, request),
    )


def _page(
    request: Request, template: str, look: Look[Any], *, title: str, **values: Any
) -> Response:
    queue = queue_of(request)
    return page(
        request,
        template,
        title=title,
        refresh=LOOKING if look.is_reading else None,
        look=look,
        queue=queue,
        archived=is_archived(request),
        job=desk_of(request).letters.jobs.running(queue),
        **values,
    )


async def look_again(request: Request) -> Response:
    """Forget what is known of a queue's dead letters, so that the next page reads them."""
    form = form_of(request)
    desk_of(request).letters.forget(form.get("queue"))
    return RedirectResponse(own_path(form.get("next")), 303)


ROUTES = (
    Route("/dead-letters", show, methods=["GET"]),
    Route("/dead-letters/queue", show_queue, methods=["GET"]),
    Route("/dead-letters/group", show_group, methods=["GET"]),
    Route("/dead-letters/letter", show_letter, methods=["GET"]),
    Route("/dead-letters/audit", show_audit, methods=["GET"]),
    Route("/dead-letters/look", look_again, methods=["POST"]),
)
