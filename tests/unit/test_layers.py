"""The layers of the design, held by the imports that are there."""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

ROWS: list[list[str]] = [
    ["embedded", "pictures"],
    ["clock", "message", "system"],
    ["logging"],
    ["errors"],
    ["checks"],
    ["limits", "outcome", "settings"],
    ["amqp", "bodies", "capacity", "management", "pause", "retry"],
    ["codec", "hooks", "middleware", "topology"],
    ["drivers", "registration"],
    ["broker"],
    ["publishing"],
    ["blocking", "consuming", "dead_letters", "observability", "provisioning", "sagas", "store"],
    ["asyncapi", "lifecycle", "overview"],
    ["runtime"],
    ["console", "testing"],
    ["cli"],
    ["__init__", "__main__"],
]
"""The modules and packages of mqkit, from the lowest row to the highest: each imports from rows
below its own, and from none beside it. The first rows of the table in CONTRIBUTING.md are
the vocabulary, which has rows of its own here."""

EMBEDDED_ROWS: list[list[str]] = [
    ["errors"],
    ["wire"],
    ["engine"],
    ["session"],
    ["server"],
    ["__init__"],
]
"""The modules and packages of mqkit.embedded, from the lowest row to the highest."""

LAYERS = {name: number for number, row in enumerate(ROWS) for name in row}

MAY_IMPORT = {
    "pika": {"drivers", "testing"},
    "aio_pika": {"drivers"},
    "aiormq": {"drivers", "testing"},
    "opentelemetry": {"observability"},
    "asyncpg": {"store", "testing"},
    "jinja2": {"console"},
    "prometheus_client": {"observability"},
    "psycopg": {"store"},
    "sqlalchemy": {"store"},
    "starlette": {"console"},
    "uvicorn": {"console"},
    "watchfiles": {"cli"},
}
"""Client libraries, and the only parts of mqkit that know them."""


def modules(package: Path) -> Iterator[tuple[str, Path, ast.Module]]:
    """Each module with the name of its top part."""
    for path in sorted(package.rglob("*.py")):
        top = path.relative_to(package).parts[0].removesuffix(".py")
        yield top, path, _parsed(path, path.stat().st_mtime_ns)


@functools.cache
def _parsed(path: Path, changed: int) -> ast.Module:
    """Parse a module; once, since most tests here go through all of them."""
    return ast.parse(path.read_text())


@functools.cache
def imported(tree: ast.Module) -> Sequence[tuple[str, int]]:
    """Full names of what a module imports, wherever in it, and the line."""
    return tuple(_imported(tree))


def _imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def violations(package: Path, rows: list[list[str]], prefix: str = "mqkit") -> list[str]:
    """Imports that point up or sideways, and modules that are in no row."""
    layers = {name: number for number, row in enumerate(rows) for name in row}
    depth = len(prefix.split("."))
    found = []
    for top, path, tree in modules(package):
        where = path.relative_to(package.parent)
        if top not in layers:
            found.append(f"{where}: place {top!r} in a row")
            continue
        for name, line in imported(tree):
            parts = name.split(".")
            if not name.startswith(prefix + ".") or parts[depth] == top:
                continue
            target = layers.get(parts[depth])
            if target is not None and target >= layers[top]:
                found.append(f"{where}:{line} (row {layers[top]}) imports {name} (row {target})")
    return found


def circles(package: Path) -> list[list[str]]:
    """Modules that import each other, directly or by way of others, TYPE_CHECKING included.

    Each circle has all the modules of which each reaches each other (Tarjan's algorithm).
    """
    names = {
        ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): tree
        for _, path, tree in modules(package)
    }
    imports = {name: set(_modules_imported(tree, names)) - {name} for name, tree in names.items()}
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        path.append(name)
        for other in sorted(imports[name]):
            if other not in index:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in path:
                lowest[name] = min(lowest[name], index[other])
        if lowest[name] == index[name]:
            at = path.index(name)
            circle = sorted(path[at:])
            del path[at:]
            if len(circle) > 1:
                found.append(circle)

    for name in names:
        if name not in index:
            visit(name)
    return sorted(found)


def _modules_imported(tree: ast.Module, names: Collection[str]) -> Iterator[str]:
    """The modules that are imported; `from package import module` imports the module alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in names:
                    yield full
                elif node.module in names:
                    yield node.module


def test_imports_point_down() -> None:
    """No module of mqkit imports from a layer above its own."""
    assert violations(ROOT / "mqkit", ROWS) == []


def test_imports_of_the_embedded_broker_point_down() -> None:
    """Inside mqkit.embedded: errors < wire < engine < session < server."""
    assert violations(ROOT / "mqkit" / "embedded", EMBEDDED_ROWS, "mqkit.embedded") == []


def test_an_upward_import_is_found(tmp_path: Path) -> None:
    """The check above fails on an import that points up, and on a module without a layer."""
    package = tmp_path / "mqkit"
    package.mkdir()
    (package / "errors.py").write_text("def f():\n    from mqkit.runtime import Runtime\n")
    (package / "unplaced.py").write_text("")
    assert violations(package, ROWS) == [
        "mqkit/errors.py:2 (row 3) imports mqkit.runtime (row 13)",
        "mqkit/errors.py:2 (row 3) imports mqkit.runtime.Runtime (row 13)",
        "mqkit/unplaced.py: place 'unplaced' in a row",
    ]


def test_an_upward_import_of_the_embedded_broker_is_found(tmp_path: Path) -> None:
    """A type of session/ that engine/ imports for its annotations is one."""
    engine = tmp_path / "embedded" / "engine"
    engine.mkdir(parents=True)
    (engine / "node.py").write_text(
        "if TYPE_CHECKING:\n    from mqkit.embedded.session.connection import Connection\n"
    )
    assert violations(tmp_path / "embedded", EMBEDDED_ROWS, "mqkit.embedded") == [
        f"embedded/engine/node.py:2 (row 2) imports mqkit.embedded.session.connection{name} (row 3)"
        for name in ("", ".Connection")
    ]


def test_no_files_import_each_other() -> None:
    """No module of mqkit imports one that comes back to it, over however many others."""
    assert circles(ROOT / "mqkit") == []


def test_a_circle_of_imports_is_found(tmp_path: Path) -> None:
    """Two circles of files are found: one over three of them, one for a type alone."""
    package = tmp_path / "mqkit"
    (package / "inner").mkdir(parents=True)
    sources = {
        "__init__": "",
        "a": "from mqkit.b import x",
        "b": "from mqkit.inner import c",
        "inner/__init__": "",
        "inner/c": "import mqkit.a",
        "inner/d": "if TYPE_CHECKING:\n    from mqkit.e import E",
        "e": "def f():\n    from mqkit.inner.d import D",
        "outside": "from mqkit.a import x",
    }
    for name, source in sources.items():
        (package / f"{name}.py").write_text(source)
    assert circles(package) == [
        ["mqkit.a", "mqkit.b", "mqkit.inner.c"],
        ["mqkit.e", "mqkit.inner.d"],
    ]


def test_the_embedded_broker_is_an_island() -> None:
    """mqkit.embedded imports nothing else of mqkit, and only cli and testing import it."""
    outward, inward = set(), set()
    for top, _, tree in modules(ROOT / "mqkit"):
        for name, _ in imported(tree):
            target = name.split(".")[1] if name.startswith("mqkit.") else None
            if top == "embedded" and target not in (None, "embedded"):
                outward.add(name)
            if target == "embedded" and top != "embedded":
                inward.add(top)
    assert outward == set()
    assert inward <= {"cli", "testing"}


@pytest.mark.parametrize("library", sorted(MAY_IMPORT))
def test_client_libraries_stay_behind_their_boundary(library: str) -> None:
    """Only the parts named in the design import pika, aio_pika and SQLAlchemy."""
    importing = {
        top
        for top, _, tree in modules(ROOT / "mqkit")
        for name, _ in imported(tree)
        if name.split(".")[0] == library
    }
    assert importing <= MAY_IMPORT[library]


def test_only_settle_settles() -> None:
    """Deliveries are acked by settler.py alone, and dead letters that move by reader.py.

    Where queues are moved no handler sees the messages.
    """
    calling = {
        str(path.relative_to(ROOT))
        for top, path, tree in modules(ROOT / "mqkit")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("ack", "nack", "reject", "basic_ack", "basic_nack", "basic_reject")
        and top not in ("drivers", "embedded", "provisioning")
        and "conformance" not in path.parts
    }
    assert calling == {"mqkit/consuming/settler.py", "mqkit/dead_letters/reader.py"}


def test_an_error_goes_to_a_log_masked() -> None:
    """Only what reports errors shows them to logging, which would show all that they quote."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for top, path, tree in modules(ROOT / "mqkit")
        for node in ast.walk(tree)
        if top != "embedded"
        and isinstance(node, ast.Call)
        and (
            any(keyword.arg == "exc_info" for keyword in node.keywords)
            or ast.unparse(node.func) == "logger.exception"
        )
    ]
    assert found == []


def test_nothing_is_read_from_the_environment_at_import() -> None:
    """No module of mqkit or handlers touches os.environ outside a function."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ("mqkit", "handlers")
        for _, path, tree in modules(ROOT / package)
        for statement in tree.body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert found == []


def test_handlers_are_users_of_mqkit() -> None:
    """The payment services import mqkit's public parts, and none of its engine."""
    public = {"embedded", "errors", "sagas", "settings", "store", "testing"}
    found = {
        name
        for _, _, tree in modules(ROOT / "handlers")
        for name, _ in imported(tree)
        if name.startswith("mqkit.") and name.split(".")[1] in LAYERS
        if name.split(".")[1] not in public
    }
    assert found == set()


@pytest.mark.parametrize(
    ("part", "allowed"),
    [
        ("accounting", {"handlers.accounting", "handlers.events"}),
        ("bank_format", {"handlers.events"}),
        ("events", set()),
        ("monthly", {"handlers.accounting", "handlers.monthly"}),
    ],
)
def test_what_is_no_service_knows_no_messages(part: str, allowed: set[str]) -> None:
    """Accounting, months and the bank's format import nothing of mqkit or of a service."""
    found = {
        name
        for top, _, tree in modules(ROOT / "handlers")
        for name, _ in imported(tree)
        if top == part and name.split(".")[0] in ("mqkit", "handlers")
        if not any(f"{name}.".startswith(f"{each}.") for each in allowed)
    }
    assert found == set()


def test_what_services_keep_is_sql_and_no_mqkit() -> None:
    """No module of handlers/records imports mqkit: what is kept could be kept without it."""
    found = {
        (path.name, name)
        for _, path, tree in modules(ROOT / "handlers" / "records")
        for name, _ in imported(tree)
        if name.split(".")[0] == "mqkit"
    }
    assert found == set()


def test_the_services_know_nothing_of_the_replay() -> None:
    """Only `python -m handlers`, `handlers bank` and the replay's own modules import the replay."""
    importing = {
        top
        for top, _, tree in modules(ROOT / "handlers")
        for name, _ in imported(tree)
        if f"{name}.".startswith("handlers.replay.")
    }
    assert importing == {"__main__", "bank", "replay"}


def test_modules_stay_readable() -> None:
    """No module of mqkit or handlers is over 400 lines, nor a function over 60."""
    found = []
    for package in ("mqkit", "handlers"):
        for _, path, tree in modules(ROOT / package):
            length = len(path.read_text().splitlines())
            if length > 400:
                found.append(f"{path.name}: {length} lines")
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    body = node.body
                    first = body[1] if len(body) > 1 and ast.get_docstring(node) else body[0]
                    lines = (body[-1].end_lineno or 0) - first.lineno + 1
                    if lines > 60:
                        found.append(f"{path.name}:{node.lineno} {node.name}: {lines} lines")
    assert found == []


NO_MODULE_OF_THEIR_NAME = {
    "embedded/session/test_permissions.py": "of every method that asks what a user may do",
    "embedded/test_bad_peers.py": "of a peer's nonsense, through all parts of the broker",
    "store/running/test_groups_statements.py": "of groups whose handlers end transactions, say",
    "store/synchronous/test_statements.py": "of `def` handlers that do the same",
    "store/test_outbox_order.py": "of the outbox and the relay under writers that race",
    "store/test_pooler.py": "of the whole store behind PgBouncer",
    "test_layers.py": "of where modules stand and what they import",
    "test_package.py": "of mqkit itself: its names, and what its import costs",
    "test_seams.py": "of what mqkit takes from time, chance, threads and I/O, in all its modules",
    "test_selection.py": "of tests/selection.py",
    "test_timeouts.py": "of what tests/conftest.py does with a test whose time is over",
    "test_windows.py": "of what mqkit takes from the operating system",
}
"""Unit tests that are about several modules, or about none of mqkit's, and what they are of."""


def without_a_module(tests: Path, root: Path) -> set[str]:
    """Unit tests `X/test_Y.py` for which mqkit has neither a module nor a package `X/Y`."""
    found = set()
    for path in tests.rglob("test_*.py"):
        relative = path.relative_to(tests)
        package = root if relative.parts[0] == "handlers" else root / "mqkit"
        tested = package / relative.parent / path.stem.removeprefix("test_")
        if not tested.with_suffix(".py").is_file() and not tested.is_dir():
            found.add(relative.as_posix())
    return found


def test_unit_tests_mirror_the_packages() -> None:
    """Who looks for the tests of a module finds them at its path, under tests/unit."""
    assert without_a_module(ROOT / "tests" / "unit", ROOT) == set(NO_MODULE_OF_THEIR_NAME)


def test_a_test_without_a_module_is_found(tmp_path: Path) -> None:
    """The check above sees a test whose module has moved, and none whose module is there."""
    for name in ("mqkit/a/b.py", "mqkit/c/__init__.py", "handlers/d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tests = tmp_path / "unit"
    for name in ("a/test_b.py", "test_c.py", "handlers/test_d.py", "test_b.py", "a/test_d.py"):
        (tests / name).parent.mkdir(parents=True, exist_ok=True)
        (tests / name).touch()
    assert without_a_module(tests, tmp_path) == {"test_b.py", "a/test_d.py"}


MOST_AT_THE_TOP = 14
MOST_IN_A_FOLDER = 16
"""Modules, `__init__.py` among them: what a reader takes in at a glance."""


def crowded(folder: Path, most: int) -> dict[str, int]:
    """Count the modules of each folder that has too many; `most` is for `folder` itself."""
    found = {}
    for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        count = len(list(each.glob("*.py")))
        if count > (most if each == folder else MOST_IN_A_FOLDER):
            found[each.relative_to(folder.parent).as_posix()] = count
    return found


@pytest.mark.parametrize(
    ("folder", "most"),
    [
        ("mqkit", MOST_AT_THE_TOP),
        ("handlers", MOST_IN_A_FOLDER),
        ("tests/conformance/suite", MOST_IN_A_FOLDER),
    ],
)
def test_folders_stay_readable(folder: str, most: int) -> None:
    """No folder has over 16 modules, and the top of mqkit no more than 14."""
    assert crowded(ROOT / folder, most) == {}


def test_a_crowded_folder_is_found(tmp_path: Path) -> None:
    """The check above counts each folder for itself, and the first by a number of its own."""
    inner = tmp_path / "mqkit" / "inner"
    inner.mkdir(parents=True)
    for number in range(3):
        (tmp_path / "mqkit" / f"m{number}.py").touch()
    for number in range(MOST_IN_A_FOLDER + 1):
        (inner / f"m{number}.py").touch()
    assert crowded(tmp_path / "mqkit", 3) == {"mqkit/inner": MOST_IN_A_FOLDER + 1}
    assert crowded(tmp_path / "mqkit", 2) == {"mqkit": 3, "mqkit/inner": MOST_IN_A_FOLDER + 1}
