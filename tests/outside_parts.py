"""Parts from outside the package, as a user writes them; some misbehave on purpose."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

from fusechat.parts import (
    Annotator,
    Choice,
    Group,
    Loss,
    PairChoice,
    Refusal,
    Source,
    Strategy,
    Task,
    Where,
)
from fusechat.records import Candidate, Prompt, Request, Response, Score

Work = Callable[[Iterator[Any]], Iterator[Any]]


class Shout(Source):
    """Answers in capitals."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(lambda rows: (self._answer(row) for row in rows))

    def _answer(self, row: Request) -> Response:
        return row.response(row.prompt.messages[-1].content.upper() + "!" * row.index, "stop")


class Naughty(Source):
    """Misbehaves on prompts that hold the word `how`; keeps a tally of calls in `tally`."""

    how: str
    tally: str

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(self._work)

    def _work(self, rows: Iterator[Request]) -> Iterator[Response]:
        for row in rows:
            text = row.prompt.messages[-1].content
            with Path(self.tally).open("a") as handle:
                handle.write(f"{text} {row.index}\n")
            if "bad" in text:
                answer = self._misbehave(row)
                if answer is None:
                    continue
                yield answer
            yield row.response(f"fine: {text}" + "!" * row.index, "stop")

    def _misbehave(self, row: Request) -> Response | None:
        if self.how == "raise":
            raise RuntimeError("no such luck")
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "foreign":
            return row.model_copy(update={"made_from": "nobody"}).response("x", "stop")
        return None


class InBatches(Source):
    """Says how many rows were computed together, in batches of `size`."""

    size: int = 3

    def cut(self, rows: Sequence[Request]) -> list[list[Request]]:
        ordered = sorted(rows, key=lambda row: row.prompt.id)
        return [ordered[i : i + self.size] for i in range(0, len(ordered), self.size)]

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(self._work)

    def _work(self, rows: Iterator[Request]) -> Iterator[Response]:
        batch = list(rows)
        for row in reversed(batch):
            yield row.response(f"one of {len(batch)}", "stop")


class Vowels(Annotator):
    """Counts vowels."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(lambda rows: (self._judge(row) for row in rows))

    def _judge(self, row: Candidate) -> Score:
        return row.score(float(sum(letter in "aeiouAEIOU" for letter in row.response.text)))


class Shortest(Strategy):
    """Picks the response with the fewest tokens, else the first."""

    emits: ClassVar[Any] = "Demonstration"

    def select(self, group: Group) -> Sequence[Choice] | Refusal:
        whole = [seen for seen in group.responses if seen.whole]
        if not whole:
            return Refusal("no whole response")
        best = min(whole, key=lambda seen: (seen.tokens or 0, seen.source, seen.index))
        return [Choice(best.response_id, None, "shortest")]


class Across(Strategy):
    """The first response of the first source over that of the last: it needs two sources."""

    emits = "Pair"

    def select(self, group: Group) -> Sequence[PairChoice] | Refusal:
        first = {r.source: r.response_id for r in reversed(group.responses)}
        if len(first) < 2:
            return Refusal("one source only")
        chosen, *_, rejected = (first[name] for name in group.sources if name in first)
        return [PairChoice(chosen, rejected, None, None, None, "across")]


class Hinge(Loss):
    """max(0, 1 - (chosen - rejected)): a loss of one's own."""

    consumes: ClassVar[Any] = "Pair"

    def __call__(self, logps: Any, lengths: Any, progress: float) -> Any:
        margin = logps["chosen"] - logps["rejected"]
        return (1 - margin).clamp(min=0), {"margins": margin}


class Riddles(Task):
    """Three riddles."""

    domain: ClassVar[str | None] = "riddles"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def prompts(self, split: str) -> Iterator[Prompt]:
        for number in range(3):
            yield Prompt.of(f"{split} riddle {number}", domain="riddles", answer=str(number))

    def graded_by(self) -> dict[str, Any] | None:
        return {"use": "outside_parts:Vowels"}
