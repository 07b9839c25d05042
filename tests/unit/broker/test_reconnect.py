"""When and where a connection is tried again."""

from __future__ import annotations

import pytest

from mqkit import BrokerUrl, ConnectError
from mqkit.broker.reconnect import RECOVERY_WAIT_MAX, Hosts, wait_after_losses
from mqkit.errors import AuthenticationError
from mqkit.settings import Host


def hosts() -> Hosts:
    return Hosts(BrokerUrl.parse("amqp://a,b,c").hosts)


def fail(hosts: Hosts, *, first: bool = False) -> tuple[list[str], list[str]]:
    """Let each host of a round fail; the hosts, and their errors' texts."""
    tried: list[Host] = []
    problems: list[str] = []
    for attempt in hosts.attempts(problems, first=first):
        with attempt as host:
            tried.append(host)
            raise ConnectError(f"no {host.name}")
    return [host.name for host in tried], problems


def test_a_round_is_each_host_once() -> None:
    """It begins where the last round ended, and tells why each host failed."""
    each = hosts()
    assert fail(each) == (["a", "b", "c"], ["no a", "no b", "no c"])
    with next(each.attempts([], first=False)) as host:
        assert host.name == "a"


def test_a_host_that_fails_for_two_at_once_is_skipped_once() -> None:
    """Threads share the hosts: the second failure of a host does not skip the one after it."""
    each = hosts()
    attempts = [next(each.attempts([], first=False)) for _ in range(2)]
    assert [attempt.__enter__().name for attempt in attempts] == ["a", "a"]
    for attempt in attempts:
        assert attempt.__exit__(ConnectError, ConnectError("no a"), None)
    with next(each.attempts([], first=False)) as host:
        assert host.name == "b"


def test_a_refusal_at_the_start_ends_the_round() -> None:
    """It is let through, and no host is skipped for it."""
    each = hosts()
    with pytest.raises(AuthenticationError), next(each.attempts([], first=True)):
        raise AuthenticationError("refused")
    with next(each.attempts([], first=True)) as host:
        assert host.name == "a"


def test_the_wait_after_losses_grows_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one loss there is none; after any number of them it is drawn up to the limit."""
    monkeypatch.setattr("mqkit.broker.reconnect.random.uniform", lambda _, longest: longest)
    assert [wait_after_losses(n) for n in (1, 2, 3, 4, 5)] == [0, 0.8, 1.6, 3.2, 4.0]
    assert wait_after_losses(5_000) == RECOVERY_WAIT_MAX
