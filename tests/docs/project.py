"""The folder that a page's blocks run in, with its broker and the commands that are found there."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from mqkit.embedded import ServerThread
from mqkit.testing.brokers import probe
from tests.docs.pages import Block
from tests.forked import in_shell

PORT = "5672"
URL = "amqp://guest:guest@localhost/"
"""What a page writes for its broker."""

_ALSO = ("localhost:5672", "127.0.0.1:5672", "--port 5672", "port=5672")

COMMANDS = {
    "pytest": 'exec {python} -m pytest "$@"',
    "pip": 'exec {python} {pip} "$@"',
    # A virtual environment would take longer than all the rest of a page, and nothing is put in it.
    "python": """
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && : > "$3/bin/activate" ;;
"-m pip") shift 2; exec {python} {pip} "$@" ;;
*) exec {python} "$@" ;;
esac""",
}
COMMANDS["python3"] = COMMANDS["python"]
"""What a user of the installed package has on the PATH."""

PYTEST = {
    "PYTEST_ADDOPTS": "-p no:cacheprovider -p mqkit.testing.plugin",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
"""A page's tests run with what `mqkit[testing]` brings, and with nothing of this project's."""


class Project:
    """An empty folder, a port, and an environment; a context manager."""

    def __init__(self, home: Path, blocks: list[Block]) -> None:
        self.folder = home / "project"
        self.folder.mkdir()
        self._bin = home / "bin"
        self._bin.mkdir()
        self._blocks = blocks
        (port,) = probe.free_ports(1)
        self._port = str(port)
        self._url = f"amqp://guest:guest@127.0.0.1:{port}/"
        self._stack = ExitStack()
        self.environment = self._environment(home)

    def __enter__(self) -> Self:
        for name, script in COMMANDS.items():
            command = self._bin / name
            python, pip = shlex.quote(sys.executable), Path(__file__).with_name("pip_stub.py")
            command.write_text(
                "#!/bin/sh\n" + script.format(python=python, pip=shlex.quote(str(pip))) + "\n"
            )
            command.chmod(command.stat().st_mode | stat.S_IXUSR)
        if any("mqkit " in block.text for block in self._blocks if block.language == "console"):
            in_shell(self._bin / "mqkit")
        if self._needs_broker():
            self._stack.enter_context(ServerThread(port=int(self._port)))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def own(self, text: str) -> str:
        """Put this page's broker in the place of the one that it writes of."""
        for each in _ALSO:
            text = text.replace(each, each.replace(PORT, self._port))
        return text.replace(URL, self._url)

    def write(self, name: str, text: str, *, more: bool) -> Path:
        """Write a file of the page, or add to it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() + "\n\n" if more else "") + text)
        return path

    def _needs_broker(self) -> bool:
        texts = [f"{block.before}\n{block.text}" for block in self._blocks if block.not_run is None]
        consoles = [block.text for block in self._blocks if block.language == "console"]
        if any("mqkit broker" in text or "--embedded" in text for text in consoles):
            return False
        return any(word in text for text in texts for word in (URL, *_ALSO))

    def _environment(self, home: Path) -> dict[str, str]:
        return {
            "PATH": f"{self._bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "TERM": "dumb",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            **PYTEST,
        }
