"""Parts that break their contracts, as users' own may; for `test_bad_input.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

from fusechat.parts import Annotator, Source, Task, Where, Work
from fusechat.records import Prompt


class NotANumber(Annotator):
    """Gives NaN to responses that end with a 1."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(
            lambda rows: (
                row.score(float("nan") if row.response.text.endswith("1") else 1.0) for row in rows
            )
        )


class FaultsRaise(Source):
    """Raises where it should say what is wrong."""

    def faults(self) -> Iterator[tuple[str, str]]:
        raise RuntimeError("no such luck")


class NoRow(Source):
    """Answers with nothing at all."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(lambda rows: (None for _ in rows))


class Unfinished(Source):
    """Every answer ends as `finish` says, with `text`."""

    finish: str
    text: str

    def open(self, where: Where) -> AbstractContextManager[Work]:
        def answer(row: Any) -> Any:
            return row.response(self.text, self.finish)

        return nullcontext(lambda rows: map(answer, rows))


class Slow(Source):
    """Takes its time, and keeps a tally of its calls."""

    tally: str
    seconds: float = 0.0

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(self._work)

    def _work(self, rows: Iterator[Any]) -> Iterator[Any]:
        for row in rows:
            with Path(self.tally).open("a") as handle:
                handle.write(f"{row.prompt.id} {row.index}\n")
            time.sleep(self.seconds)
            yield row.response(f"{row.prompt.messages[-1].content} {row.index}", "stop")


class NoPrompts(Task):
    """A benchmark that holds nothing."""

    domain: ClassVar[str | None] = "chat"
    splits: ClassVar[tuple[str, ...]] = ("test",)

    def prompts(self, split: str) -> list[Prompt]:
        return []

    def graded_by(self) -> dict[str, Any]:
        return {"use": "length"}
