"""`fusechat serve` as a child process, for tests and scripts.

with serving("zoo/gemma", name="gemma") as server:
    ... server.url + "/chat/completions" ...
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fusechat.errors import PartError

_PROGRAM = (
    "import sys; from fusechat.executors.worker import die_with_parent; die_with_parent(); "
    "from fusechat.cli import main; sys.exit(main())"
)
_READY = " at http://"


@dataclass
class ServingChild:
    """A running server."""

    url: str
    """Its base URL, such as `http://127.0.0.1:43123/v1`."""
    process: subprocess.Popen[str]

    @property
    def root(self) -> str:
        """Its URL without `/v1`, for `/health` and `/faults/counts`."""
        return self.url.removesuffix("/v1")


@contextmanager
def serving(
    model: str | Path,
    *,
    name: str | None = None,
    port: int = 0,
    faults: Path | None = None,
    options: Sequence[str] = (),
    patience: float = 180,
) -> Iterator[ServingChild]:
    """A server of `model` while open; it also ends where this process does.

    `options` are further words of `fusechat serve`; `patience` is in seconds. Raises `PartError`
    with the last lines that it wrote where it ends before it is ready, or is not ready in time.
    """
    words = ["serve", str(model), "--port", str(port), *options]
    words += ["--served-model-name", name] if name else []
    words += ["--faults", str(faults)] if faults else []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *words],
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            yield ServingChild(_when_ready(process, log, patience), process)
        finally:
            _end(process)


def _when_ready(process: subprocess.Popen[str], log: IO[str], patience: float) -> str:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        ended = process.poll() is not None
        lines = _lines(log)
        ready = [line for line in lines if _READY in line]
        if ready:
            return ready[0].partition(_READY)[2].split()[0].join(("http://", ""))
        if ended:
            raise PartError("fusechat serve ended:\n" + "\n".join(lines[-20:]))
        time.sleep(0.05)
    raise PartError(f"fusechat serve is not ready after {patience:g} s:\n{_lines(log)[-20:]}")


def _lines(log: IO[str]) -> list[str]:
    log.seek(0)
    return log.read().splitlines()


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
