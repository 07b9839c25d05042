"""The package of an earlier commit, in a folder of its own."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mqkit.errors import ConfigurationError
from tests.benchmarks.side_by_side.registry import ROOT


@contextlib.contextmanager
def earlier_package(revision: str) -> Iterator[Path]:
    """A folder with `mqkit` as it was at a commit, which goes in the end.

    Not a worktree of git's, which would leave a note in the repository if this is killed.

    :raises ConfigurationError: there is no such commit here, or no repository
    """
    commit = named(revision)
    packed = _git("archive", "--format=tar", commit, "mqkit").stdout
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def named(revision: str) -> str:
    """The hash of a commit.

    :raises ConfigurationError: there is none of this name here, or no repository
    """
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode:
        said = found.stderr.decode().strip()
        raise ConfigurationError(
            f"--before {revision}: there is no such commit{f' ({said})' if said else ''}; "
            "name one that `git log` shows, or leave it out"
        )
    return found.stdout.decode().strip()


def _git(*words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", *words],  # noqa: S607 - whichever git is here
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigurationError(
            "--before takes the earlier package from the repository, by git, which is not here: "
            "leave it out"
        ) from None
