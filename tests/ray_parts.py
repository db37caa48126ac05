"""Parts whose workers tell their process ids, so that a test can kill one; for `test_ray.py`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from fusechat.errors import SourceError
from fusechat.parts import Source, Where, Work


class Paced(Source):
    """Shouts, row by row, each with some rest; a file in `pids` for each worker's process."""

    pids: str
    seconds: float = 0.0

    def open(self, where: Where) -> AbstractContextManager[Work]:
        (Path(self.pids) / str(os.getpid())).write_text("\n".join(where.base_urls))
        return nullcontext(self._work)

    def _work(self, rows: Iterator[Any]) -> Iterator[Any]:
        for row in rows:
            time.sleep(self.seconds)
            yield row.response(self._text(row).upper(), "stop")

    @staticmethod
    def _text(row: Any) -> str:
        return str(row.prompt.messages[-1].content)


class PacedTogether(Paced):
    """The same in batches of three, of which the texts tell."""

    def cut(self, rows: Sequence[Any]) -> list[list[Any]]:
        return [list(rows[at : at + 3]) for at in range(0, len(rows), 3)]

    def _work(self, rows: Iterator[Any]) -> Iterator[Any]:
        batch = list(rows)
        time.sleep(self.seconds)
        for row in batch:
            yield row.response(f"{self._text(row)} of {len(batch)}", "stop")


class Deadly(Paced):
    """A row that says so kills its worker."""

    def _work(self, rows: Iterator[Any]) -> Iterator[Any]:
        for row in rows:
            if "bad" in self._text(row):
                os._exit(7)
            yield row.response(self._text(row), "stop")


class Gone(Source):
    """Shouts; its server is gone after `good` rows of a call, until the file `mended` is there."""

    mended: str
    good: int = 5

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(self._work)

    def _work(self, rows: Iterator[Any]) -> Iterator[Any]:
        for number, row in enumerate(rows):
            if number == self.good and not Path(self.mended).exists():
                raise SourceError("the server is gone; start it again")
            yield row.response(row.prompt.messages[-1].content.upper(), "stop")
