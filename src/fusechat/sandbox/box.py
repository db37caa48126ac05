"""The caller's side of the sandbox: starts the worker, sends programs, replaces it if it dies."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

import fusechat
from fusechat.children import ChildProcess
from fusechat.errors import PartError

Level = Literal["full", "network", "weak"]
VerdictStatus = Literal[
    "passed", "failed", "invalid", "timeout", "memory", "output", "crashed", "error"
]
_START_SECONDS, _GRACE_SECONDS = 120.0, 60.0


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    seconds: float = 10.0
    """Processor time of a process, rounded up to whole seconds by the kernel."""
    wall_seconds: float = 30.0
    """From start to end; larger than `seconds`, so that a busy machine fails no program."""
    memory_mb: int = 512
    """Address space of a process beyond what the interpreter itself takes."""
    output_kb: int = 1024
    """Standard output and standard error together."""
    file_mb: int = 16
    processes: int = 16
    """Processes and threads together."""
    open_files: int = 64


@dataclass(frozen=True)
class Verdict:
    """What became of one program.

    `invalid`: it, or the tests (`phase`), do not compile. `failed`: an exception, named by
    `exception` (a built-in one's name), or an early exit. `crashed`: ended by a signal.
    `error`: the sandbox itself failed, and nothing is known of the program.
    """

    status: VerdictStatus
    level: Level
    message: str = ""
    phase: Literal["", "program", "tests"] = ""
    exception: str = ""
    seconds: float = 0.0
    """Wall-clock time."""
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    """Most resident memory of a process, the interpreter's own (some 30 MB) included."""


class Sandbox(ChildProcess):
    """A context manager that runs untrusted Python programs; see the package for what holds.

    `preload` names modules that the worker imports beforehand, for speed, or because the
    unprivileged user cannot read them. `without` switches means off (`landlock`, `seccomp`,
    `namespace`, `own user`), to see what the others give. Raises `PartError` where this machine
    cannot contain programs, unless `allow_weak`.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        allow_weak: bool = False,
        preload: Collection[str] = (),
        without: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._limits, self._allow_weak = limits or Limits(), allow_weak
        self._preload, self._without = tuple(preload), tuple(without)
        self._folder: Path | None = None
        self.level: Level = "weak"
        self.means = ""

    def __enter__(self) -> Self:
        if sys.platform != "linux":
            raise PartError(
                f"the sandbox needs Linux; this is {sys.platform}. Run this unit on a Linux "
                "machine or in a Linux container."
            )
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def run(self, program: str, tests: str) -> Verdict:
        """Run `tests` after `program`, in its module.

        A worker that dies, or a program ended by a SIGKILL that no limit explains (a machine
        short of memory), gets one more try.
        """
        verdict = self._once(program, tests)
        killed = verdict.status == "crashed" and verdict.exception == "SIGKILL"
        return self._once(program, tests) if killed or verdict.status == "error" else verdict

    def close(self) -> None:
        """End the worker, and with it whatever it runs; remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        super().close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _once(self, program: str, tests: str) -> Verdict:
        try:
            if self._process is None:
                self._start()
            deadline = time.monotonic() + self._limits.wall_seconds + _GRACE_SECONDS
            answer = self._ask({"program": program, "tests": tests}, deadline)
        except (OSError, EOFError, PartError) as error:
            words = str(error) if isinstance(error, PartError) else self._last_words()
            self.close()
            return Verdict("error", self.level, f"the sandbox worker died: {words}")
        return Verdict(level=self.level, **answer)

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fusechat-", dir=_open_folder()))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        settings = {
            "limits": asdict(self._limits),
            "folder": str(self._folder),
            "preload": self._preload,
            "without": self._without,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-P", "-m", "fusechat.sandbox.worker", json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            env=_environment(), cwd=self._folder, start_new_session=True,
        )  # fmt: skip
        try:
            found = self._ask(None, time.monotonic() + _START_SECONDS)
        except (OSError, EOFError) as error:
            words = self._last_words()
            raise PartError(
                f"the sandbox worker could not start: {words}. See that '{sys.executable}' can "
                "import fusechat and the modules named under 'preload'."
            ) from error
        self.level, self.means = found["level"], found["means"]
        if self.level == "weak" and not self._allow_weak:
            raise PartError(
                "this machine cannot contain untrusted programs: with what it has "
                f"({self.means}) they reach the network or this user's processes, or stay root. "
                "Run on Linux 5.13 or newer (x86_64, aarch64) with seccomp allowed, as an ordinary "
                "user or a root that may change its user, or set allow_weak_sandbox: true where "
                "the machine itself may be lost."
            )

    def _last_words(self) -> str:
        process = self._process
        if process is None or self._stderr is None:
            return "it was not running"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        end = "it did not answer" if process.returncode is None else f"exit {process.returncode}"
        said = self._last_line()
        return f"{end}; {said}" if said else end


def _environment() -> dict[str, str]:
    """Nothing of the caller's environment but what an interpreter needs to start."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    fixed = {
        "PYTHONPATH": str(Path(fusechat.__file__).parent.parent), "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1", "TZ": "UTC",
    }  # fmt: skip
    return {**kept, **fixed}


def _open_folder() -> str:
    """A folder for temporary files that an unprivileged user can reach."""
    places = [tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    for place in places:
        path = Path(place).resolve()
        if path.is_dir() and all(p.stat().st_mode & 0o001 for p in (path, *path.parents)):
            return str(path)
    return tempfile.gettempdir()
