from __future__ import annotations

import gc
from pathlib import Path

import pytest

from mqkit.testing.brokers import containers


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("rabbitmq:4.3-management", "4.3"),
        ("rabbitmq:4.0.5-management-alpine", "4.0.5"),
        ("rabbitmq:4", "4"),
        ("example/rabbit:1", "example-rabbit-1"),
    ],
)
def test_a_container_is_labelled_by_its_image(image: str, label: str) -> None:
    """The label is the version, or the whole name of an image that is not the official one."""
    assert containers.label_of(image) == label


def test_an_engine_that_is_not_there_is_told_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error says why; the sockets of the attempts are closed, or pytest would warn of them."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(containers.EngineError, match="No such file"):
        containers.Engine()
    gc.collect()
