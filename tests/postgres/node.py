"""A private PostgreSQL server, started from the binaries that are installed on the machine.

Nothing of it is shared with a server that the machine runs already: port, socket, data, log and
password are its own, and go with it.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mqkit.testing.brokers import probe, processes
from mqkit.testing.brokers.watchdog import Watchdog
from tests.postgres.server import (
    DATABASE,
    SCHEME,
    USER,
    PostgresControlError,
    PostgresServer,
    PostgresStartError,
    wait_until_ready,
)

KNOWN_PLACES = (
    "/usr/lib/postgresql/*/bin",  # Debian
    "/usr/pgsql-*/bin",  # the PostgreSQL project's packages for Fedora and its kin
    "/opt/homebrew/opt/postgresql*/bin",  # Homebrew on Apple silicon
    "/usr/local/opt/postgresql*/bin",  # Homebrew on Intel
)

BINARIES = ("initdb", "postgres")

UNPRIVILEGED = ("postgres", "nobody")
"""Who runs the server where the tests are run by root, which PostgreSQL's programs refuse."""

START_TIMEOUT = 60.0
"""Seconds from starting the server until it answers; 0.2 on an idle machine, and recovery."""

STOP_TIMEOUT = 60
"""Seconds for an orderly shutdown, which writes a checkpoint."""

LOG_LINES = 25
"""Lines of the log that an error shows."""

SHARED_MEMORY_LINE = 6
"""Of postmaster.pid, from 0: the key and the id of the segment (PostgreSQL's pidfile.h)."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # Its shared memory is then in the data directory, and goes with it whatever ends the server.
    "dynamic_shared_memory_type": "mmap",
    "max_connections": "200",
    # A statement in the log could hold what a test looks for in logs.
    "log_min_error_statement": "panic",
}
"""https://www.postgresql.org/docs/current/runtime-config.html"""


MEMORY = "/dev/shm"
"""Where Linux has files in memory."""

ROOM = 4 * 2**30
"""Bytes that must be free there, for several servers and their logs of writes."""


def find_binaries(path: str, places: Iterable[str]) -> Path | None:
    """Find the directory that has PostgreSQL's server programs; None where there is none.

    :param path: a PATH, searched before `places`
    :param places: patterns of absolute paths, such as `KNOWN_PLACES`; the newest version is taken
    """
    on_path = [Path(entry) for entry in path.split(os.pathsep) if entry]
    elsewhere = [found for place in places for found in Path("/").glob(place.lstrip("/"))]
    for directory in (*on_path, *sorted(elsewhere, key=_version_in, reverse=True)):
        if all(os.access(directory / name, os.X_OK) for name in BINARIES):
            return directory
    return None


def _make_home(*, in_memory: bool) -> str:
    """Make the directory of a server: in memory, if it may be and has the room, or on the disk.

    A database is some 300 files, and a test's own is made and deleted within seconds. On ext4 the
    kernel looks for free inodes among those that were deleted right before, which took half of all
    processor time of a test run.
    """
    prefix = "mqkit-postgres-"
    if in_memory and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
        return tempfile.mkdtemp(prefix=prefix, dir=MEMORY)
    return tempfile.mkdtemp(prefix=prefix)


class NodePostgres(PostgresServer):
    """A server of one's own, which listens on 127.0.0.1 and in its directory only."""

    kind = "node"

    def __init__(self, binaries: Path, environ: Mapping[str, str], *, fsync: bool = True) -> None:
        """Make a data directory, start the server on it and wait until it answers.

        :param binaries: what `find_binaries` found
        :param environ: the environment that it starts from; libpq's variables are not passed on
        :param fsync: False is faster: it keeps its data in memory where there is room, and a crash
            of the machine, not of the server, loses it
        :raises PostgresStartError: it did not come up; its log is kept, and the message says where
        """
        self.label = "node"
        self.version = "unknown"
        (self.port,) = probe.free_ports(1)
        self._password = secrets.token_hex(16)
        self.url = f"{SCHEME}://{USER}:{self._password}@127.0.0.1:{self.port}/{DATABASE}"
        self._binaries = binaries
        self._settings = SETTINGS | {"port": str(self.port), "fsync": "on" if fsync else "off"}
        self.copies_files = not fsync
        if not fsync:
            self._settings["max_wal_size"] = "192MB"  # of memory
        self._user = _unprivileged_user()
        self._process: subprocess.Popen[bytes] | None = None
        self.home = Path(_make_home(in_memory=not fsync))
        self._environ = _environment(environ, self.home)
        self._watchdog = Watchdog(_clean_up_command(self.home))
        try:
            self._initialise()
            self.start()
        except PostgresStartError:
            self._end_processes()
            raise
        except BaseException:
            self.close()
            raise

    @property
    def log(self) -> Path:
        """What initdb and the server print."""
        return self.home / "server.log"

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "data"

    def start(self) -> None:
        if self._is_running():
            return
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._binaries / "postgres"),
                    "-D",
                    str(self.data),
                    *options,
                    f"--unix_socket_directories={self.home}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C must reach this process only, which then cleans up.
                start_new_session=True,
                **self._as_server(),
            )
        process = self._process
        self._pid_file.write_text(str(process.pid))
        try:
            self.version = wait_until_ready(
                self.url, timeout=START_TIMEOUT, ended=lambda: _ended(process)
            )
        except PostgresStartError as exc:
            raise self._start_error(f"the server of {self._binaries} did not come up: {exc}") from (
                exc
            )

    def kill(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        # Frozen first: a server whose children die under it would start others.
        processes.kill(processes.freeze(process.pid))
        self._reap(process)
        self._remove_lock()

    def stop(self) -> None:
        # "Fast": https://www.postgresql.org/docs/current/server-shutdown.html
        self._end(signal.SIGINT)

    def pause(self) -> None:
        if self._process is None or not self._is_running():
            raise PostgresControlError("cannot pause the server: it is not running")
        frozen = processes.freeze(self._process.pid)
        self._paused_file.write_text(" ".join(map(str, frozen)))

    def resume(self) -> None:
        if self._paused_file.exists():
            pids = [int(word) for word in self._paused_file.read_text().split()]
            # The root last: it must find its children able to act.
            processes.send(reversed(pids), signal.SIGCONT)
            self._paused_file.unlink()

    def close(self) -> None:
        self._end_processes()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def _pid_file(self) -> Path:
        return self.home / "server.pid"

    @property
    def _paused_file(self) -> Path:
        return self.home / "paused.pids"

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _as_server(self) -> dict[str, Any]:
        """Return how to run its programs: in its directory, as a user that is not root."""
        if self._user is None:
            return {"cwd": self.home, "env": self._environ}
        return {
            "cwd": self.home,
            "env": self._environ,
            "user": self._user.pw_uid,
            "group": self._user.pw_gid,
            "extra_groups": [],
        }

    def _initialise(self) -> None:
        password = self.home / "password"
        password.touch(mode=0o600)
        password.write_text(self._password)
        if self._user is not None:
            for path in (self.home, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        command = [
            str(self._binaries / "initdb"),
            f"--pgdata={self.data}",
            f"--username={USER}",
            f"--pwfile={password}",
            # Others on this machine reach the port. A password in clear is fine on loopback, and
            # spares each connection the 4096 rounds of SCRAM in the client.
            "--auth-host=password",
            # The directory that the socket is in is the server's own.
            "--auth-local=trust",
            "--encoding=UTF8",
            "--locale=C",
            # Nothing of value is in it yet.
            "--no-sync",
        ]
        with self.log.open("ab") as log:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
                **self._as_server(),
            )
        password.unlink()
        if done.returncode != 0:
            raise self._start_error(f"{command[0]} exited with {done.returncode}")

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        self.resume()
        if process.poll() is None:
            process.send_signal(number)
        self._reap(process)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired as exc:
            raise PostgresControlError(
                f"the server did not end within {STOP_TIMEOUT} s; its log is {self.log}"
            ) from exc
        self._process = None
        for file in (self._pid_file, self._paused_file):
            file.unlink(missing_ok=True)

    def _remove_lock(self) -> None:
        """Remove what a killed server leaves: its lock file and a few bytes of shared memory.

        The next one would do the same, unless it finds the process id taken by another.
        """
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        segment = (lock.read_text().splitlines() + [""] * SHARED_MEMORY_LINE)[SHARED_MEMORY_LINE]
        remove = shutil.which("ipcrm")
        if segment and remove:
            subprocess.run([remove, "-m", segment.split()[1]], capture_output=True, check=False)
        lock.unlink()

    def _end_processes(self) -> None:
        # "Immediate": it writes no checkpoint, and ends its children.
        self._end(signal.SIGQUIT)
        self._watchdog.dismiss()

    def _start_error(self, problem: str) -> PostgresStartError:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        tail = "\n".join(lines[-LOG_LINES:]) or "(it logged nothing)"
        return PostgresStartError(f"{problem}\n--- {self.log}\n{tail}")


def _ended(process: subprocess.Popen[bytes]) -> str | None:
    code = process.poll()
    return None if code is None else f"the process ended with {code}"


def _version_in(directory: Path) -> tuple[int, ...]:
    found = re.search(r"[/@-](\d+(?:\.\d+)?)/bin$", str(directory))
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def _unprivileged_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresStartError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(UNPRIVILEGED)}: "
        "make one, or run the tests as another user"
    )


def _environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Build the environment of the server's programs, without libpq's variables.

    https://www.postgresql.org/docs/current/libpq-envars.html
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("PG", "LC_", "MQKIT_", "NOTIFY_SOCKET"))
    }
    return inherited | {"HOME": str(home), "LC_ALL": "C"}


def _clean_up_command(home: Path) -> str:
    """Return shell words that end the server whose ids are in files of `home`, and remove it."""
    return "\n".join(
        [
            f"cd {shlex.quote(str(home))} || exit 0",
            "[ -f paused.pids ] && kill -s CONT $(cat paused.pids)",
            "if [ -f server.pid ]; then",
            "  pid=$(cat server.pid); turns=0; kill -s QUIT $pid",
            "  while kill -0 $pid && [ $turns -lt 100 ]; do sleep 0.1; turns=$((turns + 1)); done",
            "  kill -s KILL $pid",
            "fi",
            f"cd /; rm -rf {shlex.quote(str(home))}",
        ]
    )
