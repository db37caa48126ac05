"""The caller's side of the sandbox: starts the worker, sends programs, replaces it if it dies."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast

import fusechat
from fusechat.children import ChildProcess, send
from fusechat.errors import PartError
from fusechat.sandbox.jail import jail_prefix

Level = Literal["jail", "full", "network", "weak"]
VerdictStatus = Literal[
    "passed", "failed", "invalid", "timeout", "memory", "output", "crashed", "unsupported", "error"
]
_START_SECONDS, _GRACE_SECONDS = 120.0, 60.0
_NUMBERS = 900_000_000
_JAIL_SLACK = 1 << 20
_START = """
import os
hooks, register = [], os.register_at_fork
os.register_at_fork = lambda **hook: hooks.append(hook)
from fusechat.sandbox.worker import main
os.register_at_fork = register
main(hooks)
"""


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
    """One file."""
    disk_mb: int = 64
    """All files of the private folder together; also at most 10,000 files."""
    processes: int = 16
    """Processes and threads together."""
    open_files: int = 64


@dataclass(frozen=True)
class Verdict:
    """What became of one program.

    `invalid`: it, or the tests (`phase`), do not compile. `failed`: an exception, named by
    `exception` (a built-in one's name), or an early exit. `crashed`: ended by a signal.
    `unsupported`: the tests cannot be judged in strict mode; nothing is known of the program.
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
    """Most resident memory of a process, the interpreter's own (some 11 MB) included."""
    checks_passed: int = 0
    checks_total: int = 1
    """Asserts of the tests that held, of all; see `checks`. Passed means all of at least one."""


class Sandbox(ChildProcess):
    """A context manager that runs untrusted Python programs; see the package for what holds.

    `strict` judges in another process than the program's. `preload` names modules that the worker
    imports beforehand, for speed, or because the unprivileged user cannot read them. `without`
    switches means off (`bubblewrap`, `landlock`, `seccomp`, `namespace`, `own user`), to see what
    the others give. Raises `PartError` where this machine cannot contain programs, unless
    `allow_weak`. After `__enter__`, `level` and `means` say what holds here.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        strict: bool = False,
        allow_weak: bool = False,
        preload: Collection[str] = (),
        without: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._limits, self._strict, self._allow_weak = limits or Limits(), strict, allow_weak
        self._preload, self._without = tuple(preload), tuple(without)
        self._jailed = "bubblewrap" not in without
        self._folder: Path | None = None
        self.level: Level = "weak"
        self.means = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def run(self, program: str, tests: str) -> Verdict:
        """Run `tests` after `program`, in its module, or in strict mode against it.

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
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
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
            if self._strict:
                self._say({"program": program}, deadline)
                answer = self._ask({"tests": tests}, deadline)
            else:
                answer = self._ask({"program": program, "tests": tests}, deadline)
        except (OSError, EOFError, PartError) as error:
            words = str(error) if isinstance(error, PartError) else self._last_words()
            self.close()
            return Verdict("error", self.level, f"the sandbox worker died: {words}")
        return Verdict(level=self.level, **answer)

    def _say(self, message: Any, deadline: float) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        send(self._process.stdin.fileno(), json.dumps(message).encode(), deadline)

    def _start(self) -> None:
        found = self._start_in_jail() or self._start_worker([])
        self.level = cast(Level, found["level"])
        self.means = found["means"]
        if self.level == "weak" and not self._allow_weak:
            raise PartError(
                "this machine cannot contain untrusted programs: they reach the network or this "
                f"user's processes, or stay root. It has: {self.means}; it lacks: "
                f"{found['missing'] or 'nothing, but what it has does not hold'}. Run on Linux "
                "5.13 or newer (x86_64, aarch64) with seccomp allowed, as an ordinary user or a "
                "root that may change its user, or set allow_weak_sandbox: true where the "
                "machine itself may be lost."
            )

    def _start_in_jail(self) -> dict[str, str] | None:
        """Start the worker in a jail; none where that is switched off or does not work here."""
        folder = Path(_open_folder(), f"fusechat-{secrets.token_hex(8)}")
        size = (self._limits.disk_mb << 20) + _JAIL_SLACK
        prefix = jail_prefix(folder, size) if self._jailed else None
        if prefix is None:
            return None
        self._folder = folder  # which is there in the jail only
        try:
            found = self._start_worker(prefix)
        except PartError:
            self._jailed = False
            self.close()
            return None
        jail = {"level": "jail"} if found["level"] == "full" else {}
        return {**found, **jail, "means": f"bubblewrap, {found['means']}"}

    def _start_worker(self, prefix: list[str]) -> dict[str, str]:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="fusechat-", dir=_open_folder()))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        settings = {
            "limits": asdict(self._limits),
            "folder": str(self._folder),
            "preload": self._preload,
            "without": self._without,
            "strict": self._strict,
            "number": secrets.randbelow(_NUMBERS),
        }
        self._process = subprocess.Popen(
            [*prefix, *worker_command(), json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            env=_environment(), cwd="/" if prefix else self._folder, start_new_session=True,
        )  # fmt: skip
        try:
            found: dict[str, str] = self._ask(None, time.monotonic() + _START_SECONDS)
        except (OSError, EOFError) as error:
            words = self._last_words()
            raise PartError(
                f"the sandbox worker could not start: {words}. See that '{sys.executable}' can "
                "import fusechat and the modules named under 'preload'."
            ) from error
        return found

    def _last_words(self) -> str:
        process = self._process
        if process is None or self._stderr is None:
            return "it was not running"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        end = "it did not answer" if process.returncode is None else f"exit {process.returncode}"
        said = self._last_line()
        return f"{end}; {said}" if said else end


def worker_command() -> list[str]:
    """The command that starts a worker, but for its settings.

    What modules want done after each fork costs a tenth of a fork's time and is of no use to a
    worker with one thread: it is kept, and registered in the program's process only.
    """
    return [sys.executable, "-s", "-P", "-c", _START]


def _environment() -> dict[str, str]:
    """Nothing of the caller's environment but what an interpreter needs to start.

    Symbols are looked up at start (LD_BIND_NOW), or else every fork does it again.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    fixed = {
        "PYTHONPATH": str(Path(fusechat.__file__).parent.parent), "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8", "LD_BIND_NOW": "1",
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TZ": "UTC",
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
