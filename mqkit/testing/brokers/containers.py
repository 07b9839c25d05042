"""A RabbitMQ in a container of its own, through testcontainers."""

from __future__ import annotations

import base64
import contextlib
import gc
import os
import re
import shlex
import shutil
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from mqkit.errors import ConnectError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import management, probe
from mqkit.testing.brokers.broker import (
    CLOSED,
    CTL_WORDS,
    Broker,
    BrokerControlError,
    BrokerStartError,
    check_ctl,
)
from mqkit.testing.brokers.watchdog import Watchdog

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.docker_client import DockerClient

REPOSITORY = "rabbitmq"

DEFAULT_IMAGES = ("rabbitmq:4.3-management", "rabbitmq:4.0-management")
"""The newest first: who wants one broker takes the first."""

ENGINE_TIMEOUT = 10
"""Whole seconds for the engine to answer a question when brokers are looked for."""

START_TIMEOUT = 90.0
"""Seconds from starting the container until its node speaks AMQP; 4 to 8 on two cores."""

STOP_TIMEOUT = 60
"""Whole seconds for an orderly shutdown."""

LOG_LINES = 25
"""Lines of the log that an error shows."""

AMQP_PORT = 5672

ERL_CALL = """\
cookie=$(cat /var/lib/rabbitmq/.erlang.cookie) || exit
printf '%s\\n' "$1" | erl_call -sname "${RABBITMQ_NODENAME:-rabbit}" -c "$cookie" -e
"""
"""A shell's words that evaluate $1 in the node."""

_PRINTED = (
    'base64:encode_to_string(unicode:characters_to_binary(io_lib:format("~tp~n", '
    "[begin {expression} end])))."
)
_ANSWER = re.compile(r'\{ok, *"([A-Za-z0-9+/=]*)"\}')
"""What a value looks like is asked of the node: erl_call itself shows no bytes."""

CLOSE_CONNECTIONS = (
    f'[catch rabbit_networking:close_connection(Each, "{CLOSED}")'
    " || Each <- rabbit_networking:connections()], ok."
)


class EngineError(Exception):
    """Containers cannot be used, and why; the finder reports it beside the other ways."""


def full_name(image: str) -> str:
    """Return the image's full name: `4.3-management` is short for `rabbitmq:4.3-management`."""
    return image if ":" in image or "/" in image else f"{REPOSITORY}:{image}"


def label_of(image: str) -> str:
    """Name a container by its image: "4.3" for `rabbitmq:4.3-management`."""
    found = re.fullmatch(rf"{REPOSITORY}:([\w.]+?)(?:-management)?(?:-alpine)?", image)
    return found[1] if found else re.sub(r"[^\w.]+", "-", image)


class Engine:
    """The Docker engine (or one that speaks its protocol) that testcontainers would use."""

    def __init__(self) -> None:
        """Ask whether it is there.

        :raises EngineError: testcontainers is not installed, or no engine answers
        """
        try:
            from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as exc:
            raise EngineError(f"{exc.name} is not installed: pip install 'mqkit[testing]'") from exc
        problem = None
        try:
            self._client: DockerClient = DockerClient(timeout=ENGINE_TIMEOUT)
            self._client.client.ping()
        except Exception as exc:  # noqa: BLE001 - docker's errors, requests' and urllib3's
            problem = f"no Docker engine answers ({last_cause(exc)})"
        if problem is not None:
            # The docker package leaves the sockets of refused attempts to the garbage collector,
            # which warns of each, at some later time, where it looks like another's mistake.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
            raise EngineError(problem)

    def has(self, image: str) -> bool:
        """Tell whether the image is on this machine."""
        from docker.errors import ImageNotFound  # noqa: PLC0415 - an extra

        try:
            self._client.client.images.get(image)
        except ImageNotFound:
            return False
        return True

    def can_pull(self, image: str) -> bool:
        """Tell whether the image's registry offers it; nothing is downloaded."""
        from docker.errors import APIError  # noqa: PLC0415 - an extra

        try:
            self._client.client.images.get_registry_data(image)
        except (APIError, OSError):
            return False
        return True

    def pull(self, image: str) -> None:
        """Download the image, which may take minutes.

        :raises BrokerStartError: the engine could not
        """
        from docker import from_env  # noqa: PLC0415 - an extra
        from docker.errors import APIError  # noqa: PLC0415 - an extra

        try:
            # A client of its own: the short timeout of the questions is not for downloads.
            from_env(timeout=600).images.pull(image)
        except (APIError, OSError) as exc:
            raise BrokerStartError(f"cannot pull {image}: {exc}") from exc

    def close(self) -> None:
        """Close the connection to the engine."""
        self._client.client.close()


class ContainerBroker(Broker):
    """A container that publishes AMQP on a port that stays the same when its node is restarted."""

    kind = "container"

    def __init__(self, image: str) -> None:
        """Start a container and wait until its node has started.

        :raises BrokerStartError: it did not come up
        """
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - an extra

        self.image = image
        self.label = label_of(image)
        self.version = "unknown"
        self._container = DockerContainer(image)
        self._watchdog: Watchdog | None = None
        host, port = publish_port(self._container, AMQP_PORT)
        self.url = f"amqp://guest:guest@{host}:{port}/"
        self._management: management.Management | None = None
        if "management" in image:
            at = publish_port(self._container, management.PORT)
            self._management = management.Management(*at, "guest", "guest")
            self.management = "http://guest:guest@{}:{}".format(*at)
        try:
            self._begin()
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def ctl(self, *args: str) -> str:
        if not self._is_running():
            raise BrokerControlError(f"rabbitmqctl {shlex.join(args)}: the node is not running")
        try:
            code, output = self._wrapped.exec_run(["rabbitmqctl", "-q", *args], demux=True)
        except Exception as exc:
            # An engine that went away, a node killed meanwhile: the docker package's or requests'.
            raise BrokerControlError(f"rabbitmqctl {shlex.join(args)}: {exc}") from exc
        stdout, stderr = ((part or b"").decode(errors="replace") for part in output)
        check_ctl(args, code, stdout, stderr)
        return stdout

    def evaluate(self, expression: str) -> str:
        """Evaluate Erlang as the base does, by Erlang's own small client where the image has it.

        rabbitmqctl starts an Erlang machine of its own, which takes a second of processor time.
        """
        asked = _PRINTED.format(expression=expression.strip().removesuffix("."))
        if not self._is_running():
            raise BrokerControlError(f"erl_call {expression}: the node is not running")
        try:
            code, output = self._wrapped.exec_run(["sh", "-c", ERL_CALL, "sh", asked])
        except Exception as exc:
            raise BrokerControlError(f"erl_call {expression}: {exc}") from exc
        answer = output.decode(errors="replace")
        if code or not answer:  # it is not there, does not reach the node, or got no answer
            return super().evaluate(expression)
        if (printed := _ANSWER.match(answer)) is None:
            raise BrokerControlError(f"erl_call {expression}: {answer[:CTL_WORDS]}")
        return base64.b64decode(printed[1]).decode()

    def _make_vhost(self, name: str, user: str) -> None:
        if self._management is not None and self._management.add_vhost(name, user):
            return
        vhost, by = _erlang(name), _erlang("mqkit.testing")
        allowed = ", ".join([_erlang(".*")] * 3)
        self.evaluate(
            f"ok = rabbit_vhost:add({vhost}, {by}), ok = rabbit_auth_backend_internal:"
            f"set_permissions({_erlang(user)}, {vhost}, {allowed}, {by})."
        )

    def delete_vhost(self, name: str) -> None:
        if self._management is not None and self._management.delete_vhost(name):
            return
        self.evaluate(f"ok = rabbit_vhost:delete({_erlang(name)}, {_erlang('mqkit.testing')}).")

    def close_connections(self) -> None:
        self.evaluate(CLOSE_CONNECTIONS)

    @property
    def own_address(self) -> str | None:
        """The container's address on its own network, until it is started again.

        Where this machine reaches it, it saves the process that copies what goes by the port.
        """
        wrapped = self._wrapped
        wrapped.reload()
        networks = wrapped.attrs.get("NetworkSettings", {}).get("Networks", {}).values()
        return next((each["IPAddress"] for each in networks if each.get("IPAddress")), None)

    def kill(self) -> None:
        self._control("kill", lambda container: container.kill("SIGKILL"))

    def stop(self) -> None:
        # Not `docker stop`: an image whose first process is a shell does not pass SIGTERM on.
        # The command itself is ended together with the container, so its result says nothing.
        self._control("stop", lambda container: container.exec_run(["rabbitmqctl", "shutdown"]))

    def start(self) -> None:
        if self._is_running():
            return
        self._control_start()
        self._wait_until_ready()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            # What is gone already is no error, and the engine may be gone too.
            self._container.stop()
        if self._watchdog is not None:
            self._watchdog.dismiss()

    @property
    def _wrapped(self) -> Any:
        return cast("Any", self._container.get_wrapped_container())

    def _begin(self) -> None:
        try:
            self._watchdog = begin(self._container)
        except EngineError as exc:
            raise BrokerStartError(f"cannot start a container of {self.image}: {exc}") from exc

    def _is_running(self) -> bool:
        wrapped = self._wrapped
        wrapped.reload()
        return bool(wrapped.status == "running")

    def _control(self, verb: str, action: Callable[[Any], object]) -> None:
        wrapped = self._wrapped
        if not self._is_running():
            return
        try:
            action(wrapped)
            wrapped.wait(timeout=STOP_TIMEOUT)
        except Exception as exc:
            raise BrokerControlError(f"cannot {verb} {self!r}: {last_cause(exc)}") from exc

    def _control_start(self) -> None:
        try:
            self._wrapped.start()
        except Exception as exc:
            raise BrokerControlError(f"cannot start {self!r}: {last_cause(exc)}") from exc

    def _wait_until_ready(self) -> None:
        try:
            self.version = probe.wait_until_ready(
                BrokerUrl.parse(self.url), timeout=START_TIMEOUT, ended=self._ended
            )
            self._await_started()
        except (ConnectError, BrokerControlError) as exc:
            raise BrokerStartError(
                f"RabbitMQ in a container of {self.image} did not come up: {exc}\n"
                f"--- the end of its log\n{self._log_tail()}"
            ) from exc

    def _ended(self) -> str | None:
        if self._is_running():
            return None
        return f"the container is {self._wrapped.status}"

    def _log_tail(self) -> str:
        output: bytes = self._wrapped.logs(tail=LOG_LINES)
        return output.decode(errors="replace").rstrip()


def available(engine: Engine, images: Sequence[str]) -> list[str]:
    """Return which of the images are on this machine, or could be pulled."""
    return [image for image in images if engine.has(image) or engine.can_pull(image)]


def publish_port(container: DockerContainer, port: int) -> tuple[str, int]:
    """Choose where a port of the container is published; returns the host and the port there.

    It is one that this machine alone can reach, if it can, and stays the same over restarts.
    """
    host = container.get_docker_client().host()
    (published,) = probe.free_ports(1)
    if host in {"localhost", "127.0.0.1"}:
        # Its account is known to all, or travels in clear: not for the network. The type says
        # int, the docker package takes an address too.
        container.ports[str(port)] = cast("int", ("127.0.0.1", published))
        return "127.0.0.1", published
    container.with_bind_ports(port, published)
    return host, published


def begin(container: DockerContainer) -> Watchdog | None:
    """Start a container that ends with this process, if there is a `docker` command to end it.

    :raises EngineError: the engine could not start it
    """
    try:
        container.start()
    except Exception as exc:
        hint = ""
        if not os.environ.get("TESTCONTAINERS_RYUK_DISABLED"):
            hint = (
                "; if the image that cannot be had is testcontainers/ryuk, "
                "set TESTCONTAINERS_RYUK_DISABLED=true"
            )
        raise EngineError(f"{last_cause(exc)}{hint}") from exc
    docker = shutil.which("docker")
    if docker is None:
        return None
    return Watchdog(f"{shlex.quote(docker)} rm --force --volumes {container.get_container_id()}")


def last_cause(exc: BaseException) -> str:
    """Return the innermost words of a wrapped error, which say what happened."""
    explanation = getattr(exc, "explanation", None)
    if explanation:
        return str(explanation)
    while exc.__cause__ is not None or exc.__context__ is not None:
        exc = exc.__cause__ or exc.__context__ or exc
    return str(exc) or type(exc).__name__


def _erlang(text: str) -> str:
    """Write a text as an Erlang binary, whatever characters are in it."""
    return f"<<{','.join(map(str, text.encode()))}>>"
