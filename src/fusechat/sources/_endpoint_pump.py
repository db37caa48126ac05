"""From an iterator of rows to servers and back: an event loop in a thread of its own.

Rows are pulled by another thread (the pull may wait for others), only a little ahead of what is in
flight; answers are given as they come.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fusechat.errors import PartError
from fusechat.records import Request, Response
from fusechat.sources._endpoint_client import Client
from fusechat.sources._endpoint_watch import Watch

if TYPE_CHECKING:
    from fusechat.sources.endpoint import Endpoint

LULL = 0.02
"""Seconds that a begun group waits for more samples of its prompt."""
_AHEAD = 64
"""Rows pulled ahead of what is in flight, at least."""
_END = object()


class Pump:
    """The opened part: a function from rows to answers, with `notes`."""

    def __init__(self, part: Endpoint) -> None:
        key = os.environ.get(part.api_key_env, "").strip() if part.api_key_env else None
        self._part = part
        self._client = Client(part, key)
        self._watch = Watch(part.temperature, part.model)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.notes: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._do(self._client.start())
            servers = self._do(self._client.look())
            self._check_servers(servers)
        except BaseException:
            self.close()
            raise
        self.notes["servers"] = servers
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Close all connections and end the thread."""
        self._do(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __call__(self, rows: Iterator[Request]) -> Iterator[Response]:
        """Answer all rows, in any order."""
        out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        intake = Intake(rows, self._loop, max(_AHEAD, 2 * self._part.samples_per_request))
        ended = threading.Event()
        task = self._do(self._begin(intake, out, ended))
        intake.start()
        try:
            while (found := out.get()) is not _END:
                if isinstance(found, BaseException):
                    raise found
                yield from found
        finally:
            self._loop.call_soon_threadsafe(task.cancel)
            ended.wait()
            intake.stop()
            self._note()

    async def _begin(
        self, intake: Intake, out: queue.SimpleQueue[Any], ended: threading.Event
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(self._drive(intake, out))
        task.add_done_callback(lambda _: ended.set())
        return task

    async def _drive(self, intake: Intake, out: queue.SimpleQueue[Any]) -> None:
        """Keep as many groups in flight as the part allows, until there are no more rows."""
        tasks: set[asyncio.Task[None]] = set()
        slots = asyncio.Semaphore(self._part.concurrency)

        def over(task: asyncio.Task[None]) -> None:
            slots.release()
            tasks.discard(task)
            if not task.cancelled() and (error := task.exception()):
                out.put(error)

        def give(rows: Sequence[Response]) -> None:
            if passed := self._watch.check(rows):
                out.put(passed)

        try:
            while True:
                await slots.acquire()
                while out.qsize() > 2 * self._part.concurrency:
                    await asyncio.sleep(0.005)
                group = await intake.group(self._client.most_samples)
                if not group:
                    break
                self._watch.expect(group)
                task = asyncio.create_task(self._client.answer(group, give))
                tasks.add(task)
                task.add_done_callback(over)
            while tasks:
                await asyncio.wait(tasks)
                await asyncio.sleep(0)
            if held := self._watch.release():
                out.put(held)
            out.put(intake.error or _END)
        except Exception as error:  # noqa: BLE001 - raised where the answers are read
            out.put(error)
        finally:
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _check_servers(self, servers: dict[str, Any]) -> None:
        lanes = self._client.lanes
        if all(lane.refused_until for lane in lanes):
            raise PartError(f"{lanes[0].url}: {lanes[0].reason}.")
        for url, found in servers.items():
            if found.get("context", self._part.max_new_tokens + 1) <= self._part.max_new_tokens:
                raise PartError(
                    f"{url} serves '{self._part.model}' with a context of {found['context']} "
                    f"tokens; max_new_tokens {self._part.max_new_tokens} leaves no room for a "
                    "prompt. Lower it, or start the server with a longer context."
                )

    def _note(self) -> None:
        """What is known only when rows were answered."""
        counts = self._client.counts + self._watch.counts
        self.notes["counts"] = {name: n for name, n in sorted(counts.items()) if n}
        ignoring = [lane.url for lane in self._client.lanes if lane.ignores_n]
        if ignoring:
            self.notes["ignore_n"] = ignoring
        if self._client.fingerprints:
            self.notes["fingerprints"] = dict(self._client.fingerprints.most_common(20))

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Intake:
    """Rows as they are pulled, cut into groups of adjacent samples of one prompt."""

    def __init__(
        self, rows: Iterator[Request], loop: asyncio.AbstractEventLoop, ahead: int
    ) -> None:
        self._rows, self._loop, self._ahead = rows, loop, ahead
        self._ready: deque[Request] = deque()
        self._change = threading.Condition()
        self._more = asyncio.Event()
        self._stopped = self._ended = self._idle = False
        self._thread = threading.Thread(target=self._pull, daemon=True)
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin to pull."""
        self._thread.start()

    def stop(self) -> None:
        """Pull no more; a pull that is under way is waited for a little."""
        with self._change:
            self._stopped = True
            self._change.notify()
        self._thread.join(timeout=5)

    async def group(self, most: int) -> list[Request]:
        """The next group, at most so many rows; empty when there are no more."""
        while True:
            with self._change:
                if group := self._cut(most, whole=not self._ended):
                    return group
                if self._ended and not self._ready:
                    return []
                begun = bool(self._ready)
                self._idle = True
                self._more.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LULL if begun else None):
                    await self._more.wait()
                continue
            with self._change:
                if group := self._cut(most, whole=False):
                    return group

    def _cut(self, most: int, whole: bool) -> list[Request]:
        """Take a group; with `whole` only one to which nothing more can come."""
        size = group_size(self._ready, most)
        if not size or (whole and size == len(self._ready) and size < most):
            return []
        group = [self._ready.popleft() for _ in range(size)]
        self._change.notify()
        return group

    def _pull(self) -> None:
        try:
            for row in self._rows:
                with self._change:
                    while len(self._ready) >= self._ahead and not self._stopped:
                        self._change.wait()
                    if self._stopped:
                        return
                    self._ready.append(row)
                    self._tell()
        except BaseException as error:  # noqa: BLE001 - raised where the answers are read
            self.error = error
        finally:
            with self._change:
                self._ended = True
                self._idle = True
                self._tell()

    def _tell(self) -> None:
        if self._idle:
            self._idle = False
            with suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._more.set)


def group_size(rows: Sequence[Request] | deque[Request], most: int) -> int:
    """How many rows from the first on are one request: one prompt, seeds and indices adjacent."""
    if not rows:
        return 0
    first, size = rows[0], 0
    for row in rows:
        if size == most or not _follows(first, row, size):
            break
        size += 1
    return size


def _follows(first: Request, row: Request, places: int) -> bool:
    return (
        row.prompt.id == first.prompt.id
        and row.seed == first.seed + places
        and row.index == first.index + places
    )
