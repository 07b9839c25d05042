"""Writes the suite's results as a Markdown table, also into a file that has a place for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mqkit.errors import ConfigurationError
from tests.conformance.suite.env import Target
from tests.conformance.suite.runner import Result

BEGIN = "<!-- conformance:begin -->"
END = "<!-- conformance:end -->"


def cell(results: Sequence[Result]) -> str:
    """Write one cell, `passed/run, lacks n`; a dash where there was nothing to run."""
    if not results:
        return "-"
    lacks = sum(result.verdict == "lacks" for result in results)
    passed = sum(result.verdict == "passed" for result in results)
    text = f"{passed}/{len(results) - lacks}"
    return f"{text}, lacks {lacks}" if lacks else text


def table(results: Sequence[Result], targets: Sequence[Target]) -> str:
    """Write a row for each broker and a column for each client, in the order in which they came."""
    clients = list(dict.fromkeys(result.client for result in results))
    rows = [["broker", *clients], ["---"] * (len(clients) + 1)]
    for target in targets:
        mine = [result for result in results if result.broker == target.label]
        name = target.label if target.label == "embedded" else f"RabbitMQ {target.version}"
        rows.append([name, *(cell([r for r in mine if r.client == client]) for client in clients)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def put_into(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what is between the two marks of a file.

    :raises mqkit.errors.ConfigurationError: it has not both marks, in order, once each
    """
    old = path.read_text(encoding="utf-8")
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise ConfigurationError(f"{path}: {begin} and, after it, {end} must be there once each")
    before, _, rest = old.partition(begin)
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")
