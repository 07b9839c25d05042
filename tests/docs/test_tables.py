"""Tables of the guides leave out nothing that the code has."""

from __future__ import annotations

import re
import tomllib

from mqkit import errors, outcome
from mqkit.message import Header
from mqkit.pause import Status
from tests.support import ROOT

GUIDES = ROOT / "docs" / "guides"

ELSEWHERE = {Header.PUBLISH, Header.REPLY}
"""Headers that no retry and no dead letter has."""


def page(name: str) -> str:
    return (GUIDES / f"{name}.md").read_text()


def named_in_tables(name: str) -> set[str]:
    """Return what stands in code in the first cells of a page's tables."""
    cells = re.findall(r"^\| ([^|]*) \|", page(name), flags=re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", cell)}


def test_every_reason_and_header_of_a_dead_letter_is_documented() -> None:
    """Who looks at a dead letter finds each reason and each header on the page of failures"""
    text = page("failures-and-retries")
    assert {reason.value for reason in outcome.DeathReason} <= named_in_tables(
        "failures-and-retries"
    )
    headers = {each for name, each in vars(Header).items() if not name.startswith("_")}
    assert [each for each in sorted(headers - ELSEWHERE) if f"`{each}`" not in text] == []


def test_every_error_of_a_publish_is_documented() -> None:
    """Who catches what a publish raises finds each error in the table, with `may_be_stored`"""
    kinds = {
        name
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, errors.PublishError)
    }
    assert kinds - {"PublishError"} <= named_in_tables("publishing")


def test_every_error_of_a_request_is_documented() -> None:
    """Who catches what a request raises finds each error in the table"""
    kinds = {
        name
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, errors.RequestError)
    }
    assert kinds - {"RequestError"} <= named_in_tables("requests")


def test_every_status_of_a_consumer_is_documented() -> None:
    """Who reads `runtime.states` finds each status in the table"""
    assert {status.value for status in Status} <= named_in_tables("pausing")


def test_the_versions_of_libraries_are_those_that_are_tested() -> None:
    """The table of libraries has what `pyproject.toml` asks for and what is locked"""
    row = re.compile(r"^\| ([\w-]+) \| ([\d.]+)(?:, below [\d.]+)? \| ([\d.]+) \|", re.MULTILINE)
    table = row.findall(page("support-matrix"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *(e for n, each in extras.items() if n != "dev" for e in each),
    ]
    wanted = {
        match[1].lower(): match[2]
        for each in asked
        if (match := re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", each)) and match[1] != "mqkit"
    }
    assert {name.lower(): least for name, least, _ in table} == wanted
    locked = (ROOT / "deploy" / "requirements-dev.txt").read_text()
    versions = dict(re.findall(r"^([\w-]+)==(\S+) ", locked, re.MULTILINE))
    assert {name: versions[name.lower()] for name, _, _ in table} == {n: v for n, _, v in table}
