"""The worker process: warm, and forking for each program.

Started by `box.worker_command` with its settings as JSON in the first argument; answers
length-prefixed JSON messages on its standard input and output. It never runs untrusted code.
"""

from __future__ import annotations

import gc
import importlib
import json
import mmap
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NoReturn

from fusechat.children import receive, send
from fusechat.sandbox import checks, kernel, watch
from fusechat.sandbox.confine import (
    NOBODY,
    Bounds,
    Means,
    choose_users,
    confine,
    leave_network,
    make_ruleset,
    reach_library,
    what_holds,
)
from fusechat.sandbox.program import NOT_PYTHON, run_program

COMMON_MODULES = (
    "bisect", "cmath", "collections.abc", "contextlib", "copy", "dataclasses", "datetime", "enum",
    "functools", "heapq", "io", "itertools", "json", "math", "operator", "random", "re",
    "statistics", "string", "time", "traceback", "types", "typing",
)  # fmt: skip
"""What programs import most. Each costs every fork the copying of its memory."""
STRICT_MODULES = tuple(f"fusechat.sandbox.{name}" for name in ("candidate", "judge"))
_TESTS_KEPT, _LONGEST_KEPT = 64, 1 << 16
"""Tests kept compiled, and how long they may be."""
_DESCRIPTORS_KEPT = 3


class Worker:
    """Confines and runs programs one after the other; `settings` are those of `box`."""

    def __init__(self, settings: dict[str, Any], requests: int) -> None:
        self._limits, self._strict = settings["limits"], settings["strict"]
        self._preload, self._requests = settings["preload"], requests
        self._folder = Path(settings["folder"])
        without = settings["without"]
        if kernel.LINUX:
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        user, judge = choose_users(settings["number"], own="own user" not in without)
        self._held = reach_library(user)
        own = STRICT_MODULES if self._strict else ()
        for module in (*COMMON_MODULES, *self._preload, *own):
            importlib.import_module(module)
        self._hooks = settings["hooks"]
        self._box = self._folder / "programs"
        self._box.mkdir()
        self._box.chmod(0o711)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            seccomp = kernel.seccomp_known() and "seccomp" not in without
            namespace = not seccomp and "namespace" not in without and leave_network()
            landlock = 0 if "landlock" in without else kernel.landlock_abi()
            self._means = Means(user, judge, landlock, seccomp, namespace)
            self._ruleset = make_ruleset(landlock, str(self._box))
            self._level = self._try_out(listener)
        self._instrumented = lru_cache(maxsize=_TESTS_KEPT)(_instrumented)
        self._base_memory = watch.virtual_memory()
        self._tasks: int | None = 0
        self._counted = float("-inf")
        self._board = mmap.mmap(-1, checks.BOARD_BYTES)
        self._watcher = watch.Watcher(
            self._limits["wall_seconds"], self._limits["output_kb"] << 10,
            self._limits["disk_mb"] << 20, requests, os.getppid(),
        )  # fmt: skip
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
            self._means = replace(self._means, seccomp=False, namespace=leave_network())
            level = what_holds(self._confine, str(outside), listener)
        outside.unlink()
        if self._means.seccomp and self._means.landlock >= 6:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            kernel.seccomp_restrict()
            self._means = replace(self._means, inherited=True)
        return level

    def describe(self) -> dict[str, str]:
        """The first message: the level that holds here, by what means, and what is missing."""
        means = self._means
        return {"level": self._level, "means": means.words(), "missing": means.missing()}

    def answer(self, request: dict[str, str]) -> dict[str, Any]:
        """Run one program and its tests; its verdict as `box.Verdict` has it, less the level."""
        self._count += 1
        private = self._box / str(self._count)
        private.mkdir(mode=0o700)
        user = self._means.user
        if user is not None:
            os.chown(private, user, user)
        if self._strict:
            private.chmod(0o770)
        self._board[:] = bytes(len(self._board))
        bounds = self._bounds()
        started = time.monotonic()
        fork = self._fork_two if self._strict else self._fork_one
        run = fork(request, private, bounds)
        try:
            self._watcher.watch(run)
        finally:
            run.end()
            watch.remove(private)
        seconds = round(time.monotonic() - started, 3)
        found = watch.judged(run, bounds.seconds)
        cpu, peak = run.used()
        count = checks.counted(self._board, found["status"] == "passed")
        return {**found, **count, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak}

    def _bounds(self) -> Bounds:
        limits, user = self._limits, self._means.user
        if user in (None, NOBODY) and time.monotonic() - self._counted > 1.0:
            self._tasks = watch.tasks_of(os.getuid() if user is None else NOBODY)
            self._counted = time.monotonic()
        known = self._base_memory
        return Bounds(
            seconds=max(1, round(limits["seconds"] + 0.49)),
            memory=None if known is None else known + (limits["memory_mb"] << 20),
            file_size=limits["file_mb"] << 20,
            processes=None if self._tasks is None else self._tasks + limits["processes"],
            open_files=limits["open_files"],
        )

    def _confine(self, judge: bool = False) -> None:
        confine(self._means, self._ruleset, bool(self._held), judge)

    def _fork_one(self, request: dict[str, str], private: Path, bounds: Bounds) -> watch.Run:
        """The program and its tests in one process."""
        tests = request["tests"]
        ready = self._instrumented(tests) if len(tests) <= _LONGEST_KEPT else None
        nonce = secrets.token_hex(16)
        output_reader, output = os.pipe()
        verdict_reader, verdict = os.pipe()
        pid = os.fork()
        if pid == 0:

            def work() -> NoReturn:
                run_program(request["program"], tests, ready, (verdict, nonce, self._board))

            self._become(work, private, bounds, (output, verdict), (nonce, verdict))
        os.close(output)
        os.close(verdict)
        return watch.Run(pid, pid, output_reader, verdict_reader, nonce, private)

    def _fork_two(self, request: dict[str, str], private: Path, bounds: Bounds) -> watch.Run:
        """The tests in one process, the program in another, with a pipe either way.

        The tests follow the request as a message of their own, which only the judge reads: they
        are never in the memory that the program's process inherits.
        """
        nonce = secrets.token_hex(16)
        output_reader, output = os.pipe()
        verdict_reader, verdict = os.pipe()
        (asked, ask), (answered, answer), (reads, read) = os.pipe(), os.pipe(), os.pipe()
        judge = os.fork()
        if judge == 0:
            tests = json.loads(receive(self._requests, float("inf")))["tests"]
            os.write(read, b"!")
            told = (verdict, nonce, self._board)
            work = partial(_judge, tests, (answered, ask), told, self._preload)
            kept = (output, verdict, answered, ask)
            self._become(work, private, bounds, kept, (nonce, verdict))
        os.close(read)
        if not os.read(reads, 1):
            raise SystemExit("the judge ended before it had read the tests")
        candidate = os.fork()
        if candidate == 0:
            self._board.close()
            serve = partial(_serve, request["program"], asked, answer)
            self._become(serve, private, bounds, (output, asked, answer), None)
        for descriptor in (output, verdict, asked, ask, answered, answer, reads):
            os.close(descriptor)
        return watch.Run(judge, candidate, output_reader, verdict_reader, nonce, private)

    def _become(
        self, work: Callable[[], NoReturn], private: Path, bounds: Bounds,
        descriptors: tuple[int, ...], tells: tuple[str, int] | None,
    ) -> NoReturn:  # fmt: skip
        """In the fork: confine, then work. Whatever goes wrong, this process ends here.

        `descriptors` are kept, the first of them as output. A judge in strict mode `tells`; a
        candidate does not.
        """
        output, *kept = descriptors
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((nothing, 0), (output, 1), (output, 2)):
                os.dup2(source, target)
            os.chdir(private)
            os.environ["HOME"] = os.environ["TMPDIR"] = str(private)
            if self._strict:
                os.umask(0o007)
            for hook in tuple(self._hooks):
                os.register_at_fork(**hook)
            random.seed(0)
            bounds.apply()
            self._confine(judge=self._strict and tells is not None)
            _close_all_but({*kept, *self._held})
        except BaseException as error:  # noqa: BLE001 - told to the worker, then the end
            if tells is not None:
                nonce, verdict = tells
                said = {"status": "error", "message": repr(error)}
                told = {"nonce": nonce, "pid": os.getpid(), **said}
                os.write(verdict, json.dumps(told).encode() + b"\n")
            os._exit(1)
        try:
            work()
        finally:
            os._exit(1)


def _serve(program: str, asked: int, answer: int) -> NoReturn:
    from fusechat.sandbox.candidate import Host
    from fusechat.sandbox.wire import Pipe

    Host(program, Pipe(asked, answer)).serve()


def _judge(
    tests: str, link: tuple[int, int], told: tuple[int, str, Any], preloaded: list[str]
) -> NoReturn:
    from fusechat.sandbox.judge import run_judge
    from fusechat.sandbox.wire import Pipe

    run_judge(tests, Pipe(*link), told, preloaded)


def _instrumented(tests: str) -> checks.Instrumented | None:
    """Tests compiled once for all programs; none where a fork has to say why that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return checks.instrument(tests)
    except NOT_PYTHON:
        return None


def _close_all_but(kept: set[int]) -> None:
    before = _DESCRIPTORS_KEPT
    for descriptor in [*sorted(kept), 1 << 16]:
        os.closerange(before, descriptor)
        before = descriptor + 1


def main(hooks: list[dict[str, Any]]) -> None:
    """Serve requests until standard input ends; `hooks` are those of `box.worker_command`."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    settings = {**json.loads(sys.argv[1]), "hooks": hooks}
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
