"""What runs inside a Ray actor: the worker of `worker.py` behind calls instead of a socket.

One thread opens the part and works through it; the run calls `exchange` again and again, which
hands messages in and carries out what has come up meanwhile. The messages are those of
`worker.py`, with ("open", job, pickled (part, where), environment) to begin.
"""

from __future__ import annotations

import os
import pickle
import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from fusechat.executors import worker

Message = tuple[Any, ...]


class _Mailbox:
    """The two queues of one job; to the worker's code they are its connection to the run."""

    def __init__(self, out: queue.SimpleQueue[Message]) -> None:
        self.incoming: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._out = out

    def recv(self) -> Message:
        return self.incoming.get()

    def send(self, message: Message) -> None:
        self._out.put(message)


class RowActor:
    """Opens one part at a time and computes the batches that it is handed."""

    def __init__(self) -> None:
        self._out: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._mailbox = _Mailbox(self._out)

    def exchange(self, messages: Sequence[Message], patience: float) -> list[Message]:
        """Take `messages`; give what has come up, waiting at most `patience` seconds for it."""
        for message in messages:
            if message[0] == "open":
                self._open(*message[1:])
            else:
                self._mailbox.incoming.put(message)
        found: list[Message] = []
        try:
            found.append(self._out.get(timeout=patience))
            while True:
                found.append(self._out.get_nowait())
        except queue.Empty:
            return found

    def _open(self, job: int, pickled: bytes, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._mailbox = _Mailbox(self._out)
        arguments = (self._mailbox, job, pickled)
        threading.Thread(target=_work, args=arguments, daemon=True).start()


def _work(mailbox: Any, job: int, pickled: bytes) -> None:
    outbox = worker._Outbox(mailbox)
    try:
        part, where = pickle.loads(pickled)
    except Exception as error:  # noqa: BLE001 - a user's module may fail in any way; it is told
        mend = (
            "Every node needs fusechat and the part's module: install them there, or put them on "
            "a path that all nodes share"
        )
        reason = f"an actor cannot load the part: {type(error).__name__}: {error}. {mend}."
        outbox.send(("done", job, (reason, True)))
        return
    outbox.send(("done", job, worker._try(mailbox, outbox, job, part, where)))
