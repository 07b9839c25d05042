"""Names the extra to install where an optional library is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mqkit.errors import MissingExtraError


@contextlib.contextmanager
def needs_extra(extra: str, what: str, *libraries: str) -> Iterator[None]:
    """Turn the failed import of an extra's library into an error that says how to install it.

    The import of any other module fails as it does without this: it is a mistake and no choice.

    :param what: what needs the libraries, as the error begins
    :param libraries: their names at the top of site-packages
    :raises MissingExtraError: one of them is not installed
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in libraries:
            raise
        raise MissingExtraError(
            f"{what} needs a library that is not installed ({error}): pip install 'mqkit[{extra}]'",
            name=error.name,
        ) from error
