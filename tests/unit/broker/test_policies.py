"""What policies break, and what is said of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mqkit import ConfigurationError, Queue
from mqkit.broker import policies
from mqkit.broker.policies import Management, problems
from mqkit.topology import Topology


def of(policy: dict[str, Any]) -> dict[str, Any]:
    """A queue as the management API shows it."""
    return {"policy": None, "operator_policy": "ops", "effective_policy_definition": policy}


@pytest.mark.parametrize(
    ("queue", "policy", "words"),
    [
        (Queue("q"), {"expires": 3000}, "queue q: policy 'ops' sets expires to 3000: the queue is"),
        (Queue("q"), {"message-ttl": 1000}, "dead-lettered unhandled"),
        (Queue("q"), {"delivery-limit": 3}, "less than the declared 20"),
        (Queue("q", type="classic"), {"max-length": 5}, "oldest messages are dropped"),
        (None, {"message-ttl": 1000}, "dead letters are dropped"),
        (None, {"delivery-limit": 3}, "given back so often"),
        (None, {"max-length-bytes": 5}, "oldest messages are dropped"),
    ],
)
def test_a_policy_that_breaks_a_promise_is_named(
    queue: Queue | None, policy: dict[str, Any], words: str
) -> None:
    """With its value, and what comes of it."""
    (problem,) = problems("q", of(policy), queue)
    assert words in problem


@pytest.mark.parametrize("policy", [{"message-ttl": 1000}, {"expires": 1}, {"max-length": 5}])
def test_a_policy_on_the_delay_ladder_is_named(policy: dict[str, Any]) -> None:
    """It makes retries come early, or go."""
    assert len(list(problems("mqkit.delay.v1.03", of(policy)))) == 1


@pytest.mark.parametrize(
    ("queue", "policy"),
    [
        (Queue("q"), {}),
        (Queue("q"), {"max-length": 100, "queue-leader-locator": "balanced"}),
        (Queue("q"), {"delivery-limit": 20}),
        (Queue("q", type="classic"), {"delivery-limit": 3}),
        (Queue("q", type="classic"), {"max-length": 5, "overflow": "reject-publish"}),
        (None, {"delivery-limit": 1_000_000_000}),
    ],
)
def test_a_policy_that_breaks_nothing_is_not(queue: Queue | None, policy: dict[str, Any]) -> None:
    """As is none, and an answer that has no word of it."""
    assert list(problems("q", of(policy), queue)) == []
    assert list(problems("q", {}, queue)) == []


@pytest.mark.parametrize(
    "url", ["", "host:15672", "amqp://host", "http://", "http://[::1", "http://h:x"]
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """Without quoting it, as there may be a password in it."""
    with pytest.raises(ConfigurationError, match="management API is http"):
        Management(url, "/")


def test_no_password_is_in_its_name() -> None:
    """Which is what errors show."""
    assert Management("https://u:secret@broker:1/x/", "/").name == "https://broker:1"


@contextlib.contextmanager
def api(answers: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """A management API that says this of queues; its URL, and who asked."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            name = self.path.removeprefix("/api/queues/v").split("?")[0]
            self.send_response(200 if name in answers else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answers.get(name, {})).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://u:p%40ss@127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


async def test_the_api_is_asked_about_queues_and_the_ladder() -> None:
    """And whether it knew all of them: of a new queue it says nothing for some seconds."""
    answers: dict[str, Any] = {
        "/q": of({"delivery-limit": 3}),
        "/q.dead": {},
        "": {"items": [{"name": "mqkit.delay.v1.00", **of({"message-ttl": 5})}]},
    }
    topology = Topology.of_queue(Queue("q"))
    with api(answers) as (url, asked):
        found, is_all = await Management(url, "v").problems(topology.queues)
        assert (len(found), is_all) == (2, False)
        answers["/q.dead"] = of({"expires": 1})
        found, is_all = await Management(url, "v").problems(topology.queues)
        assert (len(found), is_all) == (3, True)
    assert set(asked) == {"Basic dTpwQHNz"}


async def test_an_api_that_cannot_be_asked_is_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service runs on, and its log has no password."""
    monkeypatch.setattr(policies, "AGAIN", 0.01)
    watching = asyncio.create_task(
        policies.watch(Management("http://u:secret@127.0.0.1:1", "v"), "s", [Queue("q")])
    )
    await asyncio.sleep(0.1)
    watching.cancel()
    assert caplog.text.count("policies of the broker are not known") == 1
    assert "secret" not in caplog.text
