"""`mqkit capacity`: what it prints, its exit codes, and what it reads of a service."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mqkit.cli.app import app
from mqkit.errors import MqkitError


def run(*arguments: str) -> Any:
    """Run the command."""
    return CliRunner().invoke(app, ["capacity", *arguments])


LOAD = ("--rate", "40", "--service-time", "0.1")


def test_a_plan_is_a_line_for_each_part_of_it() -> None:
    """Load, workers, waits, backlog, and the options to set; and it exits with 0."""
    result = run(*LOAD, "--deadline", "0.5", "--backlog", "1000")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "load      40 messages/s, 100 ms each, exponential (M/M/c): 4 workers busy on average",
        "workers   5, 80% busy, the fewest for 99 % to wait no longer than 500 ms",
        "wait      55.4 ms on average, 401 ms at most for 99 %; 55% of the messages wait at all",
        "done      155 ms after it came, on average",
        "backlog   of 1,000 messages is gone in 100 s",
        "set       --processes 1, concurrency=5, prefetch=6",
    ]


def test_too_few_workers_are_exit_code_1_and_say_how_many_are_needed() -> None:
    """A rate over what they can do says by how much the queue grows."""
    result = run(*LOAD, "--deadline", "0.5", "--workers", "3", "--backlog", "10")
    assert result.exit_code == 1
    assert "3 are too few: they do 30 messages/s of 40" in result.stdout
    assert "grows by 10 a second" in result.stdout
    assert "needed    5 workers" in result.stdout
    assert "is never gone" in result.stdout
    assert run(*LOAD, "--workers", "3").exit_code == 1


def test_json_has_no_infinity() -> None:
    """What has no end is null, so that every reader of JSON takes it."""
    result = run(*LOAD, "--workers", "4", "--backlog", "1", "--json")
    told = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (told["wait_mean"], told["drain"], told["holds"]) == (None, None, False)
    told = json.loads(run(*LOAD, "--deadline", "1", "--variance", "0.0025", "--json").stdout)
    assert told["cv"] == pytest.approx(0.5)


def test_the_picture_is_svg(tmp_path: Path) -> None:
    """It is written to the file, with a line for the deadline and a mark for this load."""
    picture = tmp_path / "wait.svg"
    assert run(*LOAD, "--deadline", "0.5", "--svg", str(picture)).exit_code == 0
    drawn = picture.read_text()
    assert drawn.startswith("<svg")
    for word in ("mean wait", "99 % wait at most", "deadline", "this load"):
        assert word in drawn
    assert isinstance(
        run(*LOAD, "--workers", "5", "--svg", str(tmp_path / "no" / "a.svg")).exception, MqkitError
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --rate"),
        (["--rate", "1"], "give --rate"),
        ([*LOAD], "say how long a message may wait"),
        (["--rate", "nan", "--service-time", "1", "--deadline", "1"], "not nan"),
        (["--rate", "1", "--service-time", "0", "--deadline", "1"], "service time"),
        ([*LOAD, "--workers", "1000000000"], "number of workers"),
        (["--rate", "1e9", "--service-time", "1", "--deadline", "1"], "look at the units"),
        ([*LOAD, "--workers", "5", "--cv", "1", "--variance", "1"], "not both"),
        ([*LOAD, "--workers", "5", "--cv", "inf"], "variation"),
        ([*LOAD, "--workers", "5", "--variance", "-1"], "--variance"),
        ([*LOAD, "--workers", "5", "--variance", "inf"], "--variance"),
        ([*LOAD, "--workers", "5", "--quantile", "1"], "between 0 and 1"),
        ([*LOAD, "--live", "q", "--metrics", "http://h/"], "leave out both"),
        (["--live", "q"], "belong together"),
        (["--metrics", "http://h/"], "belong together"),
        (["--live", "q", "--metrics", "ftp://u:planted-secret@h/"], "not 'ftp://***@h/'"),
        (["--live", "q", "--metrics", "http://h:port/"], "http://host:port/metrics"),
        (["--live", "q", "--metrics", "http://h/", "--watch", "0"], "--watch"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], words: str) -> None:
    """Each error says what is wrong, without the password of an address."""
    error = run(*arguments).exception
    assert isinstance(error, MqkitError), error
    assert words in str(error).replace("ftp://***@h/", "'ftp://***@h/'").replace("''", "'")
    assert "planted-secret" not in str(error)


class Told(http.server.BaseHTTPRequestHandler):
    """Tells a queue of which ten more messages were handled at each look."""

    looks = 0

    def do_GET(self) -> None:
        """Answer."""
        type(self).looks += 1
        count = 10 * self.looks
        lines = [
            f'mqkit_handler_seconds_bucket{{queue="q",le="0.01"}} {count}',
            f'mqkit_handler_seconds_bucket{{queue="q",le="+Inf"}} {count}',
            f'mqkit_handler_seconds_count{{queue="q"}} {count}',
            f'mqkit_handler_seconds_sum{{queue="q"}} {count * 0.005}',
            f'mqkit_queue_seconds_count{{queue="q"}} {count}',
            f'mqkit_queue_seconds_sum{{queue="q"}} {count * 0.25}',
        ]
        body = "\n".join(lines).encode()
        self.send_response(200 if self.path == "/metrics" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    """A service that tells its metrics."""
    Told.looks = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://user:planted-secret@127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_running_service_is_planned_for(address: str) -> None:
    """Rate, service time, spread and the wait are those between two looks."""
    result = run(
        "--live", "q", "--metrics", f"{address}/metrics", "--watch", "0.05", "--workers", "4"
    )
    assert result.exit_code == 0, result.output
    assert re.search(r"10 runs in \d+\.\d+ s; messages waited 250 ms on average", result.stdout)
    assert "5 ms each, with a spread of" in result.stdout


def test_a_service_that_does_not_answer_is_named_without_its_password(address: str) -> None:
    """A wrong path, a wrong queue and a closed port are errors that say so."""
    for where, queue, words in (
        (f"{address}/other", "q", "answers with status 404"),
        (f"{address}/metrics", "nobody", "it has "),
        ("http://user:planted-secret@127.0.0.1:9/metrics", "q", "does not answer"),
    ):
        error = run("--live", queue, "--metrics", where, "--watch", "0.01").exception
        assert isinstance(error, MqkitError)
        assert words in str(error)
        assert "planted-secret" not in str(error)
