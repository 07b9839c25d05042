"""Serves a WSGI application as a prefork server does: made once, forked, threads in each worker.

    python -m tests.integration.examples.prefork EXPRESSION FIRST

EXPRESSION makes the application, such as `flask_app:create_app()`. FIRST is run after that and
before the forks: what an application does in the parent. It prints its port, and ends with all
workers at SIGTERM.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

WORKERS = 2


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


def serve(application: Any, listener: socket.socket) -> None:
    """Be a worker: answer until SIGTERM; each answer says which worker it is of."""

    def with_worker(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], *rest)

        answer: Iterable[bytes] = application(environ, start)
        return answer

    server = _Server(("127.0.0.1", 0), _Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_name, server.server_port = listener.getsockname()
    server.setup_environ()
    server.set_app(with_worker)
    server.serve_forever(0.05)


def stop(*_: object) -> None:
    """End as a worker of a prefork server does at SIGTERM."""
    sys.exit(0)


def main(expression: str, first: str) -> None:
    """Make the application, fork the workers, and wait for SIGTERM."""
    module, _, rest = expression.partition(":")
    namespace = vars(importlib.import_module(module))
    application = eval(rest, namespace)  # noqa: S307
    exec(first, {**namespace, "application": application})  # noqa: S102
    listener = socket.create_server(("127.0.0.1", 0))
    workers = []
    for _ in range(WORKERS):
        worker = os.fork()
        if worker == 0:
            signal.signal(signal.SIGTERM, stop)
            serve(application, listener)
        workers.append(worker)

    def end(*_: object) -> None:
        for worker in workers:
            os.kill(worker, signal.SIGTERM)
        codes = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
        sys.exit(max(map(abs, codes)))

    signal.signal(signal.SIGTERM, end)
    print(listener.getsockname()[1], flush=True)  # noqa: T201
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
