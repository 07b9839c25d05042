from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from mqkit.testing.brokers import nodes
from mqkit.testing.brokers.broker import BrokerStartError


def write_script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_script_behind_a_wrapper_is_taken(tmp_path: Path) -> None:
    """A wrapper on the PATH, which would not run as this user, is passed over."""
    wrapper = write_script(tmp_path / "bin" / "rabbitmq-script-wrapper", "#!/bin/sh\n")
    (wrapper.parent / "rabbitmq-env").touch()
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "rabbitmq-server").symlink_to(wrapper)
    real = write_script(tmp_path / "lib" / "rabbitmq-server", "#!/bin/sh\n")
    (real.parent / "rabbitmq-env").touch()
    assert nodes.find_server(str(tmp_path / "sbin"), [tmp_path / "lib"]) == real


def test_a_link_to_the_script_is_followed(tmp_path: Path) -> None:
    """A link of the same name on the PATH leads to the script."""
    real = write_script(tmp_path / "lib" / "rabbitmq-server", "#!/bin/sh\n")
    (real.parent / "rabbitmq-env").touch()
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "rabbitmq-server").symlink_to(real)
    assert nodes.find_server(str(tmp_path / "sbin"), []) == real


def test_no_script_is_none(tmp_path: Path) -> None:
    """Where there is no server, none is found."""
    assert nodes.find_server(str(tmp_path), [tmp_path / "missing"]) is None


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin/rabbitmq-server", "node-3.10"),
        ("/opt/homebrew/Cellar/rabbitmq/4.1.0/sbin/rabbitmq-server", "node-4.1"),
        ("/opt/broker/sbin/rabbitmq-server", "node"),
    ],
)
def test_a_node_is_labelled_by_its_version(path: str, label: str) -> None:
    """The label has the version where the path of the installation tells it."""
    assert nodes.label_of(Path(path)) == label


def test_a_node_that_ends_is_an_error_with_its_log(tmp_path: Path) -> None:
    """The error shows the end of the log and where it is kept, and nothing is left running."""
    bin_ = tmp_path / "bin"
    write_script(bin_ / "erl", "#!/bin/sh\n")
    listen = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[2])))"
    accept = "while True: s.accept()[0].close()"
    write_script(bin_ / "epmd", f"#!{sys.executable}\n{listen}\n{accept}\n")
    server = write_script(bin_ / "rabbitmq-server", "#!/bin/sh\necho the disk is full; exit 7\n")
    with pytest.raises(BrokerStartError) as caught:
        nodes.NodeBroker(server, {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"})
    text = str(caught.value)
    assert "ended with 7" in text
    assert "the disk is full" in text
    (log,) = [Path(line[4:]) for line in text.splitlines() if line.startswith("--- ")]
    assert log.read_text() == "the disk is full\n"
    assert not list(log.parent.glob("*.pid"))
    shutil.rmtree(log.parent)
