"""From what was typed to a broker, an address and buckets."""

from __future__ import annotations

import sys

import pytest
import typer

from mqkit import BrokerUrlError
from mqkit.cli.options import broker_url, histogram_buckets, http_address
from mqkit.errors import MissingExtraError


def test_the_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """--url wins over MQKIT_URL, and without either the error names both."""
    monkeypatch.delenv("MQKIT_URL", raising=False)
    with pytest.raises(BrokerUrlError, match=r"--url .* MQKIT_URL"):
        broker_url(None)
    monkeypatch.setenv("MQKIT_URL", "amqp://from-environment")
    assert broker_url(None).hosts[0].name == "from-environment"
    assert broker_url("amqp://from-option").hosts[0].name == "from-option"


@pytest.mark.parametrize(
    ("option", "found"),
    [
        (None, None),
        ("9464", ("127.0.0.1", 9464)),
        ("0", ("127.0.0.1", 0)),
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),  # noqa: S104 - said, and not the default
        ("[::]:9464", ("::", 9464)),
        ("metrics.internal:80", ("metrics.internal", 80)),
    ],
)
def test_an_address_has_a_port_and_may_have_a_host(
    option: str | None, found: tuple[str, int] | None
) -> None:
    """Loopback where no host is given: the pages ask nobody who they are"""
    assert http_address(option) == found


@pytest.mark.parametrize(
    "option",
    [
        "",
        "x",
        "127.0.0.1",
        "::9464",
        "1:2:3",
        "host:",
        "65536",
        "-1",
        "9464/metrics",
        "host:٣",
        " 1",
    ],
)
def test_what_is_no_address_is_refused(option: str) -> None:
    """It is called wrongly, and told what it takes"""
    with pytest.raises(typer.BadParameter, match=r"is not \[HOST:\]PORT"):
        http_address(option)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything of the service is started"""
    monkeypatch.delitem(sys.modules, "mqkit.observability.metrics.exposition", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mqkit\[metrics\]'"):
        http_address("9464")


def test_buckets_are_given_by_name() -> None:
    """Each histogram's own, the others keep theirs"""
    assert histogram_buckets(["handler=0.01,0.1,1", "queue=1,60"]) == {
        "handler": (0.01, 0.1, 1.0),
        "queue": (1.0, 60.0),
    }


@pytest.mark.parametrize(
    "option",
    [
        "handler",
        "handler=",
        "handler=x",
        "handler=2,1",
        "other=1",
        "=1",
        "handler=nan",
        "handler=0",
    ],
)
def test_what_are_no_buckets_is_refused(option: str) -> None:
    """It is called wrongly, and told what it takes"""
    with pytest.raises(typer.BadParameter, match="is not handler=, queue= or confirm="):
        histogram_buckets([option])
