"""A private RabbitMQ node, started from the `rabbitmq-server` that is installed on the machine.

Nothing of it is shared with a node that the machine runs already: ports, data, logs, Erlang
cookie and epmd are its own, and go with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mqkit.errors import ConnectError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import probe
from mqkit.testing.brokers.broker import Broker, BrokerControlError, BrokerStartError, run_ctl
from mqkit.testing.brokers.watchdog import Watchdog

KNOWN_PLACES = (
    Path("/usr/lib/rabbitmq/bin"),  # Debian, Fedora
    Path("/opt/homebrew/opt/rabbitmq/sbin"),  # Homebrew on Apple silicon
    Path("/usr/local/opt/rabbitmq/sbin"),  # Homebrew on Intel
)

START_TIMEOUT = 90.0
"""Seconds from starting the node until it speaks AMQP; 3 to 6 on an idle machine."""

STOP_TIMEOUT = 60.0
"""Seconds for an orderly shutdown."""

EPMD_TIMEOUT = 10.0
"""Seconds for epmd to listen; it takes milliseconds."""

LOG_LINES = 25
"""Lines of the log that an error shows."""


def find_server(path: str, places: Iterable[Path]) -> Path | None:
    """Find RabbitMQ's own `rabbitmq-server` script; None where there is none.

    Distributions put a wrapper on the PATH that runs only as root or as the rabbitmq user, and
    logs and stores in the system's directories. The script behind it has neither rule; it is
    told apart by its own name and by `rabbitmq-env` beside it, which it sources.

    :param path: a PATH, searched before `places`, such as `KNOWN_PLACES`
    """
    on_path = [Path(entry) for entry in path.split(os.pathsep) if entry]
    for directory in (*on_path, *places):
        script = directory / "rabbitmq-server"
        for candidate in (script, script.resolve()) if os.access(script, os.X_OK) else ():
            is_itself = candidate.name == script.name
            if is_itself and (candidate.parent / "rabbitmq-env").is_file():
                return candidate
    return None


def label_of(server: Path) -> str:
    """Name a node by the version in its installation's path: "node-3.10", or "node"."""
    found = re.search(r"rabbitmq(?:_server-|/)(\d+\.\d+)", str(server.resolve()))
    return f"node-{found[1]}" if found else "node"


class NodeBroker(Broker):
    """A node of one's own, which listens on 127.0.0.1 only."""

    kind = "node"

    def __init__(self, server: Path, environ: Mapping[str, str]) -> None:
        """Start the node and wait until it has started.

        :param server: what `find_server` found
        :param environ: the environment that it starts from; RabbitMQ's variables are not passed on
        :raises BrokerStartError: it did not come up; its log is kept, and the message says where
        """
        self.label = label_of(server)
        self.port, distribution_port, epmd_port, api_port = probe.free_ports(4)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self.management = f"http://guest:guest@127.0.0.1:{api_port}"
        self.version = "unknown"
        self.home = Path(tempfile.mkdtemp(prefix="mqkit-node-"))
        self._server = server
        self._environ = _environment(environ, self.home) | {
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "ERL_EPMD_PORT": str(epmd_port),
        }
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._watchdog = Watchdog(_clean_up_command(self.home))
        try:
            self._write_files(api_port)
            self._start_epmd()
            self.start()
        except BrokerStartError:
            self._end_processes()
            raise
        except BaseException:
            self.close()
            raise

    @property
    def log(self) -> Path:
        """What the node and epmd print; the node's other logs are in `log/` beside it."""
        return self.home / "startup.log"

    def ctl(self, *args: str) -> str:
        ctl = self._server.parent / "rabbitmqctl"
        return run_ctl([str(ctl), "-n", self._environ["RABBITMQ_NODENAME"]], args, self._environ)

    def start(self) -> None:
        if self._node is not None and self._node.poll() is None:
            return
        self._node = self._spawn("node", [str(self._server)])
        try:
            self.version = probe.wait_until_ready(
                BrokerUrl.parse(self.url), timeout=START_TIMEOUT, ended=self._ended(self._node)
            )
            self._await_started()
        except (ConnectError, BrokerControlError) as exc:
            raise self._start_error(f"the node of {self._server} did not come up: {exc}") from exc

    def kill(self) -> None:
        self._end("node", signal.SIGKILL)

    def stop(self) -> None:
        self._end("node", signal.SIGTERM)

    def close(self) -> None:
        self._end_processes()
        shutil.rmtree(self.home, ignore_errors=True)

    def _end_processes(self) -> None:
        self._end("node", signal.SIGKILL)
        self._end("epmd", signal.SIGKILL)
        self._watchdog.dismiss()

    def _write_files(self, api_port: int) -> None:
        cookie = self.home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        # Erlang refuses a cookie that others may read.
        cookie.chmod(0o400)
        (self.home / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (self.home / "rabbitmq-env.conf").write_text("")
        # The default keeps 50 MB free, as this does, but says so with a warning.
        (self.home / "rabbitmq.conf").write_text(
            "disk_free_limit.absolute = 50MB\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {api_port}\n"
        )

    def _start_epmd(self) -> None:
        """Start epmd in the foreground, before a node would start one that outlives it."""
        epmd = _find_epmd(self._environ["PATH"])
        if epmd is None:
            raise self._start_error("no epmd beside the Erlang that is on the PATH")
        port = int(self._environ["ERL_EPMD_PORT"])
        self._epmd = self._spawn("epmd", [str(epmd), "-port", str(port), "-address", "127.0.0.1"])
        ended = self._ended(self._epmd)
        deadline = time.monotonic() + EPMD_TIMEOUT
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            if ended() or time.monotonic() > deadline:
                raise self._start_error(ended() or f"epmd did not listen on port {port}")
            time.sleep(0.02)

    def _spawn(self, role: str, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.home,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C must reach this process only, which then cleans up,
                # and the whole node must end by one signal.
                start_new_session=True,
            )
        self._pid_file(role).write_text(str(process.pid))
        return process

    def _end(self, role: str, signum: signal.Signals) -> None:
        process = self._node if role == "node" else self._epmd
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired as exc:
            raise BrokerControlError(
                f"the {role} did not end within {STOP_TIMEOUT:.0f} s; its log is {self.log}"
            ) from exc
        self._pid_file(role).unlink(missing_ok=True)
        if role == "node":
            self._node = None
        else:
            self._epmd = None

    def _pid_file(self, role: str) -> Path:
        return self.home / f"{role}.pid"

    def _ended(self, process: subprocess.Popen[bytes]) -> Callable[[], str | None]:
        def reason() -> str | None:
            code = process.poll()
            return None if code is None else f"the process ended with {code}"

        return reason

    def _start_error(self, problem: str) -> BrokerStartError:
        logs = [self.log, *sorted((self.home / "log").glob("*.log"))]
        written = [log for log in logs if log.is_file() and log.stat().st_size]
        if not written:
            return BrokerStartError(f"{problem}; it logged nothing in {self.home}")
        # The node's own log is the last of them; the first has what went wrong before it.
        tails = [
            "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:]) for log in written
        ]
        parts = [f"--- {log}\n{tail}" for log, tail in zip(written, tails, strict=True)]
        return BrokerStartError("\n".join([problem, *parts]))


def _environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Build the environment of the node and rabbitmqctl, but for the ports.

    https://www.rabbitmq.com/docs/configure#supported-environment-variables
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("RABBITMQ_", "ERL_", "NOTIFY_SOCKET"))
    }
    # Homebrew's own wrapper adds these, for Erlang.
    path = os.pathsep.join(
        [environ.get("PATH", os.defpath), "/opt/homebrew/bin", "/usr/local/bin", "/usr/bin"]
    )
    return inherited | {
        "PATH": path,
        "HOME": str(home),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_CRASH_DUMP": str(home / "erl_crash.dump"),
        "RABBITMQ_NODENAME": f"mqkit-{secrets.token_hex(4)}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "config"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        # The script then becomes the node, as under systemd, rather than wait for it: signals
        # reach the node itself, and its end is seen here.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


def _find_epmd(path: str) -> Path | None:
    erl = shutil.which("erl", path=path)
    beside = Path(erl).resolve().parent / "epmd" if erl else None
    if beside is not None and beside.is_file():
        return beside
    found = shutil.which("epmd", path=path)
    return Path(found) if found else None


def _clean_up_command(home: Path) -> str:
    """Return shell words that end the groups in the pid files of `home`, and remove it."""
    folder = shlex.quote(str(home))
    # `kill -9 -- -GROUP` is not understood by dash, which is Debian's sh.
    return (
        f'for file in {folder}/*.pid; do kill -s KILL -- "-$(cat "$file")"; done\n'
        f"sleep 0.2; rm -rf {folder}"
    )
