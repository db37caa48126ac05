"""Benchmarks for whole runs without any model; with those of `judged_parts`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from fusechat.parts import Where, Work
from fusechat.records import Prompt
from fusechat.tasks._benchmark import Benchmark
from fusechat.tasks._catalogue import DataFile
from judged_parts import Speaker

HIDDEN = "the question that nobody may print"
ATTACK = "<script>document.title='owned'</script>"


class Lengths(Benchmark):
    """Eight prompts; a longer answer has the higher value."""

    title: ClassVar[str] = "GSM8K"
    published: ClassVar[str | None] = "GSM8K"
    data: ClassVar[tuple[DataFile, ...]] = ()

    def prompts(self, split: str) -> Iterable[Prompt]:
        for number in range(8):
            yield Prompt.of(f"Say {number}. {ATTACK}", domain="all", item=f"test/{number}")

    def graders(self) -> Any:
        return {"paper": {"use": "length", "scale": 10_000.0}}


class Short(Lengths):
    """The same for answers below 100 characters."""

    def graders(self) -> Any:
        return {"paper": {"use": "length", "scale": 100.0}}


class Hidden(Lengths):
    """The same, and its texts are not to be shown."""

    title: ClassVar[str] = "GPQA-Diamond"
    published: ClassVar[str | None] = "GPQA-Diamond"
    private: ClassVar[bool] = True

    def prompts(self, split: str) -> Iterable[Prompt]:
        for number in range(8):
            yield Prompt.of(f"{number}: {HIDDEN}", domain="all", item=f"hidden/{number}")


class Voice(Speaker):
    """A speaker whose text is its model, so that two of them are asked alike."""

    text: str = ""
    model: str

    def open(self, where: Where) -> AbstractContextManager[Work]:
        said = self.model_dump(include={"temperature", "max_new_tokens", "fails", "cuts"})
        return Speaker(text=self.model, **said).open(where)

    def served_model(self) -> str:
        return self.model.split()[0]
