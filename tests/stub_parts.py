"""Parts and an executor that cost nothing, for tests of kills, leases and shards.

Each row that a part receives is noted in the file that FUSECHAT_TEST_TALLY names.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fusechat.executors.rows import Batch, RowOut, compute
from fusechat.parts import Annotator, Source, Where
from fusechat.records import Candidate, Request, Response, Score

Work = Callable[[Iterator[Any]], Iterator[Any]]


def note(row: Any) -> None:
    """Say that a row was received; one write a line, so that processes may share the file."""
    if path := os.environ.get("FUSECHAT_TEST_TALLY"):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, f"{row.made_from}\n".encode())
        finally:
            os.close(descriptor)


class Counted(Source):
    """Answers with the prompt, the sample's number and a mark."""

    mark: str = "!"

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(lambda rows: map(self._answer, rows))

    def _answer(self, row: Request) -> Response:
        note(row)
        return row.response(row.prompt.messages[-1].content + self.mark * (row.index + 1), "stop")


class CountedLength(Annotator):
    """The length of a response, for a score."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(lambda rows: map(self._judge, rows))

    @staticmethod
    def _judge(row: Candidate) -> Score:
        note(row)
        return row.score(float(len(row.response.text)))


class Inline:
    """An executor in the caller's own process: one batch at a time, rows `group` by `group`."""

    def __init__(self, group: int = 4) -> None:
        self.group = group

    def map(
        self, part: Any, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[RowOut], None, None]:
        with part.open(where) as work:
            for batch in batches:
                rows = list(compute(work, batch.rows))
                for start in range(0, len(rows), self.group):
                    yield rows[start : start + self.group]

    def notes(self) -> Sequence[Any]:
        return ()

    def close(self) -> None:
        pass


class Hoard(Counted):
    """Has `ahead` rows in flight before it answers the first; dies over a prompt with `bad`."""

    ahead: int = 100

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(self._work)

    def _work(self, rows: Iterator[Request]) -> Iterator[Response]:
        while flight := list(itertools.islice(rows, self.ahead)):
            for row in flight:
                note(row)
            if any("bad" in row.prompt.messages[-1].content for row in flight):
                os.kill(os.getpid(), signal.SIGKILL)
            yield from (row.response(f"with {len(flight)}", "stop") for row in flight)
