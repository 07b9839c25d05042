from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent

NAMED_BROKER = """
import os
from mqkit.testing.brokers.embedded import EmbeddedBroker

broker = EmbeddedBroker()
os.environ["MQKIT_TEST_URL"] = broker.url

def pytest_unconfigure():
    broker.close()
"""
"""In the place of a RabbitMQ that runs already."""

CTL = """
import sys
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
"""
"""In the place of rabbitmqctl: notes what it is told."""


class Project:
    """A project of somebody else's that has mqkit installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, text: str, name: str = "test_it.py") -> None:
        (self.folder / name).write_text(text)

    def run(self, *args: str, **environment: str) -> tuple[int, str]:
        """Run pytest there, with no plugin but mqkit's; its exit code and output."""
        env = {
            name: value for name, value in os.environ.items() if not name.startswith("MQKIT_TEST_")
        }
        plugin = ["-p", "mqkit.testing.plugin"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-W", "error", "-vv", *plugin, *args],
            cwd=self.folder,
            env={
                **env,
                # This tree's mqkit, wherever an installed one is.
                "PYTHONPATH": str(ROOT),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTEST_ADDOPTS": "",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_it_is_registered() -> None:
    """Whoever installs mqkit has the plugin, by an entry point that names this module."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    points = settings["project"]["entry-points"]["pytest11"]
    assert points == {"mqkit": "mqkit.testing.plugin"}
    assert importlib.import_module(points["mqkit"]).pytest_addoption


def test_every_fixture_has_the_prefix(project: Project) -> None:
    """No fixture of a user's own is shadowed: all names begin with mqkit_."""
    code, out = project.run("--fixtures", "-q")
    assert code == 0, out
    ours = out.partition("fixtures defined from mqkit.testing.plugin")[2].partition("\n-----")[0]
    names = [line.split()[0] for line in ours.splitlines() if " -- " in line]
    assert len(names) >= 5
    assert all(name.startswith("mqkit_") for name in names), names


def test_the_embedded_broker_is_the_default(project: Project) -> None:
    """Without any setting, and though a RabbitMQ is named, tests run on the embedded broker."""
    project.write(
        """
def test_one(mqkit_broker, mqkit_vhost):
    assert mqkit_broker.kind == "embedded"
    name = mqkit_vhost.rpartition("/")[2]
    assert name in mqkit_broker.ctl("list_vhosts").split()
    seen.append((mqkit_broker, name))

def test_two(mqkit_broker, mqkit_vhost, mqkit_embedded):
    assert mqkit_broker is mqkit_embedded
    (other, name), = seen
    assert other is mqkit_broker, "one for the session"
    assert name != mqkit_vhost.rpartition("/")[2]
    assert name not in mqkit_broker.ctl("list_vhosts").split(), "gone with its test"

seen = []
"""
    )
    code, out = project.run(MQKIT_TEST_URL="amqp://127.0.0.1:1/")
    assert code == 0, out
    assert "test_one[embedded] PASSED" in out


def test_the_proxy_ends_with_its_test(project: Project) -> None:
    """`mqkit_proxy(url)` gives a proxy that runs, and any number of them."""
    project.write(
        """
import socket, threading

def test_one(mqkit_proxy, mqkit_embedded):
    one, other = mqkit_proxy(mqkit_embedded.url), mqkit_proxy(mqkit_embedded.url)
    for proxy in one, other:
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5).close()
    assert len(proxies()) == 2

def test_two():
    assert not proxies()

def proxies():
    return [each for each in threading.enumerate() if "proxy" in each.name]
"""
    )
    code, out = project.run()
    assert code == 0, out


def test_a_harness_runs_a_service(project: Project) -> None:
    """`mqkit_harness(service)` takes the harness's options and advances the broker's time."""
    project.write(
        """
from tenacity import stop_never, wait_fixed
from mqkit import Delivery, Queue, Retry, Service

service = Service("s", retry=Retry(stop=stop_never, wait=wait_fixed(3600)))

@service.handler(Queue("q"))
async def handle(body: bytes, delivery: Delivery) -> None:
    if delivery.attempt == 1:
        raise ValueError("later")

async def test_one(mqkit_harness, mqkit_vhost, mqkit_proxy):
    proxy = mqkit_proxy(mqkit_vhost)
    async with mqkit_harness(service, through=proxy.url, within=5) as h:
        assert h.url == mqkit_vhost
        message = await h.publish("", "q", b"")
        await h.advance(3600)
        assert (await h.outcome(message)).delays == [3600]
        assert proxy.connections == 2

async def test_two(mqkit_harness):
    async with mqkit_harness(service) as h:
        assert h.handled == []
"""
    )
    code, out = project.run()
    assert code == 0, out


NEEDS_RABBITMQ = "def test_it({0}):\n    assert {0}.kind == 'url'\n"


@pytest.mark.parametrize("fixture", ["mqkit_broker", "mqkit_rabbitmq"])
def test_a_rabbitmq_that_is_not_there_is_a_failure(project: Project, fixture: str) -> None:
    """It is not skipped, and says what to do; the other tests run."""
    project.write(NEEDS_RABBITMQ.format(fixture) + "def test_another(): pass")
    code, out = project.run("--mqkit-broker=rabbitmq", MQKIT_TEST_BROKER="url")
    assert code == 1, out
    assert "set MQKIT_TEST_URL=amqp://" in out
    assert "1 passed, 1 error" in out


def test_a_test_for_rabbitmq_does_not_run_on_the_embedded_broker(project: Project) -> None:
    """Where MQKIT_TEST_BROKER=embedded keeps it from one, mqkit_rabbitmq fails and says so."""
    project.write(NEEDS_RABBITMQ.format("mqkit_rabbitmq"))
    code, out = project.run(MQKIT_TEST_BROKER="embedded")
    assert code == 1, out
    assert "MQKIT_TEST_BROKER=embedded keeps it from one" in out


@pytest.mark.parametrize(
    ("option", "ini", "chosen"),
    [
        ("embedded", "rabbitmq", ["embedded"]),
        ("rabbitmq", "embedded", ["url"]),
        ("all", "embedded", ["embedded", "url"]),
        (None, "rabbitmq", ["url"]),
        (None, "all", ["embedded", "url"]),
    ],
)
def test_the_broker_is_chosen(
    project: Project, option: str | None, ini: str, chosen: list[str]
) -> None:
    """The option comes before the ini file; each chosen broker has its own run of the test."""
    project.write(f"[pytest]\nmqkit_broker = {ini}\n", "pytest.ini")
    project.write("def test_it(mqkit_broker): pass")
    options = [f"--mqkit-broker={option}"] if option else []
    code, out = project.run("--collect-only", "-q", *options, MQKIT_TEST_URL="amqp://127.0.0.1:1/")
    assert code == 0, out
    found = [line.partition("[")[2].rstrip("]>") for line in out.splitlines() if "test_it[" in line]
    assert found == chosen


def test_a_mistyped_choice_is_an_error(project: Project) -> None:
    """In the ini file as on the command line it names what there is."""
    project.write("[pytest]\nmqkit_broker = embeded\n", "pytest.ini")
    project.write("def test_it(mqkit_broker): pass")
    for options in ([], ["--mqkit-broker=embeded"]):
        code, out = project.run(*options)
        assert code in (2, 4), out
        assert "embedded" in out
        assert "rabbitmq" in out


def test_a_virtual_host_on_rabbitmq_is_made_by_rabbitmqctl(
    project: Project, tmp_path: Path
) -> None:
    """It is added with all permissions for the URL's user, and deleted after the test."""
    log = tmp_path / "ctl.log"
    project.write(CTL.format(log=str(log)), "ctl.py")
    project.write("def test_it(mqkit_vhost): print('url', mqkit_vhost)")
    project.write(NAMED_BROKER, "conftest.py")
    code, out = project.run(
        "-s", "--mqkit-broker=rabbitmq", MQKIT_TEST_CTL=f"{sys.executable} {tmp_path}/ctl.py"
    )
    assert code == 0, out
    (url,) = (line.split("url ")[1].split()[0] for line in out.splitlines() if "url amqp" in line)
    name = url.rpartition("/")[2].removesuffix("PASSED")
    assert log.read_text().splitlines() == [
        f"-q add_vhost {name}",
        f"-q set_permissions -p {name} guest .* .* .*",
        f"-q delete_vhost {name}",
    ]


def test_a_virtual_host_needs_rabbitmqctl(project: Project) -> None:
    """On a broker that was named without it, the failure says which variable to set."""
    project.write(NAMED_BROKER, "conftest.py")
    project.write("def test_it(mqkit_vhost): pass")
    code, out = project.run("--mqkit-broker=rabbitmq")
    assert code == 1, out
    assert "no virtual host for this test" in out
    assert "MQKIT_TEST_CTL" in out


def test_a_broker_is_started_once_for_all_fixtures(project: Project) -> None:
    """Two fixtures that ask for the same broker hold the same one, and it ends after both."""
    project.write(
        """
import pytest
from mqkit.testing.brokers import finder as brokers

started = []

@pytest.fixture(autouse=True, scope="session")
def counted():
    with pytest.MonkeyPatch.context() as patch:
        real = brokers.start
        patch.setattr(brokers, "start", lambda spec: started.append(spec) or real(spec))
        yield

def test_one(mqkit_broker): pass
def test_two(mqkit_embedded): pass
def test_three(mqkit_broker, mqkit_embedded): assert mqkit_broker is mqkit_embedded
def test_four(): assert len(started) == 1
"""
    )
    code, out = project.run()
    assert code == 0, out
