"""Watches a running program: output, verdict, time, disk; then ends and judges it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_TICK_SECONDS = 0.25
_TICK_WITHOUT_PIDFD = 0.01
_VERDICT_BYTES = 1 << 16
_WORDS = 600
_TOLD = frozenset({"passed", "failed", "invalid", "memory", "error", "unsupported", "gone"})
_FILES_ALLOWED = 10_000
PASSED = "passed"
_NOTHING_TO_SAY = {"status": PASSED, "phase": "", "exception": "", "message": ""}
_SIGKILL = int(signal.SIGKILL)


class Run:
    """One program under way: made before its process, which then has `begun`."""

    def __init__(self, folder: str) -> None:
        self.folder, self.nonce = folder, os.urandom(16).hex()
        self.output, self.output_writer = os.pipe()
        self.verdict, self.verdict_writer = os.pipe()
        os.set_blocking(self.output, False)
        os.set_blocking(self.verdict, False)
        self.said, self.printed, self.stopped, self.message = b"", 0, "", ""
        self.teller = self.candidate = 0
        """The process whose verdict counts; that of the program, in strict mode another one."""
        self.processes: tuple[int, ...] = ()
        """The processes that the worker itself forked."""
        self.ended: dict[int, tuple[int, Any]] = {}
        """Exit code and resources of processes that were reaped."""

    def begun(self, teller: int, candidate: int) -> None:
        """The processes run; what they write to is theirs alone."""
        self.teller, self.candidate = teller, candidate
        self.processes = (teller,) if teller == candidate else (teller, candidate)
        os.close(self.output_writer)
        os.close(self.verdict_writer)

    def end(self) -> None:
        """Kill it with all that it started, and reap it."""
        for pid in self.processes:
            _kill_group(pid)
        for pid in self.processes:
            if pid not in self.ended:
                _, status, used = os.wait4(pid, 0)
                self.ended[pid] = (os.waitstatus_to_exitcode(status), used)
        sweep()
        os.close(self.output)
        os.close(self.verdict)

    def used(self) -> tuple[float, float]:
        """Seconds of processor time and most MB of memory, of the process that took most."""
        spent = [used for _, used in self.ended.values()]
        seconds = max(used.ru_utime + used.ru_stime for used in spent)
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return round(seconds, 3), round(max(used.ru_maxrss for used in spent) / unit, 1)


@dataclass(frozen=True)
class Watcher:
    """Watches programs one after the other, for the worker."""

    wall_seconds: float
    output_bytes: int
    disk_bytes: int
    requests: int
    """The owner's pipe: when it closes, everything ends."""
    parent: int

    def watch(self, run: Run) -> None:
        """Until the program ends, says too much, writes too much or takes too long."""
        began = time.monotonic()
        deadline, next_look = began + self.wall_seconds, began + _TICK_SECONDS
        poll = select.poll()
        poll.register(self.requests, 0)
        watched = _descriptors_of(run.processes)
        ask = len(watched) < len(run.processes)
        tick = _TICK_WITHOUT_PIDFD if ask else _TICK_SECONDS
        for fd in (run.output, run.verdict, *watched):
            poll.register(fd, select.POLLIN)
        try:
            while not run.stopped:
                wait = min(deadline - time.monotonic(), tick)
                happened = dict(poll.poll(max(0.0, wait) * 1000))
                for fd in (run.output, run.verdict):
                    if fd in happened:
                        self._take(run, fd, poll)
                if self.requests in happened or os.getppid() != self.parent:
                    raise SystemExit("the owner is gone")
                if self._ended(run, ask, happened, watched, poll):
                    break
                now = time.monotonic()
                if now >= deadline:
                    run.stopped = run.stopped or "timeout"
                elif now >= next_look:
                    next_look = now + _TICK_SECONDS
                    if overfull(run.folder, self.disk_bytes):
                        run.stopped, run.message = "output", "filled its folder"
            self._take(run, run.output, None)
            self._take(run, run.verdict, None)
        finally:
            for fd in watched:
                os.close(fd)

    def _ended(
        self, run: Run, ask: bool, ready: Collection[int], watched: dict[int, int],
        poll: select.poll,
    ) -> bool:  # fmt: skip
        """Whether the teller has ended. A candidate that ends takes its descendants along."""
        for pid in set(run.processes) - set(run.ended) if ask else ():
            found, status, used = os.wait4(pid, os.WNOHANG)
            if found:
                run.ended[pid] = (os.waitstatus_to_exitcode(status), used)
                _kill_group(pid)
        for fd in ready:
            if fd not in watched:
                continue
            if watched[fd] == run.teller:
                return True
            poll.unregister(fd)
            _kill_group(watched[fd])
        return run.teller in run.ended

    def _take(self, run: Run, fd: int, poll: select.poll | None) -> None:
        """Read what is there; where nothing more will come, `poll` leaves it out from now on."""
        try:
            while part := os.read(fd, 1 << 16):
                if fd == run.verdict:
                    run.said = (run.said + part)[-_VERDICT_BYTES:]
                else:
                    run.printed += len(part)
                if run.printed > self.output_bytes:
                    run.stopped = "output"
                    return
        except BlockingIOError:
            return
        if poll is not None:
            poll.unregister(fd)


def judged(run: Run, seconds: int) -> dict[str, Any]:
    """What the end means, as fields of `box.Verdict`; `seconds` is the limit that was set."""
    passed = passed_line(run.nonce, run.teller)
    for line in run.said.splitlines():
        told = _NOTHING_TO_SAY if line == passed else _genuine(line, run)
        if told is None:
            continue
        if told["status"] not in _TOLD:
            message = "wrote a verdict of its own making"
            return {"status": "crashed", "message": message, "exception": "forged verdict"}
        if told["status"] == "gone":
            return _from_the_end(run, run.candidate, seconds)
        code = run.ended[run.teller][0]
        if told["status"] != "passed" or (code == 0 and not run.stopped):
            return told
    return _from_the_end(run, run.teller, seconds)


def passed_line(nonce: str, pid: int) -> bytes:
    """The verdict of a program that passed: the commonest, so neither side makes JSON of it."""
    return b'{"nonce": "%b", "pid": %d, "status": "passed"}' % (nonce.encode(), pid)


def _from_the_end(run: Run, pid: int, seconds: int) -> dict[str, Any]:
    if run.stopped:
        return {"status": run.stopped, "message": run.message}
    code, used = run.ended[pid]
    # The kernel sends SIGXCPU at the limit of processor time by a clock of its own, which can
    # be ahead of what it reports here; at the hard limit, a second later, it sends SIGKILL.
    cpu = used.ru_utime + used.ru_stime
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu >= seconds - 0.1):
        return {"status": "timeout"}
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return {"status": "crashed", "message": f"ended by {name}", "exception": name}
    message = f"ended itself with exit code {code} before its tests were done"
    return {"status": "failed", "message": message, "exception": "early exit"}


def _genuine(line: bytes, run: Run) -> dict[str, Any] | None:
    """What this line says, where it was written behind the nonce by the telling process."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    mark = (run.nonce, run.teller)
    if not isinstance(told, dict) or (told.get("nonce"), told.get("pid")) != mark:
        return None
    names = ("status", "phase", "exception", "message")
    kept = {name: str(told.get(name, "")) for name in names}
    return {name: _storable(value[:_WORDS]) for name, value in kept.items()}


def _storable(text: str) -> str:
    """The text without lone surrogates, which no file in UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, _SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _descriptors_of(pids: Collection[int]) -> dict[int, int]:
    """Descriptors that poll as ready when a process ends, where there are such."""
    found = {}
    for pid in pids:
        try:
            found[os.pidfd_open(pid)] = pid
        except (OSError, AttributeError):
            break
    return found


def overfull(folder: str, disk_bytes: int) -> bool:
    """Whether a folder holds more than it may, or hides what it holds."""
    used, files, places = 0, 0, [folder]
    while places:
        try:
            with os.scandir(places.pop()) as entries:
                for entry in entries:
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    files += 1
                    if used > disk_bytes or files > _FILES_ALLOWED:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        places.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return True
    return False


def sweep() -> None:
    """Kill and reap all that programs left running.

    The worker is the subreaper: orphans become its children, so that killing its children
    until there are none reaches every process. Without a subreaper (not Linux) what left its
    program's process group stays.
    """
    deadline = time.monotonic() + 10.0
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
        if time.monotonic() > deadline:
            raise SystemExit("processes of a program could not be ended")


def _children() -> list[int]:
    me = str(os.getpid())
    with contextlib.suppress(OSError):
        return [int(pid) for pid in _text(f"/proc/{me}/task/{me}/children").split()]
    found: list[int] = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if _text(f"/proc/{entry}/stat").rpartition(")")[2].split()[1] == me:
                    found.append(int(entry))
    return found


def tasks_of(user: int) -> int | None:
    """How many processes and threads `user` has; RLIMIT_NPROC counts them all."""
    if not os.path.isdir("/proc/self"):
        return None
    count = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                status = _text(f"/proc/{entry}/status")
                if status.partition("\nUid:")[2].split(maxsplit=1)[0] == str(user):
                    count += int(status.partition("\nThreads:")[2].split(maxsplit=1)[0])
    return count


def virtual_memory() -> int | None:
    """Address space of this process in bytes."""
    try:
        pages = int(_text("/proc/self/statm").split()[0])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _text(path: str) -> str:
    with open(path) as stream:
        return stream.read()


def remove(folder: str) -> None:
    """Remove a program's folder, whatever rights and depth it left in it.

    Folders are moved up before they are emptied, so that no path is ever long.
    """
    try:
        os.rmdir(folder)
        return
    except OSError:
        count, places = 0, [folder]
    while places:
        place = places.pop()
        with contextlib.suppress(OSError):
            os.chmod(place, 0o700)
            for entry in list(os.scandir(place)):
                if entry.is_dir(follow_symlinks=False):
                    count += 1
                    os.chmod(entry.path, 0o700)
                    moved = f"{folder}.{count}"
                    os.rename(entry.path, moved)
                    places.append(moved)
                else:
                    os.unlink(entry.path)
            os.rmdir(place)
