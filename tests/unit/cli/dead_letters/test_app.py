"""Wrong calls of `mqkit dead-letters`: each is refused before anybody connects."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

from mqkit.cli.app import app
from mqkit.errors import ConfigurationError

SERVICE = "tests.integration.dead_letters.services"

NOBODY = "amqp://127.0.0.1:1/?connect_timeout=1"
"""Where no broker is."""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list"], "QUEUE"),
        (["list", ""], "queue"),
        (["list", "q", "--group", "nope"], "eight hexadecimal digits"),
        (["list", "q", "--since", "yesterday"], "--since is a time such as"),
        (["list", "q", "--since", "2026-11-30"], "has no time zone"),
        (["list", "q", "--since", "999999d"], "before there were years"),
        (["list", "q", "--since", "1h", "--until", "2h"], "nothing can match"),
        (["list", "q", "--header", "tenant"], "--header is NAME=VALUE"),
        (["list", "q", "--limit", "5"], "--limit is for --messages"),
        (["list", "q", "--messages", "--limit", "0"], "--limit"),
        (["list", "q", "--grop", "x"], "No such option"),
        (["list", "q", "--service", "nowhere:x"], "no module 'nowhere'"),
        (["show", "q"], "ID"),
        (["replay", "q"], "which of them?"),
        (["replay", "q", "--all"], "say --why"),
        (["replay", "q", "--all", "--id", "m", "--why", "x"], "--all is without a filter"),
        (["replay", "q", "--all", "--why", " "], "why"),
        (["replay", "q", "--all", "--why", "x", "--rate", "0"], "--rate"),
        (["replay", "q", "--all", "--why", "x", "--rate", "nan"], "--rate"),
        (["replay", "q", "--all", "--why", "x", "--stop-at", "2"], "stop_at is a share"),
        (["replay", "q", "--all", "--why", "x", "--at-least", "0"], "--at-least"),
        (["replay", "q", "--all", "--why", "x", "--rate", "0"], "messages a second"),
        (["replay", "q", "--all", "--why", "x", "--rate", "nan"], "messages a second"),
        (["replay", "q", "--all", "--why", "x", "--watch", "inf"], "--watch"),
        (["archive", "q", "--all"], "--why"),
        (["archive", "q", "--why", "x"], "which of them?"),
        (["restore", "q", "--why", "x"], "which of them?"),
        (["drop", "q", "--why", "x", "--yes"], "which of them?"),
        (["drop", "q", "--all", "--yes"], "--why"),
        (["edit", "q", "m", "--why", "x"], "--body"),
        (["edit", "q", "m", "--why", "x", "--body", "/no/such/file"], "cannot be read"),
        (["audit", "q", "--limit", "-1"], "--limit"),
        (
            ["replay", "q", "--all", "--dry-run", "--service", f"{SERVICE}:service"],
            "has no handler of queue 'q'",
        ),
        *(
            ([*command, "--driver", "kombu"], "no driver 'kombu'; there are pika and aio-pika")
            for command in (
                ["list", "q"],
                ["show", "q", "m"],
                ["audit", "q"],
                ["replay", "q", "--all", "--dry-run"],
                ["replay", "q", "--all", "--why", "x"],
                ["archive", "q", "--all", "--why", "x"],
                ["restore", "q", "--all", "--why", "x"],
                ["drop", "q", "--all", "--why", "x"],
                ["drop", "q", "--all", "--why", "x", "--yes"],
                ["edit", "q", "m", "--why", "x", "--body", os.devnull],
            )
        ),
        (["unknown", "q"], "No such command"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments: list[str], words: str) -> None:
    """What is misspelled, out of range or left out is named."""
    done = CliRunner().invoke(app, ["dead-letters", *arguments], env={"MQKIT_URL": NOBODY})
    if isinstance(done.exception, SystemExit):
        assert done.exit_code == 2
        assert words in done.output
    else:
        assert isinstance(done.exception, ConfigurationError)
        assert words in str(done.exception)
