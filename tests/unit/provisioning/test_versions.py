"""What versions of RabbitMQ refuse."""

from __future__ import annotations

from typing import Any

import pytest

from mqkit import ConfigurationError, Queue
from mqkit.provisioning.versions import refused_by, target_version
from tests.unit.provisioning.support import of


@pytest.mark.parametrize(
    ("queue", "target", "words"),
    [
        (Queue("q", type="classic", durable=False), "4.3", ["transient"]),
        (Queue("q", type="classic", durable=False), "4.2", []),
        (Queue("q", type="classic", arguments={"x-queue-mode": "lazy"}), "4.3.6", ["x-queue-mode"]),
        (Queue("q", type="classic", arguments={"x-queue-version": 2}), "4.3", []),
        (Queue("q", type="classic", arguments={"x-ha-policy": "all"}), "4.0", ["mirrored"]),
        (Queue("q", arguments={"x-queue-master-locator": "client-local"}), "4.3", ["locator"]),
        (Queue("q", arguments={"x-max-priority": 3}), "4.0", ["x-max-priority"]),
        (Queue("q"), "5.0", []),
    ],
)
def test_what_a_version_refuses_is_named(queue: Queue, target: str, words: list[str]) -> None:
    """From the version on that does."""
    found = [each for each in refused_by(target_version(target), of(queue)) if each.name == "q"]
    assert len(found) == len(words)
    assert all(word in each.detail for word, each in zip(words, found, strict=True))


def test_a_policy_that_mirrors_is_named() -> None:
    """It is ignored from 4.0 on."""
    policies: dict[str, Any] = {"ha": {"ha-mode": "all"}, "ttl": {"message-ttl": 5}}
    found = [each for each in refused_by((4, 0), of(Queue("q")), policies) if each.what == "policy"]
    assert [each.name for each in found] == ["ha"]


@pytest.mark.parametrize("text", ["", "4", "four", "4.3-rc1", "3.8", "4.3.6.1", "-4.3"])
def test_a_target_that_is_no_version_is_refused(text: str) -> None:
    """Before anything is asked of a broker."""
    with pytest.raises(ConfigurationError, match="--target"):
        target_version(text)
