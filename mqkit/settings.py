"""The broker's URL, parsed and checked before anything is opened, and the environment.

URLs are parsed here and not by a client library: those ignore parameters that they do not
know and turn a missing password into a default one, and a mistyped setting must not go unseen.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from pydantic import SecretStr

from mqkit.checks import checked
from mqkit.errors import BrokerUrlError

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}

DEFAULT_HEARTBEAT = 4
"""Seconds, after three of which at most either side has noticed that the other is gone.

RabbitMQ looks once in each heartbeat, and closes when it found nothing new twice: two to three of
them after the last octet. mqkit gives up a silent broker after two and a half. So it is noticed
within 12 s in whichever direction the network swallows what is sent, and what is alive may say
nothing for 8 s. RabbitMQ's guide (https://www.rabbitmq.com/docs/heartbeats) advises 5 to 20 and
warns of false alarms below, where two missed heartbeats, which are one interval, count as the end.
With the usual 60 it takes minutes.
"""

DEFAULT_CONNECT_TIMEOUT = 10.0
"""Seconds from the start of a connection attempt until the broker must have opened it."""

MAX_PORT = 65535
MAX_SECONDS = 3600
MAX_HEARTBEAT = 65535
"""Seconds; `connection.tune` carries a short (AMQP 0-9-1, section 1.4.2.5)."""

_RENAMED = {
    "connection_timeout": "connect_timeout (in seconds)",
    "timeout": "connect_timeout (in seconds)",
    "cacertfile": "cafile",
    "ca_certs": "cafile",
    "certificate": "certfile",
    "server_name_indication": "server_name",
    "no_verify_ssl": "verify=false",
    "connection_attempts": "nothing: mqkit keeps trying by itself",
    "retry_delay": "nothing: mqkit waits a jittered time by itself",
}


@dataclass(frozen=True, slots=True)
class Host:
    """One broker address."""

    name: str
    port: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise BrokerUrlError(f"Host(name=...) is a name, not {checked.shown(self.name)}")
        checked.count(self.port, "Host(port=...)", least=0, most=MAX_PORT, error=BrokerUrlError)

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """How to check the broker's certificate, and which one to show."""

    verify: bool = True
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A parsed broker URL: `amqp[s]://USER:PASSWORD@HOST[:PORT][,HOST...]/VHOST[?NAME=VALUE&...]`.

    Without credentials it is guest/guest, RabbitMQ's own default account; without a path the
    virtual host is '/'. `str()` and `repr()` never show the password.

    Parameters: `heartbeat` (whole seconds, 1 to 65535), `connect_timeout` (seconds), and with
    amqps `cafile`, `certfile`, `keyfile`, `server_name`, `verify` (true or false).

    :raises BrokerUrlError: made by hand, a field cannot be what it was given
    """

    hosts: tuple[Host, ...]
    username: str = "guest"
    password: SecretStr = field(default=SecretStr("guest"))
    vhost: str = "/"
    tls: Tls | None = None
    heartbeat: int = DEFAULT_HEARTBEAT
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT

    def __post_init__(self) -> None:
        is_tuple = isinstance(self.hosts, tuple) and bool(self.hosts)
        if not is_tuple or not all(isinstance(host, Host) for host in self.hosts):
            raise BrokerUrlError("BrokerUrl(hosts=...) takes a tuple of Host")
        if not isinstance(self.password, SecretStr):
            # Not shown; nor would repr() hide it.
            raise BrokerUrlError("BrokerUrl(password=...) takes a pydantic.SecretStr")
        if not isinstance(self.username, str) or not isinstance(self.vhost, str):
            raise BrokerUrlError("BrokerUrl(username=..., vhost=...) are text")
        if self.tls is not None and not isinstance(self.tls, Tls):
            raise BrokerUrlError(
                f"BrokerUrl(tls=...) is Tls or None, not {checked.shown(self.tls)}"
            )
        what, error = "BrokerUrl({}=...)", BrokerUrlError
        checked.count(self.heartbeat, what.format("heartbeat"), most=MAX_HEARTBEAT, error=error)
        timeout = checked.seconds(
            self.connect_timeout,
            what.format("connect_timeout"),
            over=0,
            most=MAX_SECONDS,
            error=error,
        )
        object.__setattr__(self, "connect_timeout", timeout)

    def __str__(self) -> str:
        scheme = "amqps" if self.tls else "amqp"
        hosts = ",".join(str(host) for host in self.hosts)
        vhost = "" if self.vhost == "/" else quote(self.vhost, safe="")
        return f"{scheme}://{quote(self.username, safe='')}@{hosts}/{vhost}"

    @classmethod
    def parse(cls, url: str) -> BrokerUrl:
        """Read a URL.

        :raises BrokerUrlError: it is malformed, or has an unknown parameter; the message names
            the part that is wrong and never the password
        """
        if not isinstance(url, str):
            # Not shown: it may hold the password in another form.
            raise BrokerUrlError(f"a broker URL is text, not a {type(url).__name__}")
        parts = _split(url)
        userinfo, _, authority = parts.netloc.rpartition("@")
        username, password = _credentials(userinfo)
        parameters = _Parameters(parts)
        broker = cls(
            hosts=_hosts(authority, DEFAULT_PORTS[parts.scheme]),
            username=username,
            password=SecretStr(password),
            vhost=_vhost(parts.path),
            tls=parameters.tls(),
            heartbeat=parameters.whole("heartbeat", DEFAULT_HEARTBEAT, 1, MAX_HEARTBEAT),
            connect_timeout=parameters.seconds("connect_timeout", DEFAULT_CONNECT_TIMEOUT),
        )
        parameters.refuse_the_rest()
        return broker


def _secret(variable: str) -> SecretStr | None:
    value = os.environ.get(variable)
    return None if value is None else SecretStr(value)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that the environment gives; read when a command starts, never before.

    pydantic-settings was a fifth of what an import of mqkit takes, for two variables.
    """

    url: SecretStr | None = field(default_factory=lambda: _secret("MQKIT_URL"))
    """`MQKIT_URL`: the broker."""
    store: SecretStr | None = field(default_factory=lambda: _secret("MQKIT_STORE"))
    """`MQKIT_STORE`: the database of a store that names none."""


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        # urlsplit's own text may quote the authority, and the password with it.
        raise BrokerUrlError(
            "the broker URL is malformed: check the brackets around an IPv6 address"
        ) from None
    if parts.scheme not in DEFAULT_PORTS:
        raise BrokerUrlError(
            f"a broker URL starts with amqp:// or amqps://, not {parts.scheme + ':'!r}"
            if parts.scheme
            else "a broker URL starts with amqp:// or amqps://: amqp://user:password@host/vhost"
        )
    if not url.strip().startswith(f"{parts.scheme}://") and not url.strip().lower().startswith(
        f"{parts.scheme}://"
    ):
        raise BrokerUrlError(f"the broker URL lacks the '//' after '{parts.scheme}:'")
    if parts.fragment:
        raise BrokerUrlError(
            "the broker URL has a '#': write it as %23 if it belongs to a password or a vhost"
        )
    return parts


def _credentials(userinfo: str) -> tuple[str, str]:
    if not userinfo:
        return "guest", "guest"
    username, colon, password = userinfo.partition(":")
    if not username:
        raise BrokerUrlError("the broker URL has a password but no user name before the ':'")
    if not colon or not password:
        raise BrokerUrlError(
            f"the broker URL has the user name {unquote(username)!r} but no password: "
            "write user:password@host (no default is taken for it)"
        )
    return unquote(username), unquote(password)


def _hosts(authority: str, default_port: int) -> tuple[Host, ...]:
    hosts = []
    for item in authority.split(","):
        if not item:
            raise BrokerUrlError(
                "the broker URL names no host" if not authority else "the host list has a gap"
            )
        if item.startswith("["):
            name, bracket, rest = item[1:].partition("]")
            if not bracket:
                raise BrokerUrlError("the broker URL has an IPv6 address without its ']'")
            port_text = rest.removeprefix(":")
        else:
            name, _, port_text = item.partition(":")
        if not name:
            raise BrokerUrlError("the broker URL has a port but no host before it")
        hosts.append(Host(unquote(name), _port(port_text) if port_text else default_port))
    return tuple(hosts)


def _port(text: str) -> int:
    # Neither text is quoted: in 'amqp://user:p@ss/word@host' both are pieces of a password.
    if not _is_whole(text, 1, MAX_PORT):
        raise BrokerUrlError(
            "the port in the broker URL is not a number from 1 to 65535 "
            "(an '@', '/' or ':' inside a password must be written %40, %2F or %3A)"
        )
    return int(text)


def _is_whole(text: str, low: int, high: int) -> bool:
    """Tell whether a text is a number in that range, written in the digits 0 to 9 alone."""
    # Python reckons no number of over 4,300 digits.
    return len(text) <= _DIGITS and text.isascii() and text.isdigit() and low <= int(text) <= high


_DIGITS = 20


def _vhost(path: str) -> str:
    if path in ("", "/"):
        return "/"
    if "/" in path[1:]:
        raise BrokerUrlError(
            f"the virtual host {path[1:]!r} has a '/': write it as %2F if it belongs to the name"
        )
    return unquote(path[1:])


_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20}")
"""As a person writes it: Python's own `float` takes '1_0' and 'nan', too."""


class _Parameters:
    """The query parameters of a URL: each is taken once, and one that nobody took is refused."""

    def __init__(self, parts: SplitResult) -> None:
        self._tls = parts.scheme == "amqps"
        self._values: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name in self._values:
                raise BrokerUrlError(f"the broker URL has the parameter {name!r} twice")
            self._values[name] = value
        self._known: list[str] = []

    def _take(self, name: str) -> str | None:
        self._known.append(name)
        return self._values.pop(name, None)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        text = self._take(name)
        if text is None:
            return default
        if not _is_whole(text, low, high):
            raise BrokerUrlError(
                f"{name}={text!r} in the broker URL: a whole number from {low} to {high}, "
                "in seconds and without a unit"
            )
        return int(text)

    def seconds(self, name: str, default: float) -> float:
        text = self._take(name)
        if text is None:
            return default
        value = float(text) if _NUMBER.fullmatch(text) else -1.0
        if not 0 < value <= MAX_SECONDS:
            raise BrokerUrlError(
                f"{name}={text!r} in the broker URL: seconds, more than 0 and at most 3600"
            )
        return value

    def tls(self) -> Tls | None:
        names = ("cafile", "certfile", "keyfile", "server_name", "verify")
        if not self._tls:
            for name in names:
                if name in self._values:
                    raise BrokerUrlError(f"{name} in the broker URL needs amqps://, not amqp://")
            return None
        verify = self._take("verify")
        if verify not in (None, "true", "false"):
            raise BrokerUrlError(f"verify={verify!r} in the broker URL: true or false")
        certfile, keyfile = self._take("certfile"), self._take("keyfile")
        if keyfile and not certfile:
            raise BrokerUrlError("the broker URL has a keyfile but no certfile")
        return Tls(
            verify=verify != "false",
            cafile=self._take("cafile"),
            certfile=certfile,
            keyfile=keyfile,
            server_name=self._take("server_name"),
        )

    def refuse_the_rest(self) -> None:
        for name in self._values:
            near = difflib.get_close_matches(name, self._known, n=1)
            hint = _RENAMED.get(name) or (near[0] if near else None)
            raise BrokerUrlError(
                f"the broker URL has an unknown parameter {name!r}"
                + (f"; use {hint}" if hint else f"; known are {', '.join(sorted(self._known))}")
            )
