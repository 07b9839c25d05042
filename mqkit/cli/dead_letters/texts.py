"""Writes dead letters, groups and the audit as lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mqkit.dead_letters import AuditEntry, Group, Rehearsed, Replayed
from mqkit.dead_letters.messages.view import masked
from mqkit.logging.masking import Masker
from mqkit.logging.shown import shown

MAX_ERROR = 160
"""Characters of an error's text in a list."""

MAX_VALUE = 2_000
"""Characters of one value that is shown; --json has all of it."""


def groups_as_json(groups: Sequence[Group], masker: Masker) -> list[dict[str, Any]]:
    """Return groups as values for JSON."""
    return [
        {
            "group": each.group,
            "count": each.count,
            **masked(
                {
                    "reason": each.reason,
                    "error_type": each.error_type,
                    "place": each.place,
                    "handler": each.handler,
                    "error": each.error_message,
                },
                masker,
            ),
            "replayed": each.replayed,
            "bytes": each.size,
            "first": each.first and each.first.isoformat(),
            "last": each.last and each.last.isoformat(),
        }
        for each in groups
    ]


def group_lines(groups: Sequence[Group], masker: Masker) -> Iterator[str]:
    """Write groups: of each a line, with how it failed below."""
    now = datetime.now(UTC)
    for each, told in zip(groups, groups_as_json(groups, masker), strict=True):
        failed = told["error_type"] or told["reason"]
        replayed = f", {each.replayed} replayed before" if each.replayed else ""
        yield f"{each.group} {each.count:>7}  {shown(failed)}{replayed}"
        if told["place"]:
            yield f"    at {shown(told['place'])}"
        if told["error"]:
            yield f"    {shown(told['error'], MAX_ERROR)}"
        by = shown(told["handler"]) if told["handler"] else "no handler"
        yield f"    {by}, {shown(told['reason'])}, {_when(each.first, each.last, now)}"


def _when(first: datetime | None, last: datetime | None, now: datetime) -> str:
    if first is None or last is None:
        return "at unknown times"
    return f"first {_time(first)} ({age(first, now)} ago), last {_time(last)}"


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def age(moment: datetime, now: datetime) -> str:
    """Write how long ago a time is, in the unit that fits."""
    seconds = max((now - moment).total_seconds(), 0.0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def letter_line(told: Mapping[str, Any]) -> str:
    """Write one dead letter of a list."""
    failed = told["error_type"] or told["reason"]
    error = f": {shown(told['error'], MAX_ERROR)}" if told["error"] else ""
    replays = f", replayed {told['replays']}x" if told["replays"] else ""
    when = told["last_failure"] or "at an unknown time"
    return (
        f"{told['ref']} {told['group']} {shown(told['message_id'])} {when} {shown(failed)}{error}"
        f"{replays}"
    )


def detail_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Write all that there is to one dead letter."""
    yield f"message {shown(told['message_id'])} (ref {told['ref']}, group {told['group']})"
    for name in (
        *("reason", "error_type", "error", "place", "service", "handler", "attempts"),
        *("exchange", "routing_key", "first_failure", "last_failure"),
        *("replays", "last_replay", "edited_from"),
    ):
        if told[name] not in (None, "", 0):
            yield f"  {name.replace('_', ' ')}: {shown(told[name], MAX_VALUE)}"
    for each in told["history"]:
        yield f"  before: {shown(each, MAX_VALUE)}"
    for kind, of in (("property", "properties"), ("header", "headers")):
        yield from (f"  {kind} {shown(name)}: {_value(each)}" for name, each in told[of].items())
    yield from _body_lines(told["body"])
    if told["traceback"]:
        yield "  traceback:"
        yield from (f"    {shown(each, MAX_VALUE)}" for each in told["traceback"].splitlines())


def _value(value: object) -> str:
    return shown(json.dumps(value, ensure_ascii=False), MAX_VALUE)


def _body_lines(body: Mapping[str, Any]) -> Iterator[str]:
    yield f"  body: {body['size']} bytes, sha256 {body['sha256'][:16]}..."
    if "json" in body:
        text = json.dumps(body["json"], indent=2, ensure_ascii=False)
    elif "text" in body:
        text = body["text"]
    else:
        yield f"    no text; readable in it: {shown(body['binary'] or 'nothing', MAX_VALUE)}"
        return
    yield from (f"    {shown(each, MAX_VALUE)}" for each in text.splitlines()[:MAX_LINES])


MAX_LINES = 200
"""Lines of a body that are shown; --json has all of it."""


def rehearsed_lines(found: Rehearsed, masker: Masker) -> Iterator[str]:
    """Write what a replay would meet."""
    yield f"a replay would publish {found.meant}"
    if found.valid is not None:
        yield f"  {found.valid} have a body that the handler takes, {found.meant - found.valid} not"
    if found.handled is not None:
        yield f"  {found.handled} were handled: the inbox would skip them"
    for each in found.problems:
        told = masked({"id": each.message_id, "problem": each.problem}, masker)
        yield f"  {each.ref} {shown(told['id'])}: {shown(told['problem'], MAX_VALUE)}"


def replayed_line(done: Replayed) -> str:
    """Write what came of a replay."""
    stopped = f"; stopped: {done.stopped}" if done.stopped else ""
    return (
        f"replayed {done.replayed} (run {done.run}), {done.came_back} failed again so far, "
        f"{done.left} left{stopped}"
    )


def audit_line(entry: AuditEntry, masker: Masker) -> str:
    """Write an entry of the audit."""
    told = masked({"who": entry.who, "why": entry.why, "details": entry.details}, masker)
    when = "at an unknown time" if entry.at is None else _time(entry.at)
    return (
        f"{when} {shown(told['who'])} {shown(entry.what)} {shown(entry.stage)} "
        f"(run {shown(entry.run)}): {shown(told['why'])} {_value(told['details'])}"
    )


def as_json(value: object) -> str:
    """Write values as JSON: in ASCII, in which what is not printable is an escape."""
    return json.dumps(value, indent=2, allow_nan=False)
