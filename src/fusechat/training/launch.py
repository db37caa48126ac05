"""Several local processes that train as one, started and watched by this one.

    run_on_ranks("package.module:function", arguments, ...)  ->  what rank 0 returns

Each rank is a process of its own with a log file in the unit's folder. The first that dies or
fails ends all others at once, and the error says which it was. What ranks wrote is whole or not
there, so that the same command goes on from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fusechat.errors import FusechatError, TrainingError
from fusechat.progress import Progress
from fusechat.training.ranks import RENDEZVOUS

LINGER = 3.0
"""Seconds in which the rank that died first may show up, when another lost its connection to it."""
_LAST_WORDS = 2000


@dataclass
class _Rank:
    """One process, and how it ended."""

    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    log: Path
    result: Any = None
    done: bool = False
    error: FusechatError | None = None
    """What it raised that a user can mend."""
    trace: str = ""
    """What else it raised."""
    status: int | None = None

    def told(self) -> str:
        """How it ended, with its last words."""
        if self.status is not None and self.status < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-self.status).name
                return f"was ended by {name}{_hint(self.status)}{self._words()}"
        if self.trace:
            return f"failed: {self.trace.strip().splitlines()[-1]}. ({self.log})"
        return f"ended with status {self.status}{self._words()}"

    def _words(self) -> str:
        with self.log.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - _LAST_WORDS))
            lines = handle.read().decode(errors="replace").strip().splitlines()
        said = f" Its last words: {lines[-1].strip()}" if lines else " It said nothing."
        return f".{said} ({self.log})"


def run_on_ranks(
    target: str,
    arguments: Any,
    *,
    count: int,
    folder: Path,
    progress: Progress,
    threads: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """What `module:function` returns on rank 0, called on all ranks with (`arguments`, progress).

    `arguments` are pickled. `folder` gets `rank-<n>.log`. Progress and notes of rank 0 come here.
    Raises what a rank raised, if a user can mend it; `TrainingError` where one died or failed
    otherwise. An exception here, Ctrl-C too, ends all ranks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fusechat-ranks-") as place:
        crew = _Crew(progress)
        try:
            for number in range(count):
                values = _environment(number, count, threads, place) | dict(environment or {})
                crew.add(_start(number, values, folder / f"rank-{number}.log"))
            for rank in crew.ranks:
                with contextlib.suppress(OSError):  # it has ended; how is seen when it is watched
                    rank.connection.send(sys.path)
                    rank.connection.send_bytes(pickle.dumps((target, arguments)))
            return crew.watch()
        finally:
            crew.end()


def _environment(number: int, count: int, threads: int, place: str) -> dict[str, str]:
    values = {
        "RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count,
        "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        RENDEZVOUS: os.path.join(place, "meeting"),
    }  # fmt: skip
    if sys.platform == "linux":  # whatever this machine calls itself: ranks are all on it
        values["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return {name: str(value) for name, value in values.items()}


def _start(number: int, environment: Mapping[str, str], log: Path) -> _Rank:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", "fusechat.training.rank_process", str(theirs.fileno())]
    # A Ctrl-C goes to the ranks, too; it is held back there until they ignore it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env={**os.environ, **environment},
            )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Rank(number, process, Connection(ours.detach()), log)


@dataclass
class _Crew:
    """All ranks of one call."""

    progress: Progress
    ranks: list[_Rank] = field(default_factory=list)

    def add(self, rank: _Rank) -> None:
        """Watch one more."""
        self.ranks.append(rank)

    def watch(self) -> Any:
        """Until all are done; raises at the first that is not."""
        while live := [rank for rank in self.ranks if not rank.done]:
            for rank in self._heard(live, None):
                if rank.status is not None or rank.trace or rank.error:
                    raise self._blame(rank)
        return self.ranks[0].result

    def end(self) -> None:
        """Kill what still runs; a rank that is done gets the time to leave."""
        for rank in self.ranks:
            if not rank.done:
                rank.process.kill()
        for rank in self.ranks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                rank.process.wait(30)
            rank.process.kill()
            rank.process.wait()
            rank.connection.close()

    def _heard(self, live: list[_Rank], seconds: float | None) -> Iterator[_Rank]:
        """Ranks with something new, which is taken in."""
        by_connection = {rank.connection: rank for rank in live}
        for ready in wait(list(by_connection), seconds):
            rank = by_connection[ready]  # type: ignore[index]
            try:
                self._take(rank, *rank.connection.recv())
            except (EOFError, OSError):
                rank.status = rank.process.wait()
            yield rank

    def _take(self, rank: _Rank, kind: str, *values: Any) -> None:
        if kind == "done":
            rank.result, rank.done = values[0], True
        elif kind == "error":
            rank.error = values[0]
        elif kind == "trace":
            rank.trace = values[0]
        else:
            getattr(self.progress, kind)(*values)

    def _blame(self, first: _Rank) -> FusechatError:
        """The error of the rank that went first: others fail because they lost it."""
        if first.error is not None:
            return first.error
        until = time.monotonic() + LINGER
        while first.trace and time.monotonic() < until:
            live = [rank for rank in self.ranks if not rank.done and rank.status is None]
            if not live:
                break
            for rank in self._heard(live, max(0.0, until - time.monotonic())):
                if rank.error is not None:
                    return rank.error
                if rank.status is not None and not rank.trace:
                    first = rank
        return TrainingError(
            f"rank {first.number} of {len(self.ranks)} {first.told()}. The other ranks were "
            "ended, nothing that was saved is lost: the same command goes on from the last "
            "checkpoint."
        )


def _hint(status: int) -> str:
    if status != -signal.SIGKILL:
        return ""
    return ", as the kernel does when memory runs out (see dmesg; memory is per process)"
