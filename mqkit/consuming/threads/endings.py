"""Makes of whatever ends a run an error that a future can hold and a policy can judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mqkit.errors import HandlerAbortedError
from mqkit.logging.error_texts import error_type
from mqkit.outcome import instruction


def aborted(error: BaseException) -> HandlerAbortedError:
    """Make a failure that the policy can judge: tenacity's default retries `Exception` only."""
    return HandlerAbortedError(
        f"the handler ended with {error_type(error)}; it, or something that it awaited, was "
        "cancelled or left"
    )


def is_thrown_away(error: BaseException) -> bool:
    """Whether Python throws the running coroutine away, rather than a handler raising this.

    A coroutine that is not run to its end gets GeneratorExit, and may not go on. No task runs then:
    those of a loop that runs are held by it.
    """
    if not isinstance(error, GeneratorExit):
        return False
    try:
        return asyncio.current_task() is None
    except RuntimeError:
        return True


def told_by_future(run: Callable[[], Any]) -> Any:
    """Run a function, and raise only what a future can hold.

    A future with a StopIteration would never be done, and GeneratorExit throws away the coroutine
    that waits for it.

    :raises RuntimeError: it ended with StopIteration; a coroutine's makes the same (PEP 479)
    :raises HandlerAbortedError: it ended with what is no `Exception`
    """
    try:
        return run()
    except StopIteration as error:
        raise RuntimeError(f"the handler raised {error_type(error)}") from error
    except Exception:
        raise
    except BaseException as error:
        if instruction(error) is not error:
            raise
        raise aborted(error) from error
