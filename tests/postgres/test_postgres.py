from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mqkit.errors import ConfigurationError
from mqkit.testing.brokers import containers, processes
from tests.postgres import (
    PostgresControlError,
    PostgresNotFoundError,
    PostgresSpec,
    PostgresStartError,
    find_postgres,
    node,
)
from tests.postgres.__main__ import main
from tests.postgres.server import UrlPostgres


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test makes is found, not what this machine has."""

    def refuse() -> None:
        raise containers.EngineError("no Docker engine answers (connection refused)")

    monkeypatch.setattr(node, "KNOWN_PLACES", ())
    monkeypatch.setattr(containers, "Engine", refuse)


def install(directory: Path, script: str = "#!/bin/sh\n") -> Path:
    directory.mkdir(parents=True)
    for name in node.BINARIES:
        (directory / name).write_text(script)
        (directory / name).chmod(0o755)
    return directory


def test_a_named_server_comes_first(tmp_path: Path) -> None:
    """MQKIT_TEST_POSTGRES is taken, though programs are on the PATH."""
    env = {
        "MQKIT_TEST_POSTGRES": "postgresql://me:secret@host/db",
        "PATH": str(install(tmp_path / "bin")),
    }
    spec = find_postgres(env)
    assert spec == PostgresSpec("url", "postgresql://me:secret@host/db")
    assert "secret" not in f"{spec} {spec!r}"


@pytest.mark.parametrize("url", ["mysql://me:secret@host/db", "postgresql:///db", "me:secret@host"])
def test_a_malformed_url_is_refused_without_its_password(url: str) -> None:
    """A wrong MQKIT_TEST_POSTGRES is an error, rather than the next way taken."""
    with pytest.raises(ConfigurationError) as caught:
        find_postgres({"MQKIT_TEST_POSTGRES": url})
    assert "secret" not in str(caught.value)


def test_programs_on_the_path_come_before_known_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PATH is what somebody chose; of the known places, the newest version is taken."""
    for version in ("9.6", "15", "17"):
        install(tmp_path / version / "bin")
    monkeypatch.setattr(node, "KNOWN_PLACES", (f"{tmp_path}/*/bin",))
    assert find_postgres({"PATH": "/nowhere"}).target == str(tmp_path / "17" / "bin")
    chosen = tmp_path / "15" / "bin"
    assert find_postgres({"PATH": f"/nowhere:{chosen}"}).target == str(chosen)


def test_client_programs_alone_are_no_server(tmp_path: Path) -> None:
    """A PATH that has psql and pg_ctl, and not the server itself, is passed over."""
    binaries = install(tmp_path / "bin")
    (binaries / "postgres").unlink()
    assert node.find_binaries(str(binaries), ()) is None


def test_none_found_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each way is named, with what it lacks; the command ends with 1, and 2 for a wrong URL."""
    with pytest.raises(PostgresNotFoundError) as caught:
        find_postgres({"PATH": ""})
    for words in ("MQKIT_TEST_POSTGRES=", "deploy/install-postgres.sh", "connection refused"):
        assert words in str(caught.value)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("MQKIT_TEST_POSTGRES", raising=False)
    assert main() == 1
    monkeypatch.setenv("MQKIT_TEST_POSTGRES", "http://host")
    assert main() == 2
    assert "deploy/install-postgres.sh" in capsys.readouterr().err


def test_a_failed_start_says_what_the_program_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the exit code and the end of the log, and nothing goes on running."""
    monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix: str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    binaries = install(tmp_path / "bin", "#!/bin/sh\necho the disk is full; exit 7\n")
    monkeypatch.setattr(node, "_unprivileged_user", lambda: None)
    with pytest.raises(PostgresStartError, match=r"initdb exited with 7(.|\n)*the disk is full"):
        node.NodePostgres(binaries, {})


@pytest.mark.parametrize(("room", "is_in_memory"), [(0, True), (2**62, False)])
def test_a_server_without_fsync_keeps_its_data_in_memory_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, is_in_memory: bool
) -> None:
    """With fsync, or without the room, they are on the disk."""
    monkeypatch.setattr(node, "MEMORY", str(tmp_path))
    monkeypatch.setattr(node, "ROOM", room)
    home = Path(node._make_home(in_memory=True))
    assert (home.parent == tmp_path) is is_in_memory
    home.rmdir()
    home = Path(node._make_home(in_memory=False))
    assert home.parent != tmp_path
    home.rmdir()


@pytest.mark.parametrize("verb", ["kill", "stop", "start", "pause", "resume"])
def test_a_server_of_a_url_is_not_ours_to_hurt(verb: str) -> None:
    """Each is refused, with what to do."""
    server = UrlPostgres.__new__(UrlPostgres)
    with pytest.raises(PostgresControlError, match=f"cannot {verb} .* unset the variable"):
        getattr(server, verb)()


FAMILY = """
import os, sys, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        break
os.write(1, b"ready\\n")
time.sleep(60)
"""


@pytest.mark.parametrize("way", ["proc", "ps"])
def test_a_tree_is_frozen_and_killed_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    """Children in sessions of their own stop with the root, and are gone when kill returns."""
    if way == "ps":
        monkeypatch.setattr(processes, "PROC", tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(3)] == ["ready\n"] * 3
        frozen = processes.freeze(process.pid)
        assert frozen[0] == process.pid
        assert len(frozen) == 3
        assert {processes.snapshot()[pid].state for pid in frozen} == {"T"}
        processes.kill(frozen)
        assert not any(processes.is_alive(pid) for pid in frozen)
        processes.kill(frozen)
