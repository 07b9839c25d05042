"""`python -m handlers.running.child ...` is `python -m mqkit ...` that stops where its parent ends.

Who is killed (SIGKILL) stops nothing that it has started. So this one's input is a pipe that its
parent holds and never writes to: the kernel closes it with the parent, on each system.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def stop_with(pipe: int) -> None:
    """Stop this process (SIGTERM) once its parent, at the other end of a pipe, has ended."""
    # A thread: there is no event loop yet, and later it may stand still.
    threading.Thread(target=_wait, args=(pipe,), name="stop with parent", daemon=True).start()


def _wait(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _take_input() -> int:
    """Return the standard input, of which what runs here sees nothing, nor what that starts."""
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return pipe


if __name__ == "__main__":
    stop_with(_take_input())
    runpy.run_module("mqkit", run_name="__main__", alter_sys=True)
