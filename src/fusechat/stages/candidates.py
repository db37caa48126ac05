"""The input rows of the two row-wise stages, as streams: a prompt's rows at a time.

Both can be gone through again and again; rows are made (with the digest of all that the part
sees, `made_from`) only when a prompt's are iterated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from fusechat.digests import digest
from fusechat.errors import DamagedError
from fusechat.parts import Annotator, Source
from fusechat.records import Candidate, Dropped, Prompt, Request, Response
from fusechat.stages.entries import AnnotatorEntry, SourceEntry
from fusechat.tables import read_dicts, read_table

KEYS = ("id", "prompt_id", "source")
"""Columns of a response that say where it belongs."""
Row = dict[str, Any]


@dataclass(frozen=True)
class _Rows:
    """The rows of one prompt: how many, and how they are made."""

    size: int
    make: Callable[[], Iterator[Any]]

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Any]:
        return self.make()


class Requests:
    """What one source is asked: all prompts that it is wanted for, so many samples each."""

    def __init__(
        self,
        entry: SourceEntry,
        prompts: Path,
        source: str,
        seed: int,
        only: Iterable[str] | None = None,
    ) -> None:
        """`only`: ids of the prompts that are asked; None: all."""
        self._only = None if only is None else frozenset(map(str, only))
        self._entry, self._prompts, self._source, self._seed = entry, prompts, source, seed
        self._digest = entry.part.digest()

    def __iter__(self) -> Iterator[_Rows]:
        for prompt, count in self._counted():
            if count:
                yield _Rows(count, lambda p=prompt, n=count: self._requests(p, n))  # type: ignore[misc]

    def survey(self) -> tuple[int, int]:
        """Number of requests, and of prompts without one."""
        counts = [0, 0]
        for _, count in self._counted():
            counts[0] += count
            counts[1] += not count
        return counts[0], counts[1]

    def dropped(self) -> Iterator[Dropped]:
        """The prompts that the source has no response to."""
        for prompt, count in self._counted():
            if not count:
                yield Dropped(
                    prompt_id=prompt.id,
                    origin=prompt.origin,
                    domain=prompt.domain,
                    stage="sample",
                    reason="no stored response",
                )

    def _counted(self) -> Iterator[tuple[Prompt, int]]:
        for prompt in read_table(self._prompts, Prompt):
            asked = self._only is None or prompt.id in self._only
            if asked and self._entry.wants(prompt.domain):
                wanted = self._entry.samples_for(prompt.domain)
                yield prompt, self._entry.part.available(prompt, wanted)

    def _requests(self, prompt: Prompt, count: int) -> Iterator[Request]:
        part: Source = self._entry.part
        for index in range(count):
            draft = Request(
                prompt=prompt,
                source=self._source,
                index=index,
                seed=part.row_seed(self._seed, prompt, index),
                model=part.served_model(),
                made_from="",
            )
            made_from = digest([self._digest, part.sees(draft)])
            yield draft.model_copy(update={"made_from": made_from})


class Candidates:
    """What one annotator judges: prompt by prompt, the responses of all sources.

    The tables of the sources are read side by side where they are in prompt order, as sampling
    writes them; where one is in another order, all are held in memory.
    """

    def __init__(
        self, entry: AnnotatorEntry, prompts: Path, samples: Mapping[str, Path], annotator: str
    ) -> None:
        """`samples`: unit name -> folder, in recipe order."""
        self._entry, self._prompts, self._annotator = entry, prompts, annotator
        self._tables = [folder / "data" for folder in samples.values()]
        self._digest = entry.part.digest()
        self._ordered = True

    def __iter__(self) -> Iterator[_Rows]:
        for prompt, rows in self._judged(None, None):
            yield _Rows(len(rows), lambda p=prompt, r=rows: self._candidates(p, r))  # type: ignore[misc]

    def survey(self) -> int:
        """Number of candidates; finds out whether the tables are in prompt order."""
        try:
            return sum(1 for _ in self.places())
        except _OutOfOrderError:
            self._ordered = False
            return sum(1 for _ in self.places())

    def places(self) -> Iterator[Row]:
        """`KEYS` of all responses to be judged, in the order of the candidates."""
        for _, rows in self._judged(("id", "domain"), KEYS):
            yield from rows

    def _candidates(self, row: Row, responses: list[Row]) -> Iterator[Candidate]:
        prompt, part = Prompt.model_validate(row), self._entry.part
        for response in responses:
            yield _candidate(part, prompt, response, self._annotator, self._digest)

    def _judged(
        self, of_prompts: tuple[str, ...] | None, of_responses: tuple[str, ...] | None
    ) -> Iterator[tuple[Row, list[Row]]]:
        prompts = read_dicts(self._prompts, of_prompts)
        tables = [read_dicts(table, of_responses) for table in self._tables]
        pairs = _side_by_side(prompts, tables) if self._ordered else self._held(prompts, tables)
        for prompt, rows in pairs:
            if rows and self._entry.judges(prompt["domain"]):
                yield prompt, rows

    def _held(
        self, prompts: Iterator[Row], tables: list[Iterator[Row]]
    ) -> Iterator[tuple[Row, list[Row]]]:
        by_prompt: dict[str, list[Row]] = {}
        for table in tables:
            for row in table:
                by_prompt.setdefault(row["prompt_id"], []).append(row)
        for prompt in prompts:
            yield prompt, by_prompt.pop(prompt["id"], [])
        if by_prompt:
            what = f"{len(by_prompt)} prompts that were answered are not in it"
            raise DamagedError(self._prompts, what)


def _candidate(
    part: Annotator, prompt: Prompt, row: Row, annotator: str, part_digest: str
) -> Candidate:
    response = Response.model_validate(row)
    draft = Candidate(prompt=prompt, response=response, annotator=annotator, made_from="")
    return draft.model_copy(update={"made_from": digest([part_digest, part.sees(draft)])})


class _OutOfOrderError(Exception):
    """A table is not in prompt order."""


def _side_by_side(
    prompts: Iterator[Row], tables: list[Iterator[Row]]
) -> Iterator[tuple[Row, list[Row]]]:
    """Each prompt with its rows of all tables, which are in the order of the prompts."""
    runs = [groupby(table, lambda row: row["prompt_id"]) for table in tables]
    heads = [next(run, None) for run in runs]
    for prompt in prompts:
        rows: list[Row] = []
        for at, head in enumerate(heads):
            if head is not None and head[0] == prompt["id"]:
                rows += head[1]
                heads[at] = next(runs[at], None)
        yield prompt, rows
    if any(head is not None for head in heads):
        raise _OutOfOrderError
