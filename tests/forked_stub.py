"""Stands in a shell's place of `python -m mqkit`: has it forked, and is there until it has ended.

    python -ISs forked_stub.py ADDRESS -m mqkit ...

It imports nothing of what Python starts with, and takes 20 ms where mqkit takes 0.8 s.
"""

import json
import os
import signal
import socket
import struct
import sys

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
NUMBER = struct.Struct("!q")


def main() -> int:
    """Ask for a fork, pass signals on to it, and return its exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    told = socket.socket(socket.AF_UNIX)
    told.connect(sys.argv[1])
    request = {
        "arguments": sys.argv[2:],
        "cwd": os.getcwd(),  # noqa: PTH109 - pathlib takes as long as all the rest
        "env": dict(os.environ),
        "group": -1,
    }
    words = json.dumps(request).encode()
    socket.send_fds(told, [NUMBER.pack(len(words))], [0, 1, 2])
    told.sendall(words)
    (pid,) = NUMBER.unpack(told.recv(NUMBER.size, socket.MSG_WAITALL))
    for number in FORWARDED:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    (status,) = NUMBER.unpack(told.recv(NUMBER.size, socket.MSG_WAITALL))
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code  # as a shell has it for what a signal ended


if __name__ == "__main__":
    sys.exit(main())
