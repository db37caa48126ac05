"""Keeps a server program: no process of it outlives the one that wanted it.

Run as a script of its own (it imports nothing of ours): `python -I keeper.py LOG COMMAND ...`,
with a pipe as standard input. It starts the command in a session of its own, with its output in
the file LOG, and ends it when the pipe closes, which the kernel does when the process that holds
the other end dies, in whatever way. As the "subreaper" of all below it (Linux), it also finds
those that forked twice or began a session of their own. On its standard output it says
`pid N`, then, when the command has ended, `exit STATUS` (negative: the signal), or `failed WHY`.
A line `stop SECONDS` on standard input asks the command to end, and gives it that long.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_TURN = 0.2
_LEFT_OVER = 1.0
"""Seconds that its children have when the command itself has ended."""


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _reap(server: int) -> int | None:
    """Take in all children that have ended; the status of `server` where it is among them."""
    status = None
    with suppress(ChildProcessError):
        while True:
            pid, code = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == server:
                status = os.waitstatus_to_exitcode(code)
    return status


def descendants(root: int) -> list[int]:
    """Process ids of all below `root`, from /proc; empty where there is none."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            fields = entry.read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _signal_all(server: int, number: int) -> None:
    with suppress(OSError):
        os.killpg(server, number)
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            os.kill(pid, number)


def _any_left() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _end(server: int, status: int | None, grace: float) -> int | None:
    """SIGTERM to the command's group, SIGKILL to all that is left after `grace` seconds."""
    deadline = time.monotonic() + grace
    if status is None and grace > 0:
        with suppress(OSError):
            os.killpg(server, signal.SIGTERM)
    while _any_left():
        if time.monotonic() >= deadline:
            _signal_all(server, signal.SIGKILL)
        if (found := _reap(server)) is not None:
            status = found
        if status is not None:
            deadline = min(deadline, time.monotonic() + _LEFT_OVER)
        time.sleep(0.05)
    return status


def _watch(server: int, parent: int) -> tuple[int | None, float]:
    """Wait until the command ends, or is to be ended: its status if known, and how long it has."""
    while True:
        if (status := _reap(server)) is not None:
            return status, 0.0
        if os.getppid() != parent:
            return None, 0.0
        if select.select([0], [], [], _TURN)[0]:
            line = os.read(0, 200).decode(errors="replace").split()
            return None, float(line[1]) if line[:1] == ["stop"] else 0.0


def _tell(text: str) -> None:
    with suppress(OSError):
        os.write(1, f"{text}\n".encode())


def main(log: str, command: list[str]) -> None:
    """Start the command and stay until nothing of it is left."""
    parent = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def begin() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    try:
        with open(log, "ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=begin,  # noqa: PLW1509 - this process has one thread
            )
    except OSError as error:
        _tell(f"failed {error}")
        return
    _tell(f"pid {process.pid}")
    status, grace = _watch(process.pid, parent)
    status = _end(process.pid, status, grace)
    process.returncode = 0 if status is None else status  # taken in by _reap
    _tell(f"exit {0 if status is None else status}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
