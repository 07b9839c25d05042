"""Finds the service that a command line names, or says what was probably meant."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path, PurePath
from types import FrameType, TracebackType

from mqkit.errors import MqkitError, ServiceNotFoundError
from mqkit.registration.service import Service

_OURS = str(Path(__file__).parent.parent)
"""The folder of mqkit, whose frames tell an application's author nothing."""

_PYTHONS = sysconfig.get_paths()["stdlib"]
"""The folder of Python's own library, through which an error of mqkit's may pass."""

_INSTALLED = "site-packages"
"""The folder inside of that, with the packages of others."""


class ServiceImportError(MqkitError):
    """The service's module cannot be imported; a note has the traceback of its own frames."""


def load_service(spec: str) -> Service:
    """Import the service at `MODULE:SERVICE`; modules of the current directory are found too.

    An error of mqkit's that the import raises gets a note with the line that it comes from.

    :raises ServiceNotFoundError: no such module, no such name in it, or not a service
    :raises ServiceImportError: the module raised an error that is not mqkit's
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module_name, colon, attribute = spec.partition(":")
    is_path = module_name.endswith(".py") or "/" in module_name or "\\" in module_name
    if not (module_name and colon and attribute) or module_name.startswith(".") or is_path:
        raise ServiceNotFoundError(f"{spec!r} is not MODULE:SERVICE; {_guess(spec)}")
    try:
        module = importlib.import_module(module_name)
    except MqkitError as error:
        if place := _place(error.__traceback__):
            error.add_note(place)
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _import_error(module_name, error) from error
        raise ServiceNotFoundError(
            f"there is no module {error.name!r} (looked from {here} and the installed packages)"
            f"{_nearby(error.name)}"
        ) from error
    except Exception as error:
        raise _import_error(module_name, error) from error
    service = getattr(module, attribute, None)
    if isinstance(service, Service):
        return service
    names = services_of(vars(module).items())
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, names, n=1) or names
        raise ServiceNotFoundError(
            f"module {module_name!r} has no {attribute!r}"
            + (f"; did you mean {module_name}:{near[0]}?" if near else ", and no Service at all")
        )
    raise ServiceNotFoundError(
        f"{spec} is {type(service).__name__}, not a Service"
        + (f"; did you mean {module_name}:{names[0]}?" if names else "")
    )


def services_of(members: Iterable[tuple[str, object]]) -> list[str]:
    """Name the services among a module's members."""
    return [name for name, value in members if isinstance(value, Service)]


def _guess(spec: str) -> str:
    """Guess what was meant by what is not MODULE:SERVICE: a module alone, or a file."""
    module_name, _, attribute = spec.partition(":")
    path = PurePath(module_name.replace("\\", "/").removesuffix(".py"))
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    module_name = ".".join(part for part in path.parts if part != path.anchor).lstrip(".")
    parent, _, last = module_name.rpartition(".")
    for name, wanted in ((module_name, attribute), (parent, last)):
        # It is imported for a hint; what is wrong with it is told once it is named rightly.
        with contextlib.suppress(Exception):
            names = services_of(vars(importlib.import_module(name)).items())
            near = difflib.get_close_matches(wanted, names, n=1) or names
            if near:
                return f"did you mean {name}:{near[0]}?"
    return f"for example {module_name or 'shop'}:{attribute or 'service'}"


def _nearby(missing: str) -> str:
    """Say which module was probably meant by one that is not there, or where it is."""
    parent, _, last = missing.rpartition(".")
    folders = list(sys.modules[parent].__path__) if parent else [str(Path.cwd())]
    names = [found.name for found in pkgutil.iter_modules(folders)]
    if near := difflib.get_close_matches(last, names, n=1):
        return f"; did you mean {f'{parent}.' if parent else ''}{near[0]}?"
    if not parent:
        for folder in sorted(path for path in Path.cwd().iterdir() if path.is_dir()):
            if (folder / f"{last}.py").is_file() or (folder / last / "__init__.py").is_file():
                return f"; there is one in {folder.name}/: run the command from there"
    return ""


def _import_error(module_name: str, error: Exception) -> ServiceImportError:
    """Say what the module's import raised, with the traceback from its own frames on."""
    told = traceback.TracebackException.from_exception(error)
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if _is_applications(frame.filename)]
    )
    failed = ServiceImportError(f"module {module_name!r} cannot be imported:")
    failed.add_note("".join(told.format()).rstrip())
    return failed


def _place(trace: TracebackType | None) -> str | None:
    """Return the innermost line of the application's own: 'shop.py, line 3: @service.handler'."""
    place = None
    for frame, line in traceback.walk_tb(trace):
        name = frame.f_code.co_filename
        if _is_applications(name) and (not name.startswith(_PYTHONS) or _INSTALLED in name):
            place = frame, line
    return None if place is None else _line_of(*place)


def _line_of(frame: FrameType, line: int) -> str:
    (found,) = traceback.StackSummary.extract(iter([(frame, line)]))
    path = Path(found.filename)
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}, line {line}: {found.line}"


def _is_applications(filename: str) -> bool:
    """Tell whether a frame's file is neither mqkit's nor a part of the import machinery."""
    return not filename.startswith((_OURS, "<")) and filename != importlib.__file__
