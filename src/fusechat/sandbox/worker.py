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
import resource
import signal
import sys
import time
import warnings
from dataclasses import replace
from functools import lru_cache
from itertools import count as count_up
from typing import Any, NoReturn

from fusechat.sandbox import checks, kernel, watch
from fusechat.sandbox.confine import (
    NOBODY,
    Bounds,
    Means,
    choose_users,
    confine,
    leave_network,
    listening,
    make_ruleset,
    reach_library,
    what_holds,
)
from fusechat.sandbox.pipe import Pipe
from fusechat.sandbox.program import NOT_PYTHON, run_program

COMMON_MODULES = (
    "bisect", "collections.abc", "contextlib", "copy", "dataclasses", "enum", "functools",
    "heapq", "io", "itertools", "json", "math", "operator", "random", "re", "string", "time",
    "traceback", "types", "typing",
)  # fmt: skip
"""What programs import most. Each costs every fork the copying of its memory."""
STRICT_MODULES = tuple(f"fusechat.sandbox.{name}" for name in ("candidate", "judge"))
_TESTS_KEPT, _LONGEST_KEPT = 64, 1 << 16
"""Tests kept compiled, and how long they may be."""
_DESCRIPTORS_KEPT = 3
_PROGRAMS_BETWEEN_CLEANINGS = 1000
"""The collector of cyclic garbage is off in the worker: it would touch, so copy, much memory."""


class Worker:
    """Confines and runs programs one after the other; `settings` are those of `box`."""

    def __init__(self, settings: dict[str, Any], requests: int, link: Pipe) -> None:
        self._limits, self._strict = settings["limits"], settings["strict"]
        self._preload, self._link = settings["preload"], link
        self._folder = settings["folder"]
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
        self._box = os.path.join(self._folder, "programs")
        os.mkdir(self._box)
        os.chmod(self._box, 0o711)
        with listening() as address:
            seccomp = kernel.seccomp_known() and "seccomp" not in without
            namespace = not seccomp and "namespace" not in without and leave_network()
            landlock = 0 if "landlock" in without else kernel.landlock_abi()
            self._means = Means(user, judge, landlock, seccomp, namespace)
            self._ruleset = make_ruleset(landlock, self._box)
            self._level = self._try_out(address)
        self._instrumented = lru_cache(maxsize=_TESTS_KEPT)(_instrumented)
        self._base_memory = watch.virtual_memory()
        self._seconds = max(1, round(self._limits["seconds"] + 0.49))
        self._bounds: tuple[tuple[int, tuple[int, int]], ...] = ()
        self._next_count = 0.0
        self._bound()
        self._board = mmap.mmap(-1, checks.BOARD_BYTES)
        self._watcher = watch.Watcher(
            self._limits["wall_seconds"], self._limits["output_kb"] << 10,
            self._limits["disk_mb"] << 20, requests, os.getppid(),
        )  # fmt: skip
        self._count = 0
        self._name_folder()
        os.environ.pop("LD_BIND_NOW", None)
        if self._strict:
            os.umask(0o007)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        random.seed(0)
        gc.disable()
        gc.collect()
        gc.freeze()

    def _try_out(self, address: tuple[str, int]) -> str:
        outside = os.path.join(self._folder, "outside")
        with open(outside, "w") as stream:
            stream.write("readable by anyone")
        os.chmod(outside, 0o644)
        os.chmod(self._folder, 0o711)
        level = what_holds(self._confine, outside, address)
        if level == "weak" and self._means.seccomp:
            self._means = replace(self._means, seccomp=False, namespace=leave_network())
            level = what_holds(self._confine, outside, address)
        os.unlink(outside)
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
        self._make_folder()
        self._board[:] = bytes(checks.BOARD_BYTES)
        self._bound()
        started = time.monotonic()
        run = watch.Run(self._private)
        try:
            (self._fork_two if self._strict else self._fork_one)(request, run)
            self._watcher.watch(run)
        finally:
            run.end()
            watch.remove(self._private)
        seconds = round(time.monotonic() - started, 3)
        found = watch.judged(run, self._seconds)
        cpu, peak = run.used()
        count = checks.counted(self._board, found["status"] == "passed")
        return {**found, **count, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak}

    def _make_folder(self) -> None:
        """The private folder: of the same name for all, unless one could not be removed."""
        try:
            os.mkdir(self._private, 0o700)
        except FileExistsError:
            self._count += 1
            self._name_folder()
            os.mkdir(self._private, 0o700)
        user = self._means.user
        if user is not None:
            os.chown(self._private, user, user)
        if self._strict:
            os.chmod(self._private, 0o770)

    def _name_folder(self) -> None:
        self._private = os.path.join(self._box, str(self._count))
        os.environ["HOME"] = os.environ["TMPDIR"] = self._private

    def _bound(self) -> None:
        """Have the limits of the next program ready: how many tasks its user has, changes."""
        user = self._means.user
        if self._bounds and (user not in (None, NOBODY) or time.monotonic() < self._next_count):
            return
        tasks: int | None = 0
        if user in (None, NOBODY):
            tasks = watch.tasks_of(os.getuid() if user is None else NOBODY)
            self._next_count = time.monotonic() + 1.0
        limits, known = self._limits, self._base_memory
        self._bounds = Bounds(
            seconds=self._seconds,
            memory=None if known is None else known + (limits["memory_mb"] << 20),
            file_size=limits["file_mb"] << 20,
            processes=None if tasks is None else tasks + limits["processes"],
            open_files=limits["open_files"],
        ).settings()

    def _confine(self, judge: bool = False) -> None:
        confine(self._means, self._ruleset, bool(self._held), judge)

    def _fork_one(self, request: dict[str, str], run: watch.Run) -> None:
        """The program and its tests in one process."""
        tests = request["tests"]
        ready = self._instrumented(tests) if len(tests) <= _LONGEST_KEPT else None
        output, verdict, nonce = run.output_writer, run.verdict_writer, run.nonce
        pid = os.fork()
        if pid == 0:
            try:
                self._become((output, verdict), (nonce, verdict))
                run_program(request["program"], tests, ready, (verdict, nonce, self._board))
            finally:
                os._exit(1)
        run.begun(pid, pid)

    def _fork_two(self, request: dict[str, str], run: watch.Run) -> None:
        """The tests in one process, the program in another, with a pipe either way.

        The tests follow the request as a message of their own, which only the judge reads: they
        are never in the memory that the program's process inherits.
        """
        output, verdict, nonce = run.output_writer, run.verdict_writer, run.nonce
        (asked, ask), (answered, answer), (reads, read) = os.pipe(), os.pipe(), os.pipe()
        judge = os.fork()
        if judge == 0:
            try:
                tests = json.loads(self._link.receive())["tests"]
                os.write(read, b"!")
                self._become((output, verdict, answered, ask), (nonce, verdict))
                _judge(tests, (answered, ask), (verdict, nonce, self._board), self._preload)
            finally:
                os._exit(1)
        os.close(read)
        if not os.read(reads, 1):
            raise SystemExit("the judge ended before it had read the tests")
        candidate = os.fork()
        if candidate == 0:
            try:
                self._board.close()
                self._become((output, asked, answer), None)
                _serve(request["program"], asked, answer)
            finally:
                os._exit(1)
        for descriptor in (asked, ask, answered, answer, reads):
            os.close(descriptor)
        run.begun(judge, candidate)

    def _become(self, descriptors: tuple[int, ...], tells: tuple[str, int] | None) -> None:
        """In the fork: confine. Where that goes wrong, this process ends here.

        `descriptors` are kept, the first of them as output. A judge in strict mode `tells`; a
        candidate does not. Few objects are touched: each page of them costs a copy.
        """
        output, *kept = descriptors
        try:
            os.setsid()
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(self._private)
            for hook in self._hooks:
                os.register_at_fork(**hook)
            for kind, bounds in self._bounds:
                resource.setrlimit(kind, bounds)
            self._confine(self._strict and tells is not None)
            _close_all_but([*kept, *self._held])
            gc.freeze()
            gc.enable()
        except BaseException as error:  # noqa: BLE001 - told to the worker, then the end
            if tells is not None:
                nonce, verdict = tells
                said = {"status": "error", "message": repr(error)}
                told = {"nonce": nonce, "pid": os.getpid(), **said}
                os.write(verdict, json.dumps(told).encode() + b"\n")
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


def _close_all_but(kept: list[int]) -> None:
    before = _DESCRIPTORS_KEPT
    kept.sort()
    kept.append(1 << 16)
    for descriptor in kept:
        if before < descriptor:
            os.closerange(before, descriptor)
        before = descriptor + 1


def main(hooks: list[dict[str, Any]]) -> None:
    """Serve requests until standard input ends; `hooks` are those of `box.worker_command`."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    settings = {**json.loads(sys.argv[1]), "hooks": hooks}
    link = Pipe(requests, answers)
    try:
        worker = Worker(settings, requests, link)
        link.send(json.dumps(worker.describe()).encode())
        for count in count_up():
            link.send(json.dumps(worker.answer(json.loads(link.receive()))).encode())
            if count % _PROGRAMS_BETWEEN_CLEANINGS == 0:
                gc.collect()
    except EOFError:
        return
    finally:
        import shutil

        shutil.rmtree(settings["folder"], ignore_errors=True)
