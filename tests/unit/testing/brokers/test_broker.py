from __future__ import annotations

import pytest

from mqkit.testing.brokers.broker import BrokerControlError, UrlBroker, run_ctl
from tests.unit.testing.brokers.support import server, start_frame


def test_a_named_broker_is_not_killed() -> None:
    """kill, stop and start of a broker that somebody else runs are refused."""
    with server(start_frame()) as url, UrlBroker(url) as broker:
        assert broker.version == "4.9.9"
        for action in (broker.kill, broker.stop, broker.start):
            with pytest.raises(BrokerControlError, match="somebody else runs it"):
                action()


def test_ctl_of_a_named_broker_needs_its_command() -> None:
    """Without MQKIT_TEST_CTL, ctl says to set it; with it, it is run with -q and the words."""
    with server(start_frame()) as url:
        with UrlBroker(url) as broker, pytest.raises(BrokerControlError, match="MQKIT_TEST_CTL"):
            broker.ctl("list_queues")
        with UrlBroker(url, ["echo"]) as broker:
            assert broker.ctl("list_queues", "name") == "-q list_queues name\n"


def test_a_failing_ctl_is_an_error_with_its_own_words() -> None:
    """The exit code and what rabbitmqctl printed are in the error."""
    command = ["sh", "-c", "echo 'no such vhost' >&2; exit 3", "rabbitmqctl"]
    with pytest.raises(BrokerControlError, match=r"list_queues exited with 3: no such vhost"):
        run_ctl(command, ["list_queues"])
