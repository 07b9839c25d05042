"""Finds where in the application's own code an error was raised."""

from __future__ import annotations

import functools
import os
import site
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

MAX_FRAMES = 10_000
"""Frames of a traceback that are looked at."""


def place_of(error: BaseException, package: str | None = None) -> str | None:
    """Return the innermost frame of the application's own code: `shop/ledger.py:42 in post`.

    Its own is what is neither mqkit's nor Python's nor installed; and what is in the handler's
    package, which may be installed, too. Where there is none of it, what was installed is named.
    A file under the current directory is named from there.

    :param package: the top package of the handler's module
    :return: None where the error was raised in mqkit, or nowhere
    """
    own: tuple[FrameType, int] | None = None
    installed: tuple[FrameType, int] | None = None
    for frame, line in _frames(error):
        if _is_own(frame, package):
            own = frame, line
        elif not _is_under(frame.f_code.co_filename, (*_python(), _mqkit())):
            installed = frame, line
    found = own or installed
    if found is None:
        return None
    code = found[0].f_code
    name = code.co_qualname.rpartition("<locals>.")[2]
    return f"{_from_here(code.co_filename)}:{found[1]} in {name}"


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    try:
        # Not `error.__traceback__`: its class may say anything of that.
        traceback: TracebackType | None = _TRACEBACK.__get__(error)
    except BaseException:  # noqa: BLE001 - no error of an application's is one of ours
        return
    for _ in range(MAX_FRAMES):
        if traceback is None:
            return
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


_TRACEBACK = BaseException.__dict__["__traceback__"]


def _is_own(frame: FrameType, package: str | None) -> bool:
    name = frame.f_globals.get("__name__")
    if package is not None and isinstance(name, str) and name.partition(".")[0] == package:
        return True
    file = frame.f_code.co_filename
    return not (
        file.startswith("<")
        or "/site-packages/" in file
        or "/dist-packages/" in file
        or _is_under(file, (*_installed(), *_python(), _mqkit()))
    )


def _is_under(file: str, folders: tuple[str, ...]) -> bool:
    return file.startswith("<") or file.startswith(folders)


@functools.cache
def _mqkit() -> str:
    return f"{Path(__file__).parent.parent}{os.sep}"


@functools.cache
def _python() -> tuple[str, ...]:
    """Return the folders of Python's own modules; those of what is installed may be in them."""
    paths = sysconfig.get_paths()
    return tuple({f"{paths[name]}{os.sep}" for name in ("stdlib", "platstdlib")})


@functools.cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths["purelib"], paths["platlib"], *site.getsitepackages()}
    return tuple(f"{folder}{os.sep}" for folder in folders)


def _from_here(file: str) -> str:
    try:
        here = f"{Path.cwd()}{os.sep}"
    except OSError:  # the directory is gone
        return file
    return file.removeprefix(here)
