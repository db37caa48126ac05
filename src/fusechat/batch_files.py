"""Provider batch files (OpenAI Batch JSONL) out and in, as executors of a row-wise job.

A request line is `{"custom_id", "method", "url", "body"}` with one row's `made_from` as its id; a
result line is `{"custom_id", "response": {"status_code", "body"}, "error"}`. The job hands out the
rows that are still unanswered: `BatchWriter` writes them down and answers none, `BatchReader`
answers those that it has a result for. `vllm run-batch` and other tools read and write the same
lines.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fusechat.errors import FusechatError
from fusechat.executors.rows import Batch, RowOut
from fusechat.parts import RowPart, Where
from fusechat.records import Request

MOST_ROWS = 50_000
MOST_BYTES = 200_000_000
"""What OpenAI takes in one file."""
URL = "/v1/chat/completions"
_REFUSED = (400, 413, 422)
"""Statuses with which a provider refuses the request itself; asking again changes nothing."""

Body = Callable[[Request], Mapping[str, Any]]
"""The body of the request for one row."""
Answered = Callable[[Request, Mapping[str, Any]], RowOut]
"""The row that a response body gives; raises `ValueError` where it cannot be used."""


class BatchFileError(FusechatError):
    """A batch file or folder cannot be used; mended by who calls."""


class BatchWriter:
    """Writes a request line for each row that it is given, and answers none."""

    partial = True

    def __init__(self, folder: Path, body: Body, rows: int = MOST_ROWS) -> None:
        """`rows`: lines of a file. Raises `BatchFileError` where the folder has files already."""
        if folder.exists() and any(folder.iterdir()):
            raise BatchFileError(
                f"{folder} is not empty; its files may be under way at a provider. Give a new one."
            )
        if not 1 <= rows <= MOST_ROWS:
            raise BatchFileError(f"--rows {rows}: give a number from 1 to {MOST_ROWS}.")
        self._folder, self._body, self._rows = folder, body, rows
        self.files: list[Path] = []
        self.written = 0
        """Lines in all files."""

    def map(
        self, part: RowPart, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[RowOut], None, None]:
        """Write all rows; yields nothing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lines = (line for batch in batches for line in map(self._line, batch.rows))
        first = next(lines, None)
        while first is not None:
            first = self._write_file(first, lines)
        yield from ()

    def notes(self) -> Sequence[Mapping[str, Any]]:
        """Nothing."""
        return ()

    def close(self) -> None:
        """Nothing is open."""

    def _line(self, row: Request) -> bytes:
        line = {
            "custom_id": row.made_from,
            "method": "POST",
            "url": URL,
            "body": self._body(row),
        }
        return json.dumps(line).encode() + b"\n"  # ASCII: no reader sees a line break in a text

    def _write_file(self, line: bytes, lines: Iterator[bytes]) -> bytes | None:
        """Fill one file, put it in place, and give the line that did not fit any more."""
        path = self._folder / f"requests-{len(self.files):05d}.jsonl"
        draft = path.with_suffix(".part")
        left: bytes | None = line
        rows = size = 0
        with draft.open("wb") as file:
            while left is not None and rows < self._rows and size + len(left) <= MOST_BYTES:
                file.write(left)
                rows, size = rows + 1, size + len(left)
                left = next(lines, None)
        if not rows:
            raise BatchFileError(f"a request has {len(line)} bytes; a file takes {MOST_BYTES}.")
        draft.rename(path)
        self.files.append(path)
        self.written += rows
        return left


@dataclass
class Tally:
    """What was in the files that came back."""

    lines: int = 0
    answered: int = 0
    """Rows that have an answer now and had none."""
    refused: int = 0
    """Rows kept with an error: the provider refuses the request itself."""
    open: Counter[str] = field(default_factory=Counter)
    """Rows left open, by reason; the next request files hold them."""
    twice: int = 0
    """Lines about a row that an earlier line answered."""
    known: int = 0
    """Rows that the unit had an answer to already."""
    unknown: int = 0
    """Ids that are no row of the unit."""
    unreadable: int = 0
    """Lines that are no JSON object with a custom_id, such as the last one of a cut file."""


class BatchReader:
    """Answers the rows that the provider's files have an answer to, and leaves out the others."""

    partial = True

    def __init__(self, files: Sequence[Path], answered: Answered) -> None:
        """Reads through the files once, and remembers where each row's line is."""
        self._answered = answered
        self.tally = Tally()
        self._places: dict[str, tuple[int, int]] = {}
        self._good: set[str] = set()
        self._handles: list[IO[bytes]] = []
        try:
            for file in files:
                self._scan(file)
        except BaseException:
            self.close()
            raise

    def map(
        self, part: RowPart, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[RowOut], None, None]:
        """Yield the answers to each batch."""
        for batch in batches:
            rows = [out for row in batch.rows if (out := self._answer(row)) is not None]
            if rows:
                yield rows

    def notes(self) -> Sequence[Mapping[str, Any]]:
        """Nothing."""
        return ()

    def close(self) -> None:
        """Close the files."""
        for handle in self._handles:
            handle.close()

    def settle(self, made: Iterable[str]) -> Tally:
        """The tally, once it is known which rows (`made_from`) the unit has answers to."""
        left = set(self._places)
        before = len(left)
        left.difference_update(made)
        self.tally.known = before - len(left)
        self.tally.unknown = len(left)
        return self.tally

    def _scan(self, path: Path) -> None:
        try:
            handle = path.open("rb")
        except OSError as error:
            raise BatchFileError(f"{path} cannot be read: {error.strerror}.") from error
        self._handles.append(handle)
        at = 0
        for line in handle:
            if line.strip():
                self._note(line, at)
            at += len(line)

    def _note(self, line: bytes, at: int) -> None:
        self.tally.lines += 1
        found = _parsed(line)
        if found is None:
            self.tally.unreadable += 1
            return
        name, good = found["custom_id"], _status(found) == 200
        if name in self._good or (name in self._places and not good):
            self.tally.twice += 1
            return
        self._places[name] = (len(self._handles) - 1, at)
        if good:
            self._good.add(name)

    def _answer(self, row: Request) -> RowOut | None:
        place = self._places.pop(row.made_from, None)
        if place is None:
            return None
        handle = self._handles[place[0]]
        handle.seek(place[1])
        result = _parsed(handle.readline()) or {}
        status = _status(result)
        if status == 200:
            return self._of_body(row, result["response"]["body"])
        if status in _REFUSED:
            self.tally.refused += 1
            return row.failure(f"refused by the provider ({status}): {_said(result)}")
        self.tally.open[f"{status or 'no response'}: {_said(result)}"] += 1
        return None

    def _of_body(self, row: Request, body: Any) -> RowOut | None:
        try:
            if not isinstance(body, Mapping):
                raise ValueError("the response has no body")
            out = self._answered(row, body)
        except ValueError as error:
            self.tally.open[str(error)] += 1
            return None
        self.tally.answered += 1
        return out


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    usable = isinstance(found, dict) and isinstance(found.get("custom_id"), str)
    return found if usable else None


def _status(result: Mapping[str, Any]) -> int | None:
    """The status of a result line; None where there is no response, or an error beside it."""
    response = result.get("response")
    if result.get("error") or not isinstance(response, Mapping):
        return None
    status = response.get("status_code", 200)
    return status if isinstance(status, int) else None


def _said(result: Mapping[str, Any]) -> str:
    """What a provider said of a failed line, short enough to be counted."""
    response = result.get("response")
    body = response.get("body") if isinstance(response, Mapping) else None
    for place in (result.get("error"), body.get("error") if isinstance(body, Mapping) else None):
        if isinstance(place, Mapping):
            said = place.get("message") or place.get("code")
            if said:
                return str(said)[:200]
    return "no reason given"
