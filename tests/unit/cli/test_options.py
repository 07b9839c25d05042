"""From what was typed to a broker."""

from __future__ import annotations

import pytest

from mqkit import BrokerUrlError
from mqkit.cli.options import broker_url


def test_the_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """--url wins over MQKIT_URL, and without either the error names both."""
    monkeypatch.delenv("MQKIT_URL", raising=False)
    with pytest.raises(BrokerUrlError, match=r"--url .* MQKIT_URL"):
        broker_url(None)
    monkeypatch.setenv("MQKIT_URL", "amqp://from-environment")
    assert broker_url(None).hosts[0].name == "from-environment"
    assert broker_url("amqp://from-option").hosts[0].name == "from-option"
