"""One rank that `launch` started: does what it is sent, and says how it went.

Usage: rank_process FD, with the number of a socket to the process that started it.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

from fusechat.children import die_with_parent
from fusechat.errors import FusechatError
from fusechat.progress import Progress
from fusechat.training.ranks import leave_ranks


class _Sent(Progress):
    """Progress of rank 0, shown by the process that started it; of the others it is left out."""

    def __init__(self, connection: Connection, shown: bool) -> None:
        super().__init__("")
        self._connection, self._shown_there = connection, shown

    def start(self, total: int, what: str, done: int = 0) -> None:
        """See `Progress`."""
        self._send("start", total, what, done)

    def advance(self, count: int = 1) -> None:
        """See `Progress`."""
        self._send("advance", count)

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._send("note", text)

    def _send(self, *message: Any) -> None:
        if self._shown_there:
            self._connection.send(message)


def main() -> None:
    """Take the work, do it, send the result or the error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    die_with_parent(os.getppid())
    connection = Connection(int(sys.argv[1]))
    sys.path[:] = connection.recv()
    main_rank = os.environ["RANK"] == "0"
    try:
        target, arguments = pickle.loads(connection.recv_bytes())
        module, _, name = target.partition(":")
        function = getattr(importlib.import_module(module), name)
        result = function(arguments, _Sent(connection, main_rank))
        connection.send(("done", result if main_rank else None))
    except FusechatError as error:
        connection.send(("error", _portable(error)))
        sys.exit(1)
    except BaseException:  # noqa: BLE001 - sent to the process that watches, which raises
        traceback.print_exc()
        sys.stderr.flush()
        connection.send(("trace", traceback.format_exc()))
        sys.exit(1)
    leave_ranks()


def _portable(error: FusechatError) -> FusechatError:
    """The error as it arrives elsewhere; of a type that cannot travel, its text."""
    plain = FusechatError(str(error))
    plain.exit_code = error.exit_code
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever its own constructor raises
        return plain
    return copy if str(copy) == str(error) else plain


if __name__ == "__main__":
    main()
