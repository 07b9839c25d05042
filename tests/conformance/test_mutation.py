"""Which modules of the embedded broker the mutation run breaks, and how it tells them apart"""

from __future__ import annotations

import threading

import pytest

from tests.conformance.mutants import mutants
from tests.conformance.mutation import FOLDER, LEFT_OUT, _Tracer, is_in, modules, name_of


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
        (each.module, each.line, each.change, each.source.splitlines()[-1])
        for each in mutants("wire.frames", source)
    ]
    assert found == [
        ("wire.frames", 3, "a == 1: NotEq", "    return a != 1"),
        ("wire.frames", 3, "1: 2", "    return a == 2"),
    ]
