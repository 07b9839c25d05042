from __future__ import annotations

from pathlib import Path

import pytest

from mqkit.errors import BrokerUrlError, ConfigurationError, MqkitError
from mqkit.testing.brokers import containers, nodes
from mqkit.testing.brokers.finder import BrokerNotFoundError, BrokerSpec, find_brokers


class FakeEngine:
    """An engine with the images in `present`, whose registry offers those in `offered`."""

    present: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()

    def has(self, image: str) -> bool:
        return image in self.present

    def can_pull(self, image: str) -> bool:
        return image in self.offered

    def close(self) -> None:
        pass


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[FakeEngine]:
    class Engine(FakeEngine):
        pass

    monkeypatch.setattr(containers, "Engine", Engine)
    return Engine


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise containers.EngineError("no Docker engine answers (connection refused)")

    monkeypatch.setattr(containers, "Engine", refuse)


@pytest.fixture(autouse=True)
def no_known_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the PATH that a test gives is searched, not this machine's."""
    monkeypatch.setattr(nodes, "KNOWN_PLACES", ())


def install_server(directory: Path) -> Path:
    directory.mkdir(parents=True)
    script = directory / "rabbitmq-server"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (directory / "rabbitmq-env").write_text("")
    return script


def test_a_named_broker_comes_before_every_other(engine: type[FakeEngine], tmp_path: Path) -> None:
    """MQKIT_TEST_URL is taken alone, though containers and a binary could be had."""
    engine.present = containers.DEFAULT_IMAGES
    install_server(tmp_path / "sbin")
    env = {"MQKIT_TEST_URL": "amqp://me:secret@host/", "PATH": str(tmp_path / "sbin")}
    assert find_brokers(env) == [BrokerSpec("url", "url", "amqp://me:secret@host/")]


def test_a_named_broker_is_not_shown_with_its_password() -> None:
    """Neither str nor repr of a spec shows the URL's password."""
    (spec,) = find_brokers({"MQKIT_TEST_URL": "amqp://me:secret@host/"})
    assert "secret" not in f"{spec} {spec!r}"
    assert "me@host" in str(spec)


def test_a_malformed_url_is_an_error_and_not_passed_over(engine: type[FakeEngine]) -> None:
    """A wrong MQKIT_TEST_URL is reported rather than the next way taken."""
    engine.present = containers.DEFAULT_IMAGES
    with pytest.raises(BrokerUrlError):
        find_brokers({"MQKIT_TEST_URL": "http://host"})


def test_the_ctl_command_is_split_like_a_shell_would() -> None:
    """MQKIT_TEST_CTL holds words, quoted where they have spaces."""
    (spec,) = find_brokers(
        {
            "MQKIT_TEST_URL": "amqp://host",
            "MQKIT_TEST_CTL": "docker exec 'a b' rabbitmqctl",
        }
    )
    assert spec.ctl == ("docker", "exec", "a b", "rabbitmqctl")


def test_a_ctl_command_with_an_open_quote_is_an_error() -> None:
    """MQKIT_TEST_CTL that no shell would take is named in the error."""
    with pytest.raises(ConfigurationError, match="MQKIT_TEST_CTL"):
        find_brokers({"MQKIT_TEST_URL": "amqp://host", "MQKIT_TEST_CTL": "docker 'exec"})


def test_both_images_are_found_newest_first(engine: type[FakeEngine]) -> None:
    """Without MQKIT_TEST_IMAGES, the suite runs on 4.3 and 4.0."""
    engine.present = containers.DEFAULT_IMAGES
    found = find_brokers({})
    assert [(spec.kind, spec.label) for spec in found] == [
        ("container", "4.3"),
        ("container", "4.0"),
    ]


def test_an_image_that_could_be_pulled_counts(engine: type[FakeEngine]) -> None:
    """An image need not be on this machine if its registry offers it."""
    engine.offered = ("rabbitmq:4.0-management",)
    assert [spec.label for spec in find_brokers({})] == ["4.0"]


def test_images_named_are_taken_as_named(engine: type[FakeEngine]) -> None:
    """MQKIT_TEST_IMAGES takes names and tags, and leaves none out in silence."""
    engine.present = containers.DEFAULT_IMAGES
    found = find_brokers({"MQKIT_TEST_IMAGES": "3.13-management, example/rabbit:1,"})
    assert [spec.target for spec in found] == ["rabbitmq:3.13-management", "example/rabbit:1"]


@pytest.mark.usefixtures("no_engine")
def test_a_node_is_taken_where_no_engine_answers(tmp_path: Path) -> None:
    """The binary on this machine is the last way."""
    script = install_server(tmp_path / "rabbitmq_server-3.10.8" / "sbin")
    assert find_brokers({"PATH": str(script.parent)}) == [
        BrokerSpec("node", "node-3.10", str(script))
    ]


def test_a_node_is_taken_where_the_engine_has_no_image(
    engine: type[FakeEngine], tmp_path: Path
) -> None:
    """An engine that can run no RabbitMQ does not keep the binary from being used."""
    engine.present = ("postgres:17",)
    script = install_server(tmp_path / "sbin")
    assert [spec.kind for spec in find_brokers({"PATH": str(script.parent)})] == ["node"]


@pytest.mark.usefixtures("no_engine")
def test_no_broker_is_an_error_that_says_what_to_do() -> None:
    """The error names all three ways, and why each gave none."""
    with pytest.raises(BrokerNotFoundError) as caught:
        find_brokers({})
    text = str(caught.value)
    for words in ("MQKIT_TEST_URL=amqp://", "connection refused", "apt-get install", "brew"):
        assert words in text


def test_one_kind_can_be_forced(engine: type[FakeEngine], tmp_path: Path) -> None:
    """MQKIT_TEST_BROKER passes over the ways before the one that it names."""
    engine.present = containers.DEFAULT_IMAGES
    script = install_server(tmp_path / "sbin")
    env = {
        "MQKIT_TEST_URL": "amqp://host",
        "MQKIT_TEST_BROKER": "node",
        "PATH": str(script.parent),
    }
    assert [spec.kind for spec in find_brokers(env)] == ["node"]


def test_a_forced_kind_that_is_not_there_is_an_error(engine: type[FakeEngine]) -> None:
    """MQKIT_TEST_BROKER does not fall back to another kind, and the error names only this one."""
    engine.present = containers.DEFAULT_IMAGES
    with pytest.raises(BrokerNotFoundError, match="node was asked for") as caught:
        find_brokers({"MQKIT_TEST_BROKER": "node", "PATH": ""})
    assert "MQKIT_TEST_URL" not in str(caught.value)


def test_an_unknown_kind_is_an_error() -> None:
    """MQKIT_TEST_BROKER with a typo lists what it takes."""
    with pytest.raises(ConfigurationError, match="url, container, node"):
        find_brokers({"MQKIT_TEST_BROKER": "docker"})


def test_what_the_finder_raises_is_an_mqkit_error() -> None:
    """A caller catches one root exception."""
    assert issubclass(BrokerNotFoundError, MqkitError)
