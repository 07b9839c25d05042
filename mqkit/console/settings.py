"""Holds what one console was started with, checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import SecretStr

from mqkit.checks import checked
from mqkit.errors import OptionError
from mqkit.logging.masking import DEFAULT, Masker
from mqkit.overview.watcher import Watcher
from mqkit.registration.service import Service
from mqkit.settings import BrokerUrl

SHORTEST_TOKEN = 16
"""Characters of a token: what is shorter could be guessed."""

LONGEST_TOKEN = 1_000

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Names by which this machine reaches itself, as a `Host` header has them."""

DEFAULT_PORT = 8472

UNWATCHED = 10.0
"""Seconds between two looks at the system while no page is asked for; rates are known from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings:
    """What one console shows, to whom, and what may be done with it.

    :raises OptionError: a value cannot be what it is
    """

    url: BrokerUrl
    token: SecretStr
    """What a browser must show once; whoever has it sees everything that the console shows."""
    who: str
    """Who does what is done here, for the audit."""
    management: SecretStr | None = None
    """URL of the broker's management API."""
    stores: tuple[SecretStr, ...] = ()
    """URLs of the services' stores."""
    services: tuple[Service, ...] = ()
    """Those whose handlers and inboxes a dry run asks."""
    allow_changes: bool = False
    hosts: frozenset[str] = field(default_factory=frozenset)
    """More names by which it is reached, beside those of this machine."""
    port: int = DEFAULT_PORT
    """In the cookie's name: cookies of one host are shared by all of its ports."""

    def __post_init__(self) -> None:
        length = len(self.token.get_secret_value())
        if not SHORTEST_TOKEN <= length <= LONGEST_TOKEN:
            raise OptionError(
                f"the console's token has {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters, not "
                f"{length}: `openssl rand -hex 24` makes one"
            )
        if not self.token.get_secret_value().isprintable():
            raise OptionError("the console's token has characters that are not printable")
        if not isinstance(self.who, str) or not self.who.strip():
            raise OptionError(f"--who is a text that says it, not {checked.shown(self.who)}")
        object.__setattr__(self, "hosts", frozenset(each.lower() for each in self.hosts))

    @property
    def cookie(self) -> str:
        """The name of the cookie that a session is known by."""
        return f"mqkit-console-{self.port}"

    def watcher(self) -> Watcher:
        """Make the watcher of the broker, which looks at every page, and else every ten seconds.

        :raises ConfigurationError: the URL of the management API is none
        """
        management = None if self.management is None else self.management.get_secret_value()
        return Watcher(self.url, management, every=UNWATCHED)

    def masker(self) -> Masker:
        """Return what masks secrets on all pages, those of the services' own among them."""
        masks = [each for one in self.services for each in one.error_reports.masker.masks]
        return Masker(masks) if masks else DEFAULT

    def takes_host(self, header: str) -> bool:
        """Whether a `Host` header names this console, and not a name that was bent to it."""
        name, colon, port = header.lower().rpartition(":")
        host = name if colon and port.isdecimal() else header.lower()
        return host in self.hosts or host in LOCAL_HOSTS
