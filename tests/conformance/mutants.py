"""Changes one place of a module at a time: a comparison, a constant, a condition, a statement."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeGuard

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


@dataclass
class Mutant:
    """One changed place, and the cases that failed on it."""

    module: str
    """Its name below `mqkit.embedded`."""
    line: int
    change: str
    key: str
    """What tells it from every other one, of this module or of one that was changed."""
    source: Callable[[], str] = field(repr=False)
    """Writes the changed module, which takes some time."""
    failed: list[str] = field(default_factory=list)
    broad: bool = False
    """The child was ended: it failed too much, or hung."""
    at_import: bool = False
    """It is not in a function: it runs when the module is imported."""


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Each way to change one place."""
    tree = ast.parse(source)
    of = f"{module} {hashlib.sha256(source.encode()).hexdigest()[:12]}"
    docstrings = {id(node.value) for node in ast.walk(tree) if is_docstring(node)}
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    inside = {line for f in functions for line in range(f.lineno, (f.end_lineno or 0) + 1)}
    for index, node in enumerate(ast.walk(tree)):
        if id(node) in docstrings:
            continue
        for number, (change, make) in enumerate(changes(node)):
            mutant = Mutant(
                module,
                line_of(node, change),
                change,
                f"{of} {index}.{number}",
                partial(changed, tree, index, make),
            )
            mutant.at_import = mutant.line not in inside
            yield mutant


def changed(tree: ast.Module, index: int, make: Callable[[Any], object]) -> str:
    """Write a module as it is once the node of this index is changed."""
    copied = copy.deepcopy(tree)
    make(next(n for i, n in enumerate(ast.walk(copied)) if i == index))
    return ast.unparse(ast.fix_missing_locations(copied))


def is_docstring(node: ast.AST) -> TypeGuard[ast.Expr]:
    """True for a statement that is only a text, after whatever it is about."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def line_of(node: ast.AST, change: str) -> int:
    """The line that has run when the change makes a difference."""
    if change.startswith("without: "):
        first = node.body[0]  # type: ignore[attr-defined]
        for statement in node.body:  # type: ignore[attr-defined]
            if ast.unparse(statement).startswith(change.removeprefix("without: ")):
                return int(statement.lineno)
        return int(first.lineno)
    return int(getattr(node, "lineno", 0))


Change = tuple[str, Callable[[Any], object]]
"""Words for it, and a function that does it to a copy of the node."""


def changes(node: ast.AST) -> Iterator[Change]:
    """What can be done to one node."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        other = COMPARISONS[type(node.ops[0])]
        yield f"{ast.unparse(node)}: {other.__name__}", _set("ops", [other(), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp):
        yield from _of_bool_op(node)
    elif isinstance(node, ast.If | ast.IfExp):
        test = ast.unparse(node.test)[:70]
        for value in (True, False):
            yield f"if {test}: {value}", _set("test", ast.Constant(value=value))
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        # Twice not: the truth of the operand.
        inner = ast.UnaryOp(ast.Not(), node.operand)
        yield f"{ast.unparse(node)[:70]}: without not", _set("operand", inner)
    if isinstance(node, ast.FunctionDef | ast.If | ast.For | ast.While | ast.With | ast.Try):
        yield from _of_body(node.body)


def _set(name: str, value: object) -> Callable[[Any], object]:
    return lambda node: setattr(node, name, value)


def _without(at: int, node: Any) -> None:
    del node.values[at]


def _pass(at: int, node: Any) -> None:
    node.body[at] = ast.Pass()


def _of_bool_op(node: ast.BoolOp) -> Iterator[Change]:
    words = ast.unparse(node)[:70]
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield f"{words}: {type(other).__name__}", _set("op", other)
    for at in range(len(node.values)):
        yield f"{words}: without part {at + 1}", partial(_without, at)


def _of_constant(node: ast.Constant) -> Iterator[Change]:
    value: Any = node.value
    if isinstance(value, bool):
        yield f"{value}: {not value}", _set("value", not value)
    elif isinstance(value, int):
        yield f"{value}: {value + 1}", _set("value", value + 1)
    elif isinstance(value, str) and value:
        yield f"{value[:40]!r}: changed", _set("value", "~" + value[1:])


def _of_body(body: Sequence[ast.stmt]) -> Iterator[Change]:
    for at, statement in enumerate(body):
        if is_docstring(statement):
            continue
        if isinstance(statement, ast.Expr | ast.Assign | ast.AugAssign | ast.Raise | ast.Delete):
            words = f"without: {ast.unparse(statement)[:90]}"
            yield words, partial(_pass, at)
