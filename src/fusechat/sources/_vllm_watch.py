"""A server that is started again when it dies, and the rows that it took with it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fusechat.errors import PartError, SourceError
from fusechat.parts import Where, Work
from fusechat.sources._vllm_command import EngineSettings, serve_command
from fusechat.sources._vllm_server import Server, find_program, free_port

_PORTS_TRIED = 3

_TURN = 0.2
_HUNG_SECONDS = 120.0
"""A server that runs and gives no sign of health for so long is ended and started again."""


class Watch:
    """Starts a server again in the background, on its port, at most `restarts` times."""

    def __init__(self, server: Server, restarts: int, start_timeout: float) -> None:
        self.server = server
        self.deaths = 0
        self.given_up: str | None = None
        """Why no server comes back."""
        self._restarts, self._start_timeout = restarts, start_timeout
        self._closing = threading.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the server, wait until it is healthy, and watch it from then on."""
        self.server.begin()
        self.server.wait_until_healthy(self._start_timeout)
        self._up.set()
        self._thread.start()

    def close(self) -> None:
        """End the server."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self.server.end()
        if not self.deaths and not self.given_up:
            self.server.remove_log()

    def settle(self) -> None:
        """Return when the server is healthy or given up."""
        since = time.monotonic()
        deaths = self.deaths
        while self.given_up is None and not (self._up.is_set() and self.server.healthy()):
            if self.deaths != deaths or not self._up.is_set():
                since, deaths = time.monotonic(), self.deaths
            if time.monotonic() - since > _HUNG_SECONDS and self.server.running():
                self.server.interrupt()
            time.sleep(_TURN)

    def _run(self) -> None:
        while not self._closing.wait(_TURN):
            if not self.server.running() and not self._revive(self.server.death()):
                return

    def _revive(self, death: str) -> bool:
        """Start the server again, also where it dies while it starts; False: it is given up."""
        while True:
            self._up.clear()
            self.deaths += 1
            if self.deaths > self._restarts:
                times = "once" if self.deaths == 1 else f"{self.deaths} times"
                first = death.partition("\n")[0]
                self.given_up = f"{first} It died {times}; its log is {self.server.log}"
                return False
            try:
                self.server.begin()
                self.server.wait_until_healthy(self._start_timeout, self._closing)
            except PartError as error:
                death = str(error)
            else:
                self._up.set()
                return True


@contextmanager
def serving(settings: EngineSettings, where: Where, model: str, name: str) -> Iterator[Watch]:
    """A healthy server of `model` under the name `name`; ended on leaving, however that is.

    Raises `PartError` where there is no such program, or the server does not come up.
    """
    if fault := find_program(settings.program(where)):
        raise PartError(fault)
    watch = _started(settings, where, model, name)
    try:
        yield watch
    finally:
        watch.close()


def _started(settings: EngineSettings, where: Where, model: str, name: str) -> Watch:
    """A started server; a port that another program took meanwhile is left for another one."""
    for attempt in range(_PORTS_TRIED):
        port = settings.port or free_port()
        server = Server(serve_command(settings, where, model, name, port), port, name)
        watch = Watch(server, settings.restarts, settings.start_timeout)
        try:
            watch.start()
        except BaseException as error:
            server.end()
            taken = "ddress already in use" in str(error) and settings.port is None
            if not (taken and attempt + 1 < _PORTS_TRIED):
                raise
        else:
            return watch
    raise AssertionError("the last attempt returns or raises")


class Surviving:
    """A work against a server that may die: rows that failed with it are asked again."""

    def __init__(self, work: Work, watch: Watch) -> None:
        self._work, self._watch = work, watch
        self.notes: dict[str, Any] = getattr(work, "notes", {})
        """Those of the work, and the server's command line."""
        self.notes["command"] = list(watch.server.command)

    def __call__(self, rows: Iterator[Any]) -> Iterator[Any]:
        """A response to every row, in any order."""
        again: deque[Any] = deque()
        chances: dict[str, int] = {}
        while True:
            yield from _round(self._work, self._watch, again, rows, chances)
            if self._watch.given_up is not None:
                raise SourceError(self._watch.given_up)
            if not again:
                return


def _round(
    work: Work, watch: Watch, again: deque[Any], rows: Iterator[Any], chances: dict[str, int]
) -> Iterator[Any]:
    """One call of the work; when it returns, `again` has what failed because the server died.

    After each death a failed row has one more chance: also one that was asked after the server
    came back may have failed because the client had not noticed that yet.
    """
    asked: dict[str, Any] = {}
    held: list[Any] = []
    try:
        for out in work(_fed(_first(again, rows), asked, watch)):
            row = asked.pop(out.made_from)
            if out.finish == "error" and _may_retry(watch, row, chances):
                held.append(row)
            else:
                yield out
    except Exception:
        left = list(asked.values())
        if not left or not all(_may_retry(watch, row, chances) for row in left):
            raise
        held += left
    again.extend(held)


def _may_retry(watch: Watch, row: Any, chances: dict[str, int]) -> bool:
    """Whether the server has died since this row last had a chance; waits until that is clear."""
    watch.settle()
    used, chances[row.made_from] = chances.get(row.made_from, 0), watch.deaths
    return watch.given_up is not None or watch.deaths > used


def _fed(rows: Iterator[Any], asked: dict[str, Any], watch: Watch) -> Iterator[Any]:
    while watch.given_up is None:
        row = next(rows, None)
        if row is None:
            return
        if not watch.server.running():
            watch.settle()  # nobody is asked meanwhile
        asked[row.made_from] = row
        yield row


def _first(again: deque[Any], rows: Iterator[Any]) -> Iterator[Any]:
    while again:
        yield again.popleft()
    yield from rows
