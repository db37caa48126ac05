"""The local executor: warm worker processes on this machine, fed batch by batch.

Workers live as long as the executor, so that imports are paid once a run; each opens the
part of the unit at hand. A worker that dies costs nothing but the rows that it held, which are
tried again half by half; a row that kills a worker again, alone, is kept with that as its error.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from fusechat.errors import PartError
from fusechat.executors.rows import Batch, RowOut, failure
from fusechat.parts import RowPart, Where

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class _Worker:
    """One worker process and our end of its socket."""

    def __init__(self, threads: int) -> None:
        ours, theirs = socket.socketpair()
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
        environment |= {"TOKENIZERS_PARALLELISM": "false"}
        # -P: a user's queue.py in the current folder is not the standard library's.
        command = [sys.executable, "-P", "-m", "fusechat.executors.worker", str(theirs.fileno())]
        paths = os.pathsep.join(entry for entry in sys.path if entry)
        # A Ctrl-C goes to the worker, too; it is held back there until the worker ignores it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment | {"PYTHONPATH": paths},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.connection = Connection(ours.detach())
        self.connection.send(("path", sys.path))
        self.held: dict[str, Any] = {}

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


class _Queue:
    """Batches to hand out: first those that a dead worker held, then new ones as pulled."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.again: deque[Batch] = deque()
        self._new = iter(batches)
        self.empty = False
        """Whether the new ones have come to their end."""

    def next(self) -> Batch | None:
        """The next batch; None where there is none now."""
        if self.again:
            return self.again.popleft()
        batch = next(self._new, None)
        self.empty = batch is None
        return batch

    def first(self, most: int) -> int:
        """How many workers, at most `most`, have a batch; those are pulled."""
        self.again.extend(itertools.islice(self._new, most))
        return len(self.again)


class LocalExecutor:
    """Computes row-wise work in worker processes of this machine. Close it when done."""

    def __init__(self, processes: int | None = None, threads: int = 1) -> None:
        self.processes = processes or max(1, len(os.sched_getaffinity(0)) // threads)
        self.threads = threads
        self._workers: list[_Worker] = []
        self._jobs = itertools.count()
        self._notes: list[Mapping[str, Any]] = []

    def map(
        self, part: RowPart, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[RowOut], None, None]:
        """Compute every row once; see `RowExecutor.map`."""
        job = next(self._jobs)
        self._notes = []
        todo = _Queue(batches)
        workers = self._hire(todo.first(self.workers_for(part, where)))
        for worker in workers:
            self._open(worker, job, part, where)
        try:
            yield from self._feed(workers, todo, job, part, where)
        except BaseException:
            self.close()
            raise

    def workers_for(self, part: RowPart, where: Where) -> int:
        """How many workers open a part: each holds a model of its own, and a GPU is shared.

        A part that starts a server has one whatever the cluster file says: a second server would
        want the same GPUs, and one takes requests of all.
        """
        if part.io_bound and part.on_device:
            return 1
        alone = part.io_bound or (part.on_device and where.on_accelerator())
        return min(where.processes or (1 if alone else self.processes), self.processes)

    def notes(self) -> Sequence[Mapping[str, Any]]:
        """What the workers of the last `map` said of the part that they opened."""
        return tuple(self._notes)

    def close(self) -> None:
        """Stop all workers."""
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def _hire(self, count: int) -> list[_Worker]:
        while len(self._workers) < count:
            self._workers.append(_Worker(self.threads))
        return self._workers[:count]

    def _open(self, worker: _Worker, job: int, part: RowPart, where: Where) -> None:
        worker.held = {}
        worker.connection.send(("open", job, part, where))

    def _feed(
        self, workers: list[_Worker], todo: _Queue, job: int, part: RowPart, where: Where
    ) -> Iterator[Sequence[RowOut]]:
        live = {worker.connection: worker for worker in workers}
        while live:
            for ready in wait(list(live)):
                worker = live[ready]  # type: ignore[index]
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    del live[worker.connection]
                    yield from self._bury(worker, todo)
                    if todo.again or not todo.empty:
                        fresh = self._replace(worker)
                        self._open(fresh, job, part, where)
                        live[fresh.connection] = fresh
                    continue
                if message[0] == "rows":
                    yield self._received(worker, message[2])
                elif message[0] == "want":
                    self._hand_out(worker, todo, job)
                elif message[0] == "note":
                    self._notes.append(message[2])
                elif message[0] == "done":
                    del live[worker.connection]
                    _raise_if_failed(part, message[2])

    def _hand_out(self, worker: _Worker, todo: _Queue, job: int) -> None:
        batch = todo.next()
        if batch is None:
            worker.connection.send(("end", job))
            return
        worker.held |= {row.made_from: (row, batch) for row in batch.rows}
        worker.connection.send(("batch", job, batch.rows, batch.attempt > 0))

    @staticmethod
    def _received(worker: _Worker, rows: Sequence[RowOut]) -> Sequence[RowOut]:
        for row in rows:
            worker.held.pop(row.made_from, None)
        return rows

    @staticmethod
    def _bury(worker: _Worker, todo: _Queue) -> Iterator[Sequence[RowOut]]:
        """Requeue what a dead worker held, in halves; give up on a row that killed it alone."""
        status = worker.process.wait()
        if not worker.held:
            raise PartError(f"a worker process died before it had work (status {status}).")
        # Its newest batch is the one with most attempts: a suspect has a call of its own.
        last = max((batch for _, batch in worker.held.values()), key=lambda batch: batch.attempt)
        rows = [row for row, _ in worker.held.values()]
        retries = Batch(last.rows, last.attempt).retries(rows)
        todo.again.extend(retries)
        if not retries:
            yield [failure(rows[0], f"the worker process died twice over it (status {status})")]

    def _replace(self, worker: _Worker) -> _Worker:
        worker.stop()
        fresh = _Worker(self.threads)
        self._workers[self._workers.index(worker)] = fresh
        return fresh


def _raise_if_failed(part: RowPart, outcome: tuple[str, bool] | None) -> None:
    if outcome is None:
        return
    text, mendable = outcome
    raise PartError(text if mendable else f"{part.part_name()} failed:\n{text}")
