"""Progress of long work: rows done, rate and time left; on the terminal and in a file.

The file (`progress.json` in the unit's folder) is what `fusechat status` reads from
another terminal.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO


class Progress:
    """Counts rows of one unit. `stream` is None for a quiet run."""

    def __init__(self, unit: str, file: Path | None = None, stream: TextIO | None = None) -> None:
        self.unit, self._file, self._stream = unit, file, stream
        self._total, self._done, self._what = 0, 0, ""
        self._begun = self._shown = time.monotonic()

    def start(self, total: int, what: str, done: int = 0) -> None:
        """Begin counting `total` rows of `what`, of which `done` were there already."""
        self._total, self._done, self._first, self._what = total, done, done, what
        self._begun = time.monotonic()
        self._show(force=True)

    def advance(self, count: int = 1) -> None:
        """Count `count` more rows."""
        self._done += count
        self._show(force=self._done >= self._total)

    def note(self, text: str) -> None:
        """Print one line about this unit."""
        if self._stream is not None:
            self._clear()
            print(f"{self.unit}: {text}", file=self._stream, flush=True)

    def close(self) -> None:
        """End the terminal line."""
        self._clear()

    def line(self) -> str:
        """One line: rows done of all, rate, time left."""
        seconds = max(time.monotonic() - self._begun, 1e-9)
        rate = (self._done - self._first) / seconds
        left = f", {_clock((self._total - self._done) / rate)} left" if rate > 0 else ""
        return f"{self.unit}: {self._done}/{self._total} {self._what}, {rate:.1f}/s{left}"

    _first = 0

    def _show(self, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._shown < 0.5:
            return
        self._shown = now
        if self._file is not None:
            self._write()
        if self._stream is not None and self._stream.isatty():
            print("\r\x1b[K" + self.line(), end="", file=self._stream, flush=True)

    def _write(self) -> None:
        assert self._file is not None
        state = {
            "unit": self.unit, "done": self._done, "total": self._total, "what": self._what,
            "line": self.line(), "pid": os.getpid(),
        }  # fmt: skip
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(self._file)

    def _clear(self) -> None:
        if self._stream is not None and self._stream.isatty():
            print("\r\x1b[K", end="", file=self._stream, flush=True)


def quiet(unit: str = "") -> Progress:
    """A progress that shows nothing."""
    return Progress(unit)


def to_terminal(unit: str, file: Path | None = None) -> Progress:
    """A progress that shows itself on standard error."""
    return Progress(unit, file, sys.stderr)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
