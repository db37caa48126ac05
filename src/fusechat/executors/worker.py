"""A worker process: opens one part at a time and computes the batches that it is handed.

Started as `python -m fusechat.executors.worker FD`; speaks pickled messages over the
inherited socket `FD` with the run that started it, and dies with it. Messages to it:
`("path", entries)`, `("open", job, part, where)`, `("batch", job, rows, suspect)`,
`("end", job)`. Messages from it: `("want", job)`, `("rows", job, rows)`, `("note", job, notes)`
(what the opened part says of itself, see `RowPart.open`), `("done", job, text or None)`.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from fusechat.errors import FusechatError, SourceError
from fusechat.executors.rows import compute


def die_with_parent() -> None:
    """End this process when the one that started it ends, however it ends."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Outbox:
    """Sends finished rows as they come, grouped by whatever gathered meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._rows: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def send(self, message: tuple[Any, ...]) -> None:
        with self._lock:
            self._connection.send(message)

    def stream(self, job: int, rows: Iterator[Any]) -> None:
        """Send rows one by one as they are finished, several at once where they come fast."""
        sender = threading.Thread(target=self._drain, args=(job,))
        sender.start()
        try:
            for row in rows:
                self._rows.put(row)
        finally:
            self._rows.put(None)
            sender.join()

    def _drain(self, job: int) -> None:
        ended = False
        while not ended:
            group = [self._rows.get()]
            while not self._rows.empty():
                group.append(self._rows.get())
            ended = group[-1] is None
            if rows := [row for row in group if row is not None]:
                self.send(("rows", job, rows))


def _batches(connection: Connection, outbox: _Outbox, job: int) -> Iterator[tuple[list[Any], bool]]:
    while True:
        outbox.send(("want", job))
        message = connection.recv()
        if message[0] == "end":
            return
        yield message[2], message[3]


def _serve(connection: Connection, outbox: _Outbox, job: int, part: Any, where: Any) -> None:
    batches = _batches(connection, outbox, job)
    with part.open(where) as work:
        first = dict(getattr(work, "notes", None) or {})
        if first:
            outbox.send(("note", job, first))
        try:
            if part.cut([]) is None:
                _serve_stream(outbox, job, work, batches)
            else:
                for batch, _ in batches:
                    outbox.send(("rows", job, list(compute(work, batch))))
        finally:
            last = getattr(work, "notes", None) or {}
            late = {name: note for name, note in last.items() if first.get(name) != note}
            if late:
                outbox.send(("note", job, late))


def _serve_stream(
    outbox: _Outbox, job: int, work: Any, batches: Iterator[tuple[list[Any], bool]]
) -> None:
    """Stream batches into one call; a row that may kill this process gets a call of its own."""
    alone: list[Any] = []

    def rows() -> Iterator[Any]:
        for batch, suspect in batches:
            if suspect:
                alone.extend(batch)
                return
            yield from batch

    while True:
        outbox.stream(job, _streamed(work, rows()))
        if not alone:
            return
        outbox.stream(job, compute(work, alone))
        alone.clear()


def _streamed(work: Any, rows: Iterator[Any]) -> Iterator[Any]:
    """Stream all rows through one call; where that call fails, go on row by row."""
    asked: dict[str, Any] = {}

    def remember() -> Iterator[Any]:
        for row in rows:
            asked[row.made_from] = row
            yield row

    source = remember()
    while True:
        try:
            for out in work(source):
                asked.pop(out.made_from, None)
                yield out
        except SourceError:
            raise
        except Exception:
            again = list(asked.values())
            if not again:  # it failed before it took a row: the part is broken, not a row
                raise
            asked.clear()
            for row in again:
                yield from compute(work, [row])
            source = remember()
            continue
        return


def main() -> None:
    """Serve until the run ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    die_with_parent()
    connection = Connection(int(sys.argv[1]))
    with suppress(EOFError, ConnectionError):  # the run has ended
        _answer(connection, _Outbox(connection))


def _answer(connection: Connection, outbox: _Outbox) -> None:
    while True:
        try:
            message = connection.recv()
        except (AttributeError, ImportError) as error:  # a part whose class is not to be found
            mend = "Put its class into a module of its own, not into a script or a notebook"
            outbox.send(("done", -1, (f"a worker cannot load the part: {error}. {mend}.", True)))
            continue
        if message[0] == "path":
            sys.path[:] = message[1]
        elif message[0] == "open":
            _, job, part, where = message
            outbox.send(("done", job, _try(connection, outbox, job, part, where)))


def _try(
    connection: Connection, outbox: _Outbox, job: int, part: Any, where: Any
) -> tuple[str, bool] | None:
    try:
        _serve(connection, outbox, job, part, where)
    except FusechatError as error:
        return str(error), True
    except Exception:  # noqa: BLE001 - sent to the run, which raises it
        return traceback.format_exc(), False
    return None


if __name__ == "__main__":
    main()
