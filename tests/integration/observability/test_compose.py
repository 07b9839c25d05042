"""What `deploy/compose.yaml` and the Dockerfile name is there, and their commands are mqkit's."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
import typer
import yaml

from mqkit.cli.app import app
from mqkit.cli.services import load_service
from mqkit.testing.brokers.containers import DEFAULT_IMAGES
from tests.support import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if "build" in each}
"""Those that run the image of the Dockerfile."""

INSTRUCTION = re.compile(r"^(COPY|ENTRYPOINT|CMD) (.*)$", re.MULTILINE)
DOCKERFILE = INSTRUCTION.findall((DEPLOY / "Dockerfile").read_text())


def parsed(arguments: list[str]) -> dict[str, Any]:
    """Return the options of a command, parsed and checked by the command itself, and not run."""
    group: Any = typer.main.get_command(app)
    with group.make_context("mqkit", list(arguments)) as outer:
        name, command, rest = group.resolve_command(outer, list(arguments))
        with command.make_context(name, rest, parent=outer) as inner:
            options: dict[str, Any] = inner.params
            return options


def instruction(name: str) -> list[str]:
    """Return the words of an instruction of the Dockerfile, which is there once."""
    (words,) = [json.loads(rest) for each, rest in DOCKERFILE if each == name]
    return list(words)


def seconds(text: str) -> int:
    """Read a duration of so many seconds."""
    assert text.endswith("s")
    return int(text[:-1])


@pytest.mark.parametrize("arguments", [*(each["command"] for each in OURS.values())])
def test_a_command_is_one_that_mqkit_takes(arguments: list[str]) -> None:
    """Its options are known, and its service is there."""
    assert load_service(parsed(arguments)["service"]).handlers
    assert load_service(parsed(instruction("CMD"))["service"]).handlers


def test_a_command_that_mqkit_does_not_take_would_be_found() -> None:
    """The check above parses as the command line does."""
    for wrong in (["run", "handlers.ledger:service", "--htp", "9464"], ["rum", "x:y"]):
        with pytest.raises(Exception, match=r"--htp|rum"):
            parsed(wrong)


def test_the_image_starts_mqkit_from_what_there_is() -> None:
    """Its entry point is a script of the package, and what it copies is in the repository."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert instruction("ENTRYPOINT")[0] in project["scripts"]
    copied = [word for name, rest in DOCKERFILE if name == "COPY" for word in rest.split()[:-1]]
    sources = [word for word in copied if not word.startswith(("--from", "/"))]
    assert len(sources) > 4
    assert [word for word in sources if not (ROOT / word).exists()] == []
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert [word for word in sources if f"!{word}" not in ignored] == []


@pytest.mark.parametrize("name", OURS)
def test_what_a_service_gets_from_its_environment_is_what_it_reads(name: str) -> None:
    """A name that nobody reads would set nothing, and nobody would say so."""
    code = [*(ROOT / "mqkit").rglob("*.py"), *(ROOT / "handlers").glob("*.py")]
    texts = [path.read_text() for path in code]
    for each in OURS[name]["environment"]:
        assert any(f'"{each}"' in text for text in texts), each


@pytest.mark.parametrize("name", OURS)
def test_the_port_of_the_pages_is_the_one_that_is_asked(name: str) -> None:
    """By the health check, and by the Prometheus beside it."""
    http = parsed(OURS[name]["command"])["http"]
    port = str(http).rpartition(":")[2]
    assert f":{port}/readyz" in " ".join(OURS[name]["healthcheck"]["test"])
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = [
        target
        for config in scraped["scrape_configs"]
        for static in config["static_configs"]
        for target in static["targets"]
    ]
    assert f"{name}:{port}" in targets


def test_the_broker_is_the_one_that_is_tested() -> None:
    """Its image is one that the tests run on, and the services' URL leads to its port."""
    broker = SERVICES["rabbitmq"]
    assert any(image in broker["image"] for image in DEFAULT_IMAGES)
    (port,) = broker["ports"]
    for each in OURS.values():
        assert f"@rabbitmq:{port.rpartition(':')[2]}/" in each["environment"]["MQKIT_URL"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_is_joined_with_is_there(name: str) -> None:
    """The services that it waits for, its volumes, the folders that it is given."""
    each = SERVICES[name]
    assert set(each.get("depends_on", ())) <= set(SERVICES)
    for volume in each.get("volumes", ()):
        source = volume.partition(":")[0]
        if source.startswith("."):
            assert (DEPLOY / source).is_dir()
        else:
            assert source in COMPOSE["volumes"]
    if "build" in each:
        assert (DEPLOY / each["build"]["context"] / each["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_not_killed_within_its_own_grace_period(name: str) -> None:
    """It gives back what it cannot finish, some seconds after that."""
    grace = parsed(OURS[name]["command"])["grace"]
    assert seconds(OURS[name]["stop_grace_period"]) >= grace + 5
