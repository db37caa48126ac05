"""What a published benchmark is beside a prompt set: its files, decoding, graders and score."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic.functional_validators import BeforeValidator

from fusechat.digests import digest, digest_path
from fusechat.metrics.scoring import Items
from fusechat.parts import SPEED, Task, UnreadableRow
from fusechat.records import Prompt, Response
from fusechat.settings import resolve_path
from fusechat.tasks._catalogue import DataFile, sha256_of

Family = Literal["llama", "qwen", "gemma"]
"""Model families for which FuseChat-3.0's evaluation has settings of its own."""
Profile = Literal["paper", "robust"]


class Benchmark(Task):
    """Base of the benchmarks: all that a row of the table needs, as pure functions of its files.

    A row of the benchmark's own file that is read gives one `Prompt`: `item` is its publisher's
    name for it, `domain` its category (by which temperatures and averages go).
    """

    splits: ClassVar[tuple[str, ...]] = ("test",)
    title: ClassVar[str]
    """The row's name in the paper's table."""
    published: ClassVar[str | None] = None
    """Key of the row in the published figures; None where the paper has no such row."""
    scale: ClassVar[float] = 100.0
    """What a value of 1 is in the table: 100 (per cent) or 10 (ratings)."""
    data: ClassVar[tuple[DataFile, ...]]
    domains: ClassVar[tuple[str, ...]] = ()
    """All categories, where temperatures differ by category."""
    turns: ClassVar[int] = 1
    """User turns of an item; where there are two, `Prompt.turns` has the second."""
    private: ClassVar[bool] = False
    """Whether its publisher asks that no item be shown in plain text."""
    differs: ClassVar[str] = ""
    """How the row differs from the paper's, whatever the profile, in a sentence; for the table."""

    data_dir: Annotated[str | None, BeforeValidator(resolve_path), SPEED] = None
    """Folder of the benchmarks' files, which are in the key by their content."""
    family: Family = "llama"
    """Whose prompts and decoding are used: that of the target, for all models of the row."""

    def found(self) -> dict[str, Path]:
        """Role -> file, of those that are there."""
        places = {file.role: file.find(self.data_dir) for file in self.data}
        return {role: path for role, path in places.items() if path is not None}

    def missing(self) -> str | None:
        """Why the row must be skipped, with the mend; None where it need not be."""
        there = self.found()
        lacking = [f for f in self.data if not f.optional and f.role not in there]
        return " ".join(file.missing(self.data_dir) for file in lacking) or None

    def notes(self) -> list[str]:
        """What a reader of the row must know of its data: other hashes, parts that are missing."""
        there, out = self.found(), []
        for file in self.data:
            if file.role not in there:
                if file.optional:
                    out.append(file.missing(self.data_dir))
            elif file.sha256 and (sha := sha256_of(there[file.role])) not in file.sha256:
                known = ", ".join(file.sha256.values())
                out.append(f"{there[file.role].name} is none of the known files ({known}): {sha}")
        return out

    def lacks(self) -> list[str]:
        """What of the benchmark is not in the files that are there, in sentences: its row is then
        partial, however few items are asked for."""
        return []

    def expected(self) -> int | None:
        """Items of the whole benchmark; fewer that are there make the row partial."""
        counts = [file.items for file in self.data if file.items is not None]
        return sum(counts) if counts else None

    def key(self) -> dict[str, Any]:
        """The settings, and the content of the files."""
        files = {role: digest_path(path) for role, path in self.found().items()}
        return super().key() | {"files": files}

    def decoding(self) -> dict[str, Any]:
        """Settings of a source with which the paper samples the answers.

        `temperature`, `max_new_tokens`, perhaps `top_p`, `top_k`, `repetition_penalty`, `stop`;
        what a source has no setting for is left out, and told in the row.
        """
        return {"temperature": 0.0, "max_new_tokens": 2048}

    def temperatures(self) -> Mapping[str, float]:
        """Category -> temperature, of `domains`, where they differ; empty where they do not."""
        return {}

    def samples(self) -> int:
        """Responses to each prompt."""
        return 1

    def graders(self) -> dict[Profile, dict[str, Any]]:
        """Profile -> annotator, as a recipe would write it; one where both grade alike, and none
        where a judge model grades."""
        return {}

    def graded_by(self) -> dict[str, Any] | None:
        """The robust grader, or else the paper's."""
        found = self.graders()
        return found.get("robust") or found.get("paper")

    def score(self, items: Items) -> float:
        """The row's number in the table's units, over the items with a value (at least one)."""
        return float(items.values[items.known()].mean() * self.scale)

    def extras(self, items: Items) -> dict[str, Any]:
        """Other numbers of the row worth showing: by category, another reading. JSON."""
        return {}


@dataclass(frozen=True)
class Question:
    """What a judge is asked about one response."""

    messages: Sequence[Mapping[str, str]]
    game: str = ""
    """Which of several questions about the same response, such as `1` and `2` of swapped places."""


@dataclass(frozen=True)
class Verdict:
    """What a judge's answers come to: a value in [0, 1], and what is worth keeping (JSON)."""

    value: float
    details: Mapping[str, Any]


class JudgedBenchmark(Benchmark):
    """A benchmark whose answers a judge model reads."""

    judges: ClassVar[tuple[str, ...]]
    """The paper's judge, by all its names; a row of another judge is not comparable."""

    def judge_decoding(self) -> dict[str, Any]:
        """Settings of the judge's source."""
        return {"temperature": 0.0, "max_new_tokens": 2048}

    def questions(self, prompt: Prompt, response: Response) -> Iterable[Question]:
        """What is asked about a response: a whole, cut or blank one, in any turn.

        A second turn's prompt holds the whole conversation, with `turns` empty and the same `item`.
        """
        raise NotImplementedError

    def reading(self, prompt: Prompt, game: str, answer: Response) -> Any:
        """What one answer of the judge says, as JSON; None where it is off the format.

        `prompt`: the one that was answered. Blank, cut and failed answers come here too.
        """
        raise NotImplementedError

    def again(self, question: Sequence[Mapping[str, str]], answer: str) -> list[dict[str, str]]:
        """The conversation with which a judge is asked once more after an answer off the format."""
        return [
            *({"role": m["role"], "content": m["content"]} for m in question),
            {"role": "assistant", "content": answer.strip() or "..."},
            {"role": "user", "content": self.nudge},
        ]

    nudge: ClassVar[str] = "Finish your judgment: give the verdict in the format asked for."
    """What a judge is told after an answer off the format."""

    def verdict(self, prompt: Prompt, response: Response, readings: Mapping[str, Any]) -> Verdict:
        """What the readings of all games (none of them None) come to."""
        raise NotImplementedError


def numbered(rows: Iterable[Prompt | UnreadableRow]) -> Iterator[Prompt | UnreadableRow]:
    """The prompts, with an id of its own for each that repeats another's messages.

    A benchmark counts each of its items, also where two of them read the same.
    """
    seen: set[str] = set()
    for place, row in enumerate(rows):
        if not isinstance(row, Prompt):
            yield row
        elif row.id not in seen:
            seen.add(row.id)
            yield row
        else:
            yield row.model_copy(update={"id": digest([row.id, row.item or place])})


@lru_cache(maxsize=8)
def json_file(path: Path) -> Any:
    """A JSON file, read once."""
    return json.loads(path.read_text(encoding="utf-8"))
