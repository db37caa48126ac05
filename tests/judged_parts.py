"""Benchmarks, models and judges without any model, for tests of the units between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from fusechat.parts import Source, Where, Work
from fusechat.records import Prompt, Request, Response
from fusechat.tasks._benchmark import Benchmark, JudgedBenchmark, Question, Verdict
from fusechat.tasks._catalogue import DataFile


class Speaker(Source):
    """Answers with `text`, the temperature and the number of messages it was shown.

    A prompt that holds a word of `fails` is a failed request; one of `cuts` is cut.
    """

    text: str
    temperature: float = 0.5
    max_new_tokens: int = 99
    fails: tuple[str, ...] = ()
    cuts: tuple[str, ...] = ()
    begins: bool = False
    misses: int | None = None
    """The sample of this number is a failed request."""
    plain: bool = False
    """Say only `text` and the sample's number."""

    def prefills(self) -> bool:
        return self.begins

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(lambda rows: map(self._answer, rows))

    def _answer(self, row: Request) -> Response:
        said = " ".join(message.content for message in row.prompt.messages)
        if row.index == self.misses or any(word in said for word in self.fails):
            return row.failure("no such answer")
        finish = "length" if any(word in said for word in self.cuts) else "stop"
        text = f"{self.text} T={self.temperature:g} n={len(row.prompt.messages)} i={row.index}"
        if self.plain:
            text = f"{self.text} {row.index}."
        return row.response(text, finish, tokens=len(text.split()))  # type: ignore[arg-type]


class Referee(Source):
    """A judge: `[[x]]` with x the number of letters a in the answer it is shown.

    Of a text with a word of `dumb` it says nothing of use at first; with one of `mute` never; with
    one of `down` its request fails.
    """

    temperature: float = 0.5
    max_new_tokens: int = 99
    dumb: tuple[str, ...] = ()
    mute: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    mark: str = ""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        return nullcontext(lambda rows: map(self._answer, rows))

    def _answer(self, row: Request) -> Response:
        said = row.prompt.messages[0].content
        again = len(row.prompt.messages) > 1
        if any(word in said for word in self.down):
            return row.failure("the judge is down")
        if any(w in said for w in self.mute) or (any(w in said for w in self.dumb) and not again):
            return row.response("Hard to say.", "stop")
        answer = said.partition("ANSWER:")[2]
        return row.response(f"I think [[{answer.count('a')}]]{self.mark}", "stop")


class Talk(JudgedBenchmark):
    """Three questions in two categories; the third has two turns."""

    title: ClassVar[str] = "Talk"
    scale: ClassVar[float] = 10.0
    data: ClassVar[tuple[DataFile, ...]] = ()
    judges: ClassVar[tuple[str, ...]] = ("Referee",)
    domains: ClassVar[tuple[str, ...]] = ("calm", "wild")
    turns: ClassVar[int] = 2

    def prompts(self, split: str) -> Iterable[Prompt]:
        yield Prompt.of("First?", domain="calm", item="1")
        yield Prompt.of("Second?", domain="wild", item="2")
        yield Prompt.of("Third?", domain="wild", item="3", turns=("And then?",))

    def temperatures(self) -> Mapping[str, float]:
        return {"calm": 0.0, "wild": 0.7}

    def questions(self, prompt: Prompt, response: Response) -> Iterable[Question]:
        shown = " / ".join(message.content for message in prompt.messages)
        for game in ("1", "2"):
            text = f"Q{game}: {shown} ANSWER: {response.text}"
            yield Question([{"role": "user", "content": text}], game)

    def reading(self, prompt: Prompt, game: str, answer: Response) -> Any:
        found = re.search(r"\[\[(\d+)\]\]", answer.text)
        return int(found.group(1)) if found else None

    def verdict(self, prompt: Prompt, response: Response, readings: Mapping[str, Any]) -> Verdict:
        mean = sum(readings.values()) / len(readings)
        return Verdict(mean / 10, {"games": dict(readings)})


class Sums(Benchmark):
    """Four sums, two samples each, graded in two ways."""

    title: ClassVar[str] = "Sums"
    data: ClassVar[tuple[DataFile, ...]] = ()
    prefill: bool = True

    def prompts(self, split: str) -> Iterable[Prompt]:
        for number in range(4):
            messages = [{"role": "user", "content": f"{number} + 0?"}]
            if self.prefill:
                messages.append({"role": "assistant", "content": "It is"})
            yield Prompt.of(messages, domain="all", answer=str(number), item=str(number))

    def samples(self) -> int:
        return 2

    def decoding(self) -> dict[str, Any]:
        return {"temperature": 0.2, "max_new_tokens": 7, "top_p": 0.95}

    def graders(self) -> Any:
        return {"paper": {"use": "length"}, "robust": {"use": "math_answer"}}


class Away(Benchmark):
    """A benchmark whose file is never there."""

    title: ClassVar[str] = "Away"
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile("items", ("away.jsonl",), "MIT", "example.org/away", items=3),
    )

    def prompts(self, split: str) -> Iterator[Prompt]:
        raise AssertionError("never read")
