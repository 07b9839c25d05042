"""Makes the table of handlers/README.md: how long each service is, and what of mqkit it uses.

`python -m tests.docs.services_table` writes it into the page.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support import ROOT

HANDLERS = ROOT / "handlers"
PAGE = HANDLERS / "README.md"

HEADING = "## What each service uses\n"
"""The page's section that begins with this, up to the next heading, is the table."""

HEAD = "| service | lines | what of mqkit it uses |\n| --- | ---: | --- |\n"

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """The source of one service."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        text = path.read_text()
        self.lines = len(text.splitlines())
        self._tree = ast.parse(text)

    @property
    def is_service(self) -> bool:
        """Whether `mqkit run handlers.NAME:service` runs it."""
        return any(
            isinstance(each, ast.Assign)
            and any(isinstance(to, ast.Name) and to.id == "service" for to in each.targets)
            for each in self._tree.body
        )

    def handlers(self, how: str) -> Iterator[Function]:
        """Its functions that are registered as `@service.handler` or `@service.batch`."""
        for node in ast.walk(self._tree):
            if isinstance(node, Function) and any(
                ast.unparse(each).startswith(f"service.{how}(") for each in node.decorator_list
            ):
                yield node

    def imports(self, name: str) -> bool:
        """Whether it has a name of mqkit, or of a package of it, and says it again somewhere."""
        return any(
            isinstance(node, ast.ImportFrom)
            and (node.module or "").split(".")[0] == "mqkit"
            and any(alias.name == name for alias in node.names)
            for node in self._tree.body
        ) and any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(self._tree))

    def imports_from(self, module: str) -> bool:
        """Whether it takes anything from a module."""
        return any(
            isinstance(node, ast.ImportFrom) and node.module == module for node in self._tree.body
        )

    def gives(self, *options: str) -> bool:
        """Whether a call has one of these options."""
        return any(
            isinstance(node, ast.Call) and any(each.arg in options for each in node.keywords)
            for node in ast.walk(self._tree)
        )

    def calls(self, *methods: str) -> bool:
        """Whether it calls a method, such as `transaction.publish`, by this name."""
        return any(
            isinstance(node, ast.Call) and ast.unparse(node.func) in methods
            for node in ast.walk(self._tree)
        )


def _replies(source: Source) -> bool:
    return any(
        each.returns is not None and ast.unparse(each.returns) != "None"
        for each in source.handlers("handler")
    )


def _has(source: Source, kind: type[Function], how: str = "handler") -> bool:
    return any(isinstance(each, kind) for each in source.handlers(how))


FEATURES: dict[str, Callable[[Source], bool]] = {
    "`async def` handler": lambda s: _has(s, ast.AsyncFunctionDef),
    "`def` handler": lambda s: _has(s, ast.FunctionDef),
    "batch": lambda s: any(s.handlers("batch")),
    "saga": lambda s: s.imports_from("mqkit.sagas"),
    "timeouts": lambda s: s.imports("on_timeout"),
    "compensation": lambda s: s.imports("compensates"),
    "`Transaction`": lambda s: s.imports("Transaction"),
    "`SyncTransaction`": lambda s: s.imports("SyncTransaction"),
    "outbox": lambda s: s.calls("transaction.publish", "self.publish"),
    "publish later": lambda s: s.gives("at", "delay", "after"),
    "`Publisher`": lambda s: s.imports("Publisher"),
    "reply": _replies,
    "`order_by`": lambda s: s.gives("order_by"),
    "`Pause`": lambda s: s.imports("Pause"),
    "`Reject`": lambda s: s.imports("Reject"),
    "`Delivery`": lambda s: s.imports("Delivery"),
    "providers": lambda s: s.calls("service.provide"),
    "`share_commits=False`": lambda s: s.gives("share_commits"),
}
"""What a service may use of mqkit, and how its source shows that it does."""


def services() -> list[Source]:
    """Read all services, by name."""
    return [source for path in sorted(HANDLERS.glob("*.py")) if (source := Source(path)).is_service]


def used(source: Source) -> list[str]:
    """Say what of mqkit a service uses."""
    return [name for name, uses in FEATURES.items() if uses(source)]


def table() -> str:
    """Make the table."""
    rows = [
        f"| `{source.name}` | {source.lines} | {', '.join(used(source))} |\n"
        for source in services()
    ]
    return HEAD + "".join(rows)


def section(page: str) -> str:
    """Return the table that a page has; empty where it has no such section."""
    _, _, rest = page.partition(HEADING)
    return "".join(line for line in rest.split("\n## ")[0].splitlines(True) if line[0] == "|")


def main() -> None:
    """Write the table into the page."""
    page = PAGE.read_text()
    PAGE.write_text(page.replace(section(page), table()))


if __name__ == "__main__":
    main()
