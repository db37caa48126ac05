"""Calls that may hang or crash, made in a child process that can be killed.

`KillableChild("package.module:function", timeout=5.0)` keeps one warm child that imports the
function once and answers calls one after the other. A call that does not return in time is
ended with SIGKILL, which no code can refuse; the next call starts a new child. Arguments and
values travel as JSON, each message behind its length, so nothing that a child sends can run
code here. The child dies with its parent, and is replaced after `recycle` calls, since
libraries such as sympy only ever grow. `KillablePool` keeps several.

This protects against calls that hang, crash or take all memory, not against malice: the child is
the same user and sees the same files. Untrusted programs go to `fusechat.sandbox`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Literal, Self

from fusechat.errors import PartError

_HEADER = struct.Struct(">Q")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Outcome:
    """What became of a call: `value` where `ok`, else the kind and the reason in words."""

    ok: bool
    value: Any = None
    kind: Literal["", "timeout", "died", "raised"] = ""
    reason: str = ""
    """Short and countable, without this call's own numbers: `timed out`, `raised ValueError`."""
    details: str = ""


class _Closing:
    """A context that ends with `close()`."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what was started."""
        raise NotImplementedError


class ChildProcess(_Closing):
    """Base of what keeps one warm child and talks JSON with it over its pipes, as a context.

    Whoever derives from it starts the child, with a temporary file for its standard error, and
    ends it in `close()`.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the present child; none before the first call and after its end."""
        return self._process.pid if self._process else None

    def close(self) -> None:
        """End the child and close its standard error."""
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _ask(self, request: Any, deadline: float) -> Any:
        """The child's reply to `request`, or its first message where that is None.

        Raises `TimeoutError` past `deadline`, `OSError` or `EOFError` where the child is gone.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        if request is not None:
            send(process.stdin.fileno(), json.dumps(request).encode(), deadline)
        return json.loads(receive(process.stdout.fileno(), deadline))

    def _last_line(self) -> str:
        """The last line that the child wrote to its standard error; empty without one."""
        if self._stderr is None:
            return ""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 500))
        words = self._stderr.read().decode(errors="replace").strip()
        return words.splitlines()[-1] if words else ""


class KillableChild(ChildProcess):
    """A function in a warm child process, with a wall-clock limit on each call.

    `target` is `package.module:function`; its arguments and its value must be JSON. `timeout`
    is in seconds per call and does not count the start of the child, which may take
    `start_timeout` seconds; `preload` names modules that it imports then. `memory_mb` bounds
    the child's address space.
    """

    def __init__(
        self,
        target: str,
        timeout: float,
        *,
        recycle: int = 5000,
        memory_mb: int | None = None,
        start_timeout: float = 120.0,
        preload: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._target, self._timeout, self._recycle = target, timeout, recycle
        self._memory_mb, self._start_timeout = memory_mb, start_timeout
        self._preload = tuple(preload)
        self._calls = 0
        self._ended = False

    def __enter__(self) -> Self:
        self._start()
        return self

    def end(self) -> None:
        """Kill the child from another thread than the one that waits for it; it stays ended."""
        self._ended = True
        process = self._process
        if process is not None:
            process.kill()

    def call(self, *args: Any) -> Outcome:
        """The function's value for `args`, or why there is none.

        A child that dies is started once more and asked again, because what killed it may not
        have been this call; a child that dies twice is `died`. A time-out is not retried.
        """
        outcome = self._once(args)
        return self._once(args) if outcome.kind == "died" else outcome

    def close(self) -> None:
        """End the child; it is started again by the next call."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        super().close()

    def _once(self, args: tuple[Any, ...]) -> Outcome:
        if self._process is None or self._calls >= self._recycle:
            self.close()
            try:
                self._start()
            except PartError as error:
                return Outcome(False, kind="died", reason="died", details=str(error))
        self._calls += 1
        reply = self._exchange(args, time.monotonic() + self._timeout)
        if reply == "timeout":
            self.close()
            return Outcome(False, kind="timeout", reason="timed out")
        if reply == "died":
            details = self._last_words()
            self.close()
            return Outcome(False, kind="died", reason="died", details=details)
        assert isinstance(reply, dict)
        if "raised" in reply:
            reason = f"raised {reply['raised']}"
            return Outcome(False, kind="raised", reason=reason, details=reply["message"])
        return Outcome(True, reply["value"])

    def _start(self) -> None:
        if self._ended:
            raise PartError(f"the child process for {self._target} was ended.")
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        settings = json.dumps([self._target, os.getpid(), self._memory_mb or 0, self._preload])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fusechat.children", settings],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=environment,
        )  # fmt: skip
        self._calls = 0
        ready = self._exchange(None, time.monotonic() + self._start_timeout)
        if ready != {"value": "ready"}:
            why = ready if isinstance(ready, str) else str(ready)
            words = self._last_words()
            self.close()
            raise PartError(
                f"the child process for {self._target} could not start ({why}): {words}. "
                f"See that '{self._target.partition(':')[0]}' can be imported by {sys.executable}."
            )

    def _exchange(self, args: tuple[Any, ...] | None, deadline: float) -> Any:
        try:
            return self._ask(args, deadline)
        except TimeoutError:
            return "timeout"
        except (OSError, EOFError):
            return "died"

    def _last_words(self) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        end = f"ended by signal {-code}" if code and code < 0 else f"exit code {code}"
        said = self._last_line()
        return f"{end}; {said}" if said else end


class KillablePool(_Closing):
    """Several `KillableChild`s for one function, each called from a thread of its own.

    The threads only wait on pipes; they live as long as the pool, since Linux ends a child
    with the *thread* that started it. Children start when there is work for them, the first
    one at once. `options` are those of `KillableChild`.
    """

    def __init__(self, target: str, timeout: float, size: int, **options: Any) -> None:
        self._arguments: tuple[str, float, dict[str, Any]] = (target, timeout, options)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="fusechat-child")
        self._own = threading.local()
        self._children: list[KillableChild] = []
        self._closed = False

    def __enter__(self) -> Self:
        """Start the first child; raises `PartError` where it cannot start."""
        try:
            self._threads.submit(self._child).result()
        except BaseException:
            self.close()
            raise
        return self

    def submit(self, *args: Any) -> Future[Outcome]:
        """The outcome of a call, in time; first come, first served."""
        return self._threads.submit(self._run, args)

    def call(self, *args: Any) -> Outcome:
        """The function's value for `args`, or why there is none."""
        return self.submit(*args).result()

    def close(self) -> None:
        """End all children at once; what is not answered yet is cancelled or `died`."""
        self._closed = True
        for child in list(self._children):
            child.end()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._children:
            child.close()

    def _run(self, args: tuple[Any, ...]) -> Outcome:
        try:
            return self._child().call(*args)
        except PartError as error:
            return Outcome(False, kind="died", reason="died", details=str(error))

    def _child(self) -> KillableChild:
        """This thread's child, started."""
        child: KillableChild | None = getattr(self._own, "child", None)
        if child is None:
            target, timeout, options = self._arguments
            child = KillableChild(target, timeout, **options)
            self._children.append(child)
            if self._closed:
                child.end()
            child.__enter__()
            self._own.child = child
        return child


def send(fd: int, payload: bytes, deadline: float) -> None:
    """Write one message to a pipe; `TimeoutError` past `deadline` (`time.monotonic()`)."""
    os.set_blocking(fd, False)
    rest = memoryview(_HEADER.pack(len(payload)) + payload)
    while rest:
        _wait(fd, select.POLLOUT, deadline)
        with contextlib.suppress(BlockingIOError):
            rest = rest[os.write(fd, rest) :]


def receive(fd: int, deadline: float) -> bytes:
    """Read one message from a pipe; `EOFError` where the other end is closed."""
    (length,) = _HEADER.unpack(_read_exactly(fd, _HEADER.size, deadline))
    return _read_exactly(fd, length, deadline)


def _wait(fd: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(fd, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(min(left, 86400.0) * 1000):
        raise TimeoutError


def _read_exactly(fd: int, count: int, deadline: float) -> bytes:
    parts: list[bytes] = []
    while count:
        _wait(fd, select.POLLIN, deadline)
        part = os.read(fd, min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def die_with_parent(parent: int) -> None:
    """End this process when `parent` ends: at once on Linux, within a second elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def _limit_memory(memory_mb: int) -> None:
    if memory_mb:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))


def _answer(function: Callable[..., Any], payload: bytes) -> bytes:
    try:
        return json.dumps({"value": function(*json.loads(payload))}).encode()
    except Exception as error:  # noqa: BLE001 - whatever the function raises is the answer
        message = _short(error)
        return json.dumps({"raised": type(error).__name__, "message": message}).encode()


def _short(error: BaseException) -> str:
    try:
        return str(error)[:300].encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - an exception may fail to print itself
        return ""


def _request(requests: io.BufferedIOBase) -> bytes | None:
    header = requests.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    return requests.read(_HEADER.unpack(header)[0])


def _serve(target: str, parent: int, memory_mb: int, preload: Sequence[str]) -> None:
    replies = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    die_with_parent(parent)
    _limit_memory(memory_mb)
    for name in preload:
        importlib.import_module(name)
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    answer: bytes | None = json.dumps({"value": "ready"}).encode()
    while answer is not None:
        replies.write(_HEADER.pack(len(answer)) + answer)
        replies.flush()
        payload = _request(requests)
        answer = None if payload is None else _answer(function, payload)


if __name__ == "__main__":
    _serve(*json.loads(sys.argv[1]))
