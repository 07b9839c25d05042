"""Which modules of the embedded broker the mutation run breaks, and how it tells them apart"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.conformance import mutation
from tests.conformance.mutants import Mutant, mutants
from tests.conformance.mutation import (
    FOLDER,
    LEFT_OUT,
    Hunt,
    Seen,
    Table,
    _Tracer,
    is_in,
    modules,
    name_of,
)
from tests.conformance.suite.suite import Case, collect


def test_modules_of_every_package_are_broken() -> None:
    """All modules are, by their dotted names, but for those that are left out by name"""
    every = {name_of(path) for path in FOLDER.rglob("*.py") if path.name != "__init__.py"}
    found = modules([])
    assert {"wire.frames", "engine.queue", "engine.routing.topics", "session.basic"} <= {*found}
    assert {name for name in every if not is_in(name, LEFT_OUT)} == {*found}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_there(name: str) -> None:
    """No name is left out that no module or package has"""
    assert (FOLDER / name.replace(".", "/")).is_dir() or name in {
        name_of(path) for path in FOLDER.rglob("*.py")
    }


def test_modules_are_chosen_by_name() -> None:
    """A name is a module's or a package's, with all that is in it; others are refused"""
    assert {*modules(["wire", "engine.queue"])} == {
        "engine.queue",
        "wire.frames",
        "wire.received",
        "wire.tables",
    }
    with pytest.raises(ValueError, match=r"mqkit\.embedded\.queue"):
        modules(["queue"])


def test_places_are_of_modules_by_path() -> None:
    """The lines that run are told by dotted name; those outside the broker are not told"""
    tracer = _Tracer()
    broker = compile("a = 1\nb = 2\n", str(FOLDER / "engine" / "routing" / "topics.py"), "exec")
    other = compile("a = 1\n", str(FOLDER.parent / "topics.py"), "exec")

    def run() -> None:
        exec(broker, {})  # noqa: S102 - two lines of ours
        exec(other, {})  # noqa: S102 - as above

    before = threading.gettrace()
    tracer.start()
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.settrace(before)
    assert tracer.take() == [("engine.routing.topics", 1), ("engine.routing.topics", 2)]
    assert tracer.take() == []


def test_a_mutant_changes_one_place() -> None:
    """Each has the name of its module, the line that makes the difference, and the change"""
    source = 'def f(a):\n    """Say."""\n    return a == 1\n'
    found = [
        (each.module, each.line, each.change, each.source().splitlines()[-1])
        for each in mutants("wire.frames", source)
    ]
    assert found == [
        ("wire.frames", 3, "a == 1: NotEq", "    return a != 1"),
        ("wire.frames", 3, "1: 2", "    return a == 2"),
    ]


def test_a_run_goes_on_from_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are read again, but for a line that was cut off, and not those of another broker"""
    path = tmp_path / "table"
    one, other = list(mutants("wire.frames", "def f(a):\n    return a == 1\n"))
    one.failed = ["a.case"]
    table = Table(path)
    table.keep(one)
    with path.open("a") as file:
        file.write('["cut')
    assert Table(path).known == {one.key: (["a.case"], False)}
    assert other.key != one.key
    monkeypatch.setattr(mutation, "digest", lambda: "another")
    assert Table(path).known == {}


def hunt_with(monkeypatch: pytest.MonkeyPatch, told: list[list[str]]) -> tuple[Hunt, Mutant]:
    """A hunt of three cases on a mutant whose runs have these verdicts, one run after the other"""
    cases = collect()[:3]
    place = frozenset({("wire.frames", 2)})
    hunt = Hunt(cases, Seen({c.id: 0.0 for c in cases}, {c.id: place for c in cases}))

    def results(
        _: Mutant, asked: list[Case], *__: object
    ) -> list[tuple[str, str, float, list[object]]]:
        verdicts = told.pop(0)
        ended = [*zip((case.id for case in asked), verdicts, strict=True), ("", "end")]
        return [(case, verdict, 0.0, []) for case, verdict in ended]

    monkeypatch.setattr(mutation, "results", results)
    monkeypatch.setattr(mutation, "SPECIFIC", 1.0)
    return hunt, Mutant("wire.frames", 2, "a: b", "key", str)


def test_what_hung_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that passes with patience is not shown by a machine that was busy"""
    runs = [["hung", "failed", "hung"], ["passed", "hung"]]
    hunt, mutant = hunt_with(monkeypatch, runs)
    cases = list(hunt.cases)
    hunt.try_(mutant)
    assert list(hunt.shown) == cases[1:]
    assert runs == []


def test_what_hangs_many_cases_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended at the case that is one too many, without a second run"""
    monkeypatch.setattr(mutation, "HANGS", 1)
    hunt, mutant = hunt_with(monkeypatch, [["hung", "hung", "failed"]])
    hunt.try_(mutant)
    assert mutant.broad
    assert len(mutant.failed) == 2
    assert hunt.shown == {}
