"""The warm worker: forks for each program, watches it, sweeps up after it.

Started by `box` as `python -m fusechat.sandbox.worker <settings as JSON>`; requests and
answers are JSON messages on its standard input and output. It never runs untrusted code.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import secrets
import select
import shutil
import signal
import socket
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from fusechat.children import receive, send
from fusechat.sandbox import kernel
from fusechat.sandbox.confine import (
    NOBODY,
    Bounds,
    Means,
    choose_user,
    confine,
    leave_network,
    make_ruleset,
    reach_library,
    what_holds,
)
from fusechat.sandbox.program import run_program

COMMON_MODULES = (
    "abc", "array", "bisect", "calendar", "cmath", "collections.abc", "contextlib", "copy",
    "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq",
    "io", "itertools", "json", "math", "numbers", "operator", "queue", "random", "re",
    "statistics", "string", "struct", "textwrap", "threading", "time", "traceback", "types",
    "typing", "unicodedata",
)  # fmt: skip
_DESCRIPTORS_KEPT = 3
_TICK_SECONDS = 1.0
_VERDICT_BYTES = 1 << 16
_WORDS = 600
_TOLD = frozenset({"passed", "failed", "invalid", "memory", "error"})


@dataclass
class _Run:
    """One program under way."""

    pid: int
    output: int
    verdict: int
    said: bytes = b""
    printed: int = 0
    stopped: str = ""
    open: set[int] = field(default_factory=set)


class Worker:
    """Confines and runs programs one after the other; `settings` are those of `box`."""

    def __init__(self, settings: dict[str, Any], requests: int) -> None:
        self._requests = requests
        self._limits = settings["limits"]
        self._parent = os.getppid()
        self._folder = Path(settings["folder"])
        without = settings["without"]
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        user = choose_user(own="own user" not in without)
        self._held = reach_library(user)
        for module in (*COMMON_MODULES, *settings["preload"]):
            importlib.import_module(module)
        self._box = self._folder / "programs"
        self._box.mkdir()
        self._box.chmod(0o711)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            seccomp = kernel.seccomp_known() and "seccomp" not in without
            namespace = not seccomp and "namespace" not in without and leave_network()
            landlock = 0 if "landlock" in without else kernel.landlock_abi()
            self._means = Means(user, landlock, seccomp, namespace)
            self._ruleset = make_ruleset(landlock, str(self._box))
            self._level = self._try_out(listener)
        self._base_memory = _virtual_memory()
        self._tasks, self._counted = 0, float("-inf")
        self._count = 0
        gc.collect()
        gc.freeze()

    def _try_out(self, listener: socket.socket) -> str:
        outside = self._folder / "outside"
        outside.write_text("readable by anyone")
        outside.chmod(0o644)
        self._folder.chmod(0o711)
        level = what_holds(self._confine, str(outside), listener)
        if level == "weak" and self._means.seccomp:
            self._means = Means(self._means.user, self._means.landlock, False, leave_network())
            level = what_holds(self._confine, str(outside), listener)
        outside.unlink()
        return level

    def describe(self) -> dict[str, str]:
        """The first message: the level that holds here, and by what means."""
        return {"level": self._level, "means": self._means.words()}

    def answer(self, request: dict[str, str]) -> dict[str, Any]:
        """Run one program and its tests; its verdict as `box.Verdict` has it, less the level."""
        nonce = secrets.token_hex(16)
        self._count += 1
        private = self._box / str(self._count)
        private.mkdir(mode=0o700)
        if self._means.user is not None:
            os.chown(private, self._means.user, self._means.user)
        bounds = self._bounds()
        started = time.monotonic()
        run = self._fork(request, nonce, private, bounds)
        try:
            self._watch(run, started + self._limits["wall_seconds"])
        finally:
            _, status, used = self._end(run)
            _remove(private)
        seconds = round(time.monotonic() - started, 3)
        found = _judge(run, nonce, os.waitstatus_to_exitcode(status), used, bounds)
        cpu, peak = round(used.ru_utime + used.ru_stime, 3), round(used.ru_maxrss / 1024, 1)
        return {**found, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak}

    def _bounds(self) -> Bounds:
        limits = self._limits
        if self._means.user in (None, NOBODY) and time.monotonic() - self._counted > 1.0:
            self._tasks = _tasks_of(os.getuid() if self._means.user is None else NOBODY)
            self._counted = time.monotonic()
        return Bounds(
            seconds=max(1, round(limits["seconds"] + 0.49)),
            memory=self._base_memory + (limits["memory_mb"] << 20),
            file_size=limits["file_mb"] << 20,
            processes=self._tasks + limits["processes"],
            open_files=limits["open_files"],
        )

    def _confine(self) -> None:
        confine(self._means, self._ruleset, bool(self._held))

    def _fork(self, request: dict[str, str], nonce: str, private: Path, bounds: Bounds) -> _Run:
        output_reader, output_writer = os.pipe()
        verdict_reader, verdict_writer = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            self._become(request, nonce, private, bounds, (output_writer, verdict_writer))
        os.close(output_writer)
        os.close(verdict_writer)
        for reader in (output_reader, verdict_reader):
            os.set_blocking(reader, False)
        return _Run(pid, output_reader, verdict_reader, open={output_reader, verdict_reader})

    def _become(
        self, request: dict[str, str], nonce: str, private: Path, bounds: Bounds,
        writers: tuple[int, int],
    ) -> NoReturn:  # fmt: skip
        """In the fork: confine, then run. Whatever goes wrong, this process ends here."""
        output, verdict = writers
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.dup2(output, 1)
            os.dup2(output, 2)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.chdir(private)
            os.environ["HOME"] = os.environ["TMPDIR"] = str(private)
            random.seed(0)
            bounds.apply()
            self._confine()
            _close_all_but({verdict, *self._held})
        except BaseException as error:  # noqa: BLE001 - told to the worker, then the end
            told = {"nonce": nonce, "pid": os.getpid(), "status": "error", "message": repr(error)}
            os.write(verdict, json.dumps(told).encode() + b"\n")
            os._exit(1)
        try:
            run_program(request["program"], request["tests"], verdict, nonce)
        finally:
            os._exit(1)

    def _watch(self, run: _Run, deadline: float) -> None:
        """Until the program ends, says too much or takes too long."""
        poll = select.poll()
        for reader in run.open:
            poll.register(reader, select.POLLIN)
        poll.register(self._requests, 0)
        ended = _descriptor_of(run.pid)
        if ended is not None:
            poll.register(ended, select.POLLIN)
        try:
            while not run.stopped:
                left = deadline - time.monotonic()
                if left <= 0:
                    run.stopped = "timeout"
                    break
                tick = _TICK_SECONDS if ended is not None else 0.02
                happened = {fd for fd, _ in poll.poll(min(left, tick) * 1000)}
                self._take(run, happened & run.open, poll)
                if self._requests in happened or os.getppid() != self._parent:
                    raise SystemExit("the owner is gone")
                if ended in happened or (ended is None and _has_ended(run.pid)):
                    self._take(run, set(run.open), None)
                    break
        finally:
            if ended is not None:
                os.close(ended)

    def _take(self, run: _Run, ready: set[int], poll: select.poll | None) -> None:
        for fd in ready:
            with contextlib.suppress(BlockingIOError):
                while part := os.read(fd, 1 << 16):
                    if fd == run.verdict:
                        run.said = (run.said + part)[-_VERDICT_BYTES:]
                    else:
                        run.printed += len(part)
                    if run.printed > self._limits["output_kb"] << 10:
                        run.stopped = "output"
                        return
                if poll is not None:
                    poll.unregister(fd)
                run.open.discard(fd)

    def _end(self, run: _Run) -> tuple[int, int, Any]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(run.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGKILL)
        ended = os.wait4(run.pid, 0)
        _sweep()
        os.close(run.output)
        os.close(run.verdict)
        return ended


def _judge(run: _Run, nonce: str, code: int, used: Any, bounds: Bounds) -> dict[str, Any]:
    """What the program's end means."""
    if run.stopped:
        return {"status": run.stopped}
    for line in run.said.splitlines():
        told = _genuine(line, nonce, run.pid)
        if told is not None and told["status"] not in _TOLD:
            message = "wrote a verdict of its own making"
            return {"status": "crashed", "message": message, "exception": "forged verdict"}
        if told is not None:
            return told if code == 0 or told["status"] == "error" else _died(code)
    # The kernel sends SIGXCPU at the limit of processor time by a clock of its own, which can
    # be ahead of what it reports here; at the hard limit, a second later, it sends SIGKILL.
    cpu = used.ru_utime + used.ru_stime
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu >= bounds.seconds - 0.1):
        return {"status": "timeout"}
    return _died(code)


def _genuine(line: bytes, nonce: str, pid: int) -> dict[str, Any] | None:
    """What this line says, where it was written behind the nonce by the program's first process."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or (told.get("nonce"), told.get("pid")) != (nonce, pid):
        return None
    kept = {name: str(told.get(name, "")) for name in ("status", "phase", "exception", "message")}
    return {name: _storable(value[:_WORDS]) for name, value in kept.items()}


def _storable(text: str) -> str:
    """The text without lone surrogates, which no file in UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


def _died(code: int) -> dict[str, Any]:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return {"status": "crashed", "message": f"ended by {name}", "exception": name}
    message = f"ended itself with exit code {code} before its tests were done"
    return {"status": "failed", "message": message, "exception": "early exit"}


def _descriptor_of(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _sweep() -> None:
    """Kill and reap all that programs left running.

    The worker is the subreaper: orphans become its children, so that killing its children
    until there are none reaches every process.
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
        if time.monotonic() > deadline:
            raise SystemExit("processes of a program could not be ended")


def _children() -> list[int]:
    found, me = [], str(os.getpid())
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1] == me:
                    found.append(int(entry))
    return found


def _tasks_of(user: int) -> int:
    """How many processes and threads `user` has; RLIMIT_NPROC counts them all."""
    count = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                status = Path(f"/proc/{entry}/status").read_text()
                if status.partition("\nUid:")[2].split(maxsplit=1)[0] == str(user):
                    count += int(status.partition("\nThreads:")[2].split(maxsplit=1)[0])
    return count


def _virtual_memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _close_all_but(kept: set[int]) -> None:
    before = _DESCRIPTORS_KEPT
    for descriptor in [*sorted(kept), 1 << 16]:
        os.closerange(before, descriptor)
        before = descriptor + 1


def _remove(folder: Path) -> None:
    """Remove a program's folder, whatever rights and depth it left in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        return
    for place, folders, _ in os.walk(folder):
        for name in folders:
            with contextlib.suppress(OSError):
                path = os.path.join(place, name)
                if not stat.S_ISLNK(os.lstat(path).st_mode):
                    os.chmod(path, 0o700)
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Serve requests until standard input ends."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    settings = json.loads(sys.argv[1])
    try:
        worker = Worker(settings, requests)
        send(answers, json.dumps(worker.describe()).encode(), float("inf"))
        while True:
            request = json.loads(receive(requests, float("inf")))
            send(answers, json.dumps(worker.answer(request)).encode(), float("inf"))
    except (EOFError, BrokenPipeError):
        return
    finally:
        shutil.rmtree(settings["folder"], ignore_errors=True)


if __name__ == "__main__":
    main()
