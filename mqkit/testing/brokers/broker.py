"""The interface of a broker to test on, and the one of a URL, which runs already."""

from __future__ import annotations

import abc
import secrets
import shlex
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import ClassVar, Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from mqkit.errors import BrokerError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import probe

Kind = Literal["url", "container", "node", "embedded"]

CTL_TIMEOUT = 120.0
"""Seconds that one rabbitmqctl command may take; each starts an Erlang VM of its own."""

CTL_WORDS = 1000
"""Characters of what a failed rabbitmqctl printed that an error shows; its usage follows them."""

_ALARM = "{resource_limit, memory, node()}"
SET_ALARM = f"rabbit_alarm:set_alarm({{{_ALARM}, []}}), rabbit_alarm:get_alarms()."
CLEAR_ALARM = f"rabbit_alarm:clear_alarm({_ALARM}), rabbit_alarm:get_alarms()."
"""The alarm that memory over its high watermark raises (RabbitMQ 3.10 to 4.3 have them so).

Both only notify; the question behind them is answered once that is done.
"""

AWAIT_STARTED = "ok = rabbit:await_startup(node(), false, 60000)."
"""As `rabbitmqctl await_startup`, for a minute (in milliseconds) at most."""

CLOSED = "closed by mqkit.testing"
"""What clients are told of why their connection is closed."""

VHOST_PREFIX = "mqkit-test-"

URL_TIMEOUT = 15.0
"""Seconds for a broker that somebody else started to answer; it should be up already."""


def new_vhost_name() -> str:
    """Make up a name for a virtual host that one test has to itself."""
    return f"{VHOST_PREFIX}{secrets.token_hex(6)}"


class BrokerStartError(BrokerError):
    """A broker was found but did not come up; the message holds the end of its log."""

    has_lines = True


class BrokerControlError(BrokerError):
    """A broker's node could not be told what a test asked for (rabbitmqctl, kill, stop, start)."""

    has_lines = True


class Broker(abc.ABC):
    """A running broker; a context manager that ends, on leaving, what was started for it.

    `url` opens a connection (it holds the password: do not log it), `version` is what the
    broker says of itself ("4.3.1"), `label` is short enough for a test's id ("4.3").
    """

    kind: ClassVar[Kind]
    product: ClassVar[str] = "RabbitMQ"
    label: str
    url: str
    version: str
    management: str | None = None
    """The URL of its management API, with the password, where it is known to have one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def server(self) -> str:
        """The product and version that it tells its clients: 'RabbitMQ 4.3.1'."""
        return f"{self.product} {self.version}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label}: RabbitMQ {self.version}>"

    @abc.abstractmethod
    def ctl(self, *args: str) -> str:
        """Run `rabbitmqctl -q ARGS...` for this broker and return what it printed.

        :raises BrokerControlError: it failed (with its own words), or there is no way to run it
        """

    def evaluate(self, expression: str) -> str:
        """Evaluate Erlang (ASCII) in the node; returns what `rabbitmqctl eval` prints of its value.

        :raises BrokerControlError: as `ctl`
        """
        return self.ctl("eval", expression)

    def close_connections(self) -> None:
        """Close the connections of all clients, as an operator does.

        :raises BrokerControlError: as `ctl`
        """
        self.ctl("close_all_connections", CLOSED)

    def block(self) -> None:
        """Let the broker block all publishers, as a memory alarm does, until `unblock`.

        :raises BrokerControlError: as `ctl`
        """
        self.evaluate(SET_ALARM)

    def unblock(self) -> None:
        """End the alarm that `block` raised.

        :raises BrokerControlError: as `ctl`
        """
        self.evaluate(CLEAR_ALARM)

    def _await_started(self) -> None:
        """Wait until the node counts itself as running, a moment after it begins to speak AMQP.

        A queue that is deleted in between leaves its process behind, and its consumers are not
        told (RabbitMQ 4.0 and 4.3).

        :raises BrokerControlError: as `ctl`
        """
        self.evaluate(AWAIT_STARTED)

    def add_vhost(self, name: str) -> str:
        """Make a virtual host for the user of `url`, with all permissions; returns its URL.

        :raises BrokerControlError: as `ctl`
        """
        self._make_vhost(name, BrokerUrl.parse(self.url).username)
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{quote(name, safe='')}"))

    def _make_vhost(self, name: str, user: str) -> None:
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "-p", name, user, ".*", ".*", ".*")

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that is in it, and close its connections.

        :raises BrokerControlError: as `ctl`; there is no such virtual host
        """
        self.ctl("delete_vhost", name)

    @abc.abstractmethod
    def kill(self) -> None:
        """End the node with SIGKILL; returns when it is gone. What was on disk stays.

        :raises BrokerControlError: this broker is not ours to kill
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """Shut the node down in order; returns when it is gone. What was on disk stays.

        :raises BrokerControlError: this broker is not ours to stop, or it did not stop
        """

    @abc.abstractmethod
    def start(self) -> None:
        """Start the node again on the same port and data; returns when it has started.

        :raises BrokerControlError: this broker is not ours to start
        :raises BrokerStartError: it did not come up
        """

    @abc.abstractmethod
    def close(self) -> None:
        """End what was started and remove its data; may be called twice."""


class UrlBroker(Broker):
    """A broker that runs already; it is used and left as it is."""

    kind = "url"

    def __init__(self, url: str, ctl: Sequence[str] = ()) -> None:
        """Connect once, to see that it is there.

        :param ctl: the words that run rabbitmqctl for it, such as `docker exec rabbit rabbitmqctl`
        :raises mqkit.errors.ConnectError: nothing that speaks AMQP 0-9-1 answers
        :raises mqkit.errors.BrokerUrlError: the URL is malformed
        """
        self.url = url
        self.label = "url"
        self._ctl = tuple(ctl)
        self.version = probe.wait_until_ready(BrokerUrl.parse(url), timeout=URL_TIMEOUT)

    def ctl(self, *args: str) -> str:
        if not self._ctl:
            raise BrokerControlError(
                f"rabbitmqctl {shlex.join(args)}: for the broker of MQKIT_TEST_URL, set "
                "MQKIT_TEST_CTL to the command that runs rabbitmqctl for it, such as "
                "'docker exec rabbit rabbitmqctl'"
            )
        return run_ctl(self._ctl, args)

    def kill(self) -> None:
        raise self._not_ours("kill")

    def stop(self) -> None:
        raise self._not_ours("stop")

    def start(self) -> None:
        raise self._not_ours("start")

    def close(self) -> None:
        """Do nothing: the broker was there before and stays."""

    @staticmethod
    def _not_ours(verb: str) -> BrokerControlError:
        return BrokerControlError(
            f"cannot {verb} the broker of MQKIT_TEST_URL: somebody else runs it; unset the "
            "variable to let the tests start one of their own"
        )


def run_ctl(
    command: Sequence[str], args: Sequence[str], environ: dict[str, str] | None = None
) -> str:
    """Run `COMMAND -q ARGS...` and return its standard output.

    :raises BrokerControlError: it failed, took longer than `CTL_TIMEOUT`, or is not there
    """
    what = f"rabbitmqctl {shlex.join(args)}"
    try:
        done = subprocess.run(
            [*command, "-q", *args],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CTL_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise BrokerControlError(f"{what}: no answer within {CTL_TIMEOUT:.0f} s") from exc
    except OSError as exc:
        raise BrokerControlError(f"{what}: cannot run {command[0]}: {exc.strerror}") from exc
    check_ctl(args, done.returncode, done.stdout, done.stderr)
    return done.stdout


def check_ctl(args: Sequence[str], code: int, stdout: str, stderr: str) -> None:
    """Turn a failed rabbitmqctl into an error.

    :raises BrokerControlError: `code` is not 0
    """
    if code != 0:
        words = (stderr.strip() or stdout.strip() or "it printed nothing")[:CTL_WORDS]
        raise BrokerControlError(f"rabbitmqctl {shlex.join(args)} exited with {code}: {words}")
