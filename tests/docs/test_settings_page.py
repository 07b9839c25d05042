"""The page of settings has every option, and no other, with the default that it has."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
import typer

from mqkit import (
    BlockingPublisher,
    Exchange,
    Limits,
    Pause,
    Publisher,
    Queue,
    Retry,
    Runtime,
    Service,
)
from mqkit.cli.app import app
from mqkit.limits import DEFAULT_LIMITS
from mqkit.observability.metrics import Buckets, Metrics
from mqkit.sagas import Found, Missing, Saga, continues, starts
from mqkit.store import Store
from tests.support import ROOT

PAGE = (ROOT / "docs" / "guides" / "settings.md").read_text()

OPTIONS: Mapping[str, Callable[..., Any]] = {
    "Service": Service,
    "Handler": Service.handler,
    "Saga": Saga.__init_subclass__,
    "Queue": Queue,
    "Exchange": Exchange,
    "Retry": Retry,
    "Pause": Pause,
    "Limits": Limits,
    "Publisher": Publisher,
    "BlockingPublisher": BlockingPublisher,
    "Store": Store,
    "Runtime": Runtime,
    "Metrics": Metrics,
    "Buckets": Buckets,
}

FOR_TESTS = {"clock", "machine"}
"""Options that only tests and simulations give."""

UNITS = {"days": 86_400, "MiB": 2**20, "KiB": 2**10}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    section = re.split(rf"^## {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    section = section.partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def stated(cell: str) -> object:
    """Read a default as the page writes it: a number with its unit, a flag, a name; else None."""
    if cell in ("True", "False"):
        return cell == "True"
    if match := re.fullmatch(r"([\d.,]+)(?: (days|MiB|KiB))?", cell):
        return float(match[1].replace(",", "")) * UNITS.get(match[2], 1)
    if match := re.fullmatch(r"`([^`]*)`", cell):
        return match[1]
    return None


def says(cell: str, default: object) -> bool:
    """Tell whether the page gives a default as it is; one of None is said in words."""
    if default is inspect.Parameter.empty:
        return cell == "must be said" or cell.startswith("must be said,")
    if default == DEFAULT_LIMITS:
        return cell == "`Limits()`"
    if isinstance(default, timedelta):
        default = default.total_seconds()
    if isinstance(default, bool | int | float | str):
        return stated(cell) == default
    return cell != "must be said"


@pytest.mark.parametrize("heading", OPTIONS)
def test_a_table_of_options_is_the_signature(heading: str) -> None:
    """Each option of a class is in its table, with its default, and no other one is"""
    parameters = dict(inspect.signature(OPTIONS[heading]).parameters)
    parameters = {n: p for n, p in parameters.items() if n not in {"self", *FOR_TESTS}}
    parameters = {n: p for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    table = {cells[0].strip("`"): cells[1] for cells in rows(heading)}
    assert sorted(table) == sorted(parameters)
    wrong = [name for name, each in parameters.items() if not says(table[name], each.default)]
    # A service's URL is None where it has a connection, and a saga's name in a base of others.
    said = {("Runtime", "url"), ("Saga", "name")}
    assert [name for name in wrong if (heading, name) not in said] == []


@pytest.mark.parametrize("decorator", [starts, continues], ids=lambda each: each.__name__)
def test_the_table_of_a_saga_s_messages_is_the_signature(decorator: Callable[..., Any]) -> None:
    """Each option of a decorator's own is in the table, with its default, and no other one is"""
    cells = [r[1:] for r in rows("Starts and continues") if r[0] == f"`{decorator.__name__}`"]
    table = {each[0].strip("`"): each[1] for each in cells}
    parameters = inspect.signature(decorator).parameters
    own = {n: p.default for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    assert sorted(table) == sorted(own)
    for name, default in own.items():
        if isinstance(default, Found | Missing):
            assert table[name] == f"`{type(default).__name__}.{default.name}`"
        else:
            assert says(table[name], default)


def commands() -> dict[str, Any]:
    """All commands by their names, those of a group by its own and theirs."""
    group: Any = typer.main.get_command(app)
    found = {name: group.get_command(None, name) for name in group.list_commands(None)}
    for name in GROUPS:
        of_group: Any = found.pop(name)
        found |= {f"{name} {each}": command for each, command in of_group.commands.items()}
    return found


GROUPS = ["asyncapi", "dead-letters", "delays", "saga", "topology"]
"""Commands with commands of their own, which share a table."""

COMMANDS = [
    "asyncapi describe",
    "asyncapi diff",
    "broker",
    "capacity",
    "console",
    *(
        f"dead-letters {each}"
        for each in ("archive", "audit", "drop", "edit", "list", "replay", "restore", "show")
    ),
    "delays verify",
    "publish",
    "relay",
    "run",
    "saga list",
    "saga show",
    "status",
    "top",
    *(f"topology {each}" for each in ("apply", "export", "graph", "permissions", "plan")),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_table_of_a_command_is_its_options(command: str) -> None:
    """Each option of a command is in the table, with its default, and no other one is"""
    heading = f"mqkit {command}"
    if command in ("broker", "relay", "status"):
        cells = [r[1:] for r in rows("mqkit broker, relay and status") if r[0] == f"`{command}`"]
    elif (group := command.partition(" "))[0] in GROUPS:
        of_group = rows(f"mqkit {group[0]}")
        cells = [r[1:] for r in of_group if f"`{group[2]}`" in r[0].split(", ")]
    else:
        cells = rows(heading)
    table = {each[0].strip("`"): each[1] for each in cells}
    options = {
        each.opts[0]: inspect.Parameter.empty if each.required else each.default
        for each in commands()[command].params
        if each.param_type_name == "option"
    }
    assert sorted(table) == sorted(options)
    assert [name for name, default in options.items() if not says(table[name], default)] == []


def test_every_command_has_its_table() -> None:
    """A command that is added is in the test above, and so on the page"""
    assert sorted(commands()) == COMMANDS


def test_the_environment_is_all_that_the_package_reads() -> None:
    """Each variable that mqkit itself reads is in the table, and no other one is"""
    sources = "".join(path.read_text() for path in (ROOT / "mqkit").rglob("*.py"))
    read = set(re.findall(r"MQKIT_[A-Z_]*[A-Z]", sources))
    read = {name for name in read if not name.startswith("MQKIT_TEST")}
    assert {cells[0].strip("`") for cells in rows("Environment")} == read
