"""The package itself: what it offers, and what importing it costs others."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools.config.pyprojecttoml import read_configuration

import mqkit
from mqkit import errors
from mqkit.checks.extras import needs_extra
from mqkit.errors import MissingExtraError

ROOT = Path(__file__).parent.parent.parent


def imported_for_types() -> dict[str, str]:
    """Name to module, from the block that only type checkers read."""
    tree = ast.parse((ROOT / "mqkit/__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_every_public_name_is_there() -> None:
    """Type checkers and the running program find the same names in the same modules."""
    homes = imported_for_types()
    assert homes == mqkit._HOMES
    assert sorted([*homes, "__version__"]) == sorted(mqkit.__all__)
    assert set(mqkit.__all__) <= set(dir(mqkit))
    for name, home in homes.items():
        assert getattr(mqkit, name) is getattr(importlib.import_module(home), name)


def test_every_error_is_exported() -> None:
    """Whoever calls mqkit can name whatever it raises, and catch all of it by one root."""
    public = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BaseException) and name[0] != "_"
        if value.__module__ == errors.__name__
    }
    assert public.keys() <= set(mqkit.__all__)
    assert all(issubclass(value, mqkit.MqkitError) for value in public.values())


def test_a_name_that_is_not_there_is_an_error() -> None:
    """As with any module: AttributeError, and ImportError from an import."""
    with pytest.raises(AttributeError, match="no attribute 'Servise'"):
        _ = mqkit.Servise
    with pytest.raises(ImportError, match="Servise"):
        exec("from mqkit import Servise", {})  # noqa: S102 - an import statement is what it is about


def test_the_pytest_plugin_is_cheap_to_load() -> None:
    """Every project that has mqkit installed pays for what its import imports."""
    code = (
        "import pytest, sys; before = set(sys.modules); import mqkit.testing.plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    loaded = done.stdout.decode().split()
    assert [name for name in loaded if name.startswith("mqkit")] == [
        "mqkit",
        "mqkit.testing",
        "mqkit.testing.async_tests",
        "mqkit.testing.plugin",
    ]
    assert len(loaded) < 10, loaded


def test_errors_need_no_logging() -> None:
    """Who catches one pays for none of what mqkit logs with."""
    code = "import sys, mqkit.errors; print('logging' in sys.modules, 'json' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode() == "False False\n"


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {libraries!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without(libraries: set[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which these cannot be imported, as if they were not installed."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(libraries=libraries) + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


STORE = {"sqlalchemy", "aiosqlite", "greenlet", "asyncpg"}
COMMAND_LINE = {"typer", "click", "rich"}
OTHERS = {"pytest", "testcontainers", "docker", "uvloop", "watchfiles"}


def test_what_is_installed_is_mqkit_alone() -> None:
    """Neither the payment services nor the tests take a name in anybody's site-packages."""
    config = read_configuration(ROOT / "pyproject.toml")
    packages = config["tool"]["setuptools"]["packages"]
    assert {name.partition(".")[0] for name in packages} == {"mqkit"}
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "mqkit").rglob("__init__.py")
    }
    assert set(packages) == there


def test_without_any_extra_the_framework_is_there() -> None:
    """A service runs, on the embedded broker too, by what `pip install mqkit` brings."""
    code = """
import asyncio
from mqkit import *
from mqkit.testing.harness import harness

async def run():
    service = Service("bare", retry=Retry.never())

    @service.handler(Queue("bare"))
    async def take(body: int) -> None:
        pass

    async with harness(service) as running:
        number = await running.publish("", "bare", 1)
        print((await running.outcome(number)).acked)

asyncio.run(run())
"""
    done = without(STORE | COMMAND_LINE | OTHERS, code)
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


def test_without_its_libraries_the_command_says_what_to_install() -> None:
    """In one line, with the exit code of a command that was called wrongly."""
    code = "import sys; sys.argv[1:] = ['--help']; from mqkit.cli import main; main()"
    done = without(COMMAND_LINE, code)
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr == (
        "mqkit: the command line needs a library that is not installed (No module named 'typer'): "
        "pip install 'mqkit[cli]'\n"
    )


def test_a_command_with_a_store_says_what_to_install() -> None:
    """When it opens the store and no earlier: the other commands are there without it."""
    code = """
import sys
from mqkit.cli import main
for sys.argv[1:] in (["--version"], ["status", "m", "--store", "sqlite:///nowhere"]):
    try:
        main()
    except SystemExit as ended:
        print(ended.code)
"""
    done = without(STORE, code)
    assert done.stdout == f"mqkit {mqkit.__version__}\n0\n2\n", done.stderr
    assert done.stderr == f"mqkit: {NO_STORE}\n"


NO_STORE = (
    "mqkit.store needs a library that is not installed (No module named 'sqlalchemy'): "
    "pip install 'mqkit[store]'"
)


def test_without_its_libraries_the_store_says_what_to_install() -> None:
    """By an error of mqkit that whoever makes do without an optional module catches, too."""
    code = """
import mqkit
for caught in (ImportError, ModuleNotFoundError, mqkit.MqkitError):
    try:
        from mqkit.store import Store
    except caught as error:
        told = f"{error.name} {error}"
    else:
        raise AssertionError(caught)
print(told)
"""
    done = without(STORE, code)
    assert done.stdout == f"sqlalchemy {NO_STORE}\n", done.stderr


def test_a_service_with_a_store_says_what_to_install(tmp_path: Path) -> None:
    """`mqkit run` shows the error of the service's own import as its own, and the import."""
    (tmp_path / "shop.py").write_text("from mqkit.store import Store\n")
    code = f"""
import os, sys
os.chdir({str(tmp_path)!r})
sys.path.append({str(ROOT)!r})
sys.argv = ["mqkit", "run", "shop:service", "--embedded"]
from mqkit.cli import main; main()
"""
    done = without(STORE, code)
    place = "  shop.py, line 1: from mqkit.store import Store\n"
    assert (done.stderr, done.returncode) == (f"mqkit: {NO_STORE}\n{place}", 2)


def test_only_an_extras_own_library_is_what_is_missing() -> None:
    """Any other import that fails is a mistake, which no extra would mend."""
    with (
        pytest.raises(ModuleNotFoundError, match="misspelt") as raised,
        needs_extra("store", "the store", "sqlalchemy"),
    ):
        importlib.import_module("misspelt")
    assert not isinstance(raised.value, MissingExtraError)


OPENS = """
import asyncio, mqkit
from mqkit.store import Store

async def use(url):
    async with Store(url, relay=False) as store:
        await store.ping()
        print("opened")

try:
    asyncio.run(use({url!r}))
except mqkit.ConfigurationError as error:
    print(error)
"""


def test_without_its_driver_a_store_names_the_extra() -> None:
    """PostgreSQL's driver comes by an extra of its own."""
    done = without({"asyncpg"}, OPENS.format(url="postgresql://ledger@db/ledger"))
    assert "No module named 'asyncpg'" in done.stdout, done.stderr
    assert done.stdout.endswith("pip install 'mqkit[postgres]'\n")


def test_a_store_on_sqlite_needs_no_driver_but_pythons(tmp_path: Path) -> None:
    """SQLAlchemy's dialect that it uses is named after another one."""
    done = without({"aiosqlite"}, OPENS.format(url=f"sqlite:///{tmp_path}/s.sqlite"))
    assert done.stdout == "opened\n", done.stderr
