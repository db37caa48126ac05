"""Row jobs with a part that is watched: shared by the tests of the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fusechat.digests import digest
from fusechat.executors.rows import Batch, JobResult, RowJob, run_job
from fusechat.parts import Where
from fusechat.progress import quiet
from fusechat.records import Prompt, Request, Response
from fusechat.tables import read_table
from stub_parts import Counted, Inline


def asked(prompts: int, samples: int | Sequence[int] = 1) -> list[Request]:
    counts = [samples] * prompts if isinstance(samples, int) else samples
    rows = []
    for number, count in enumerate(counts):
        prompt = Prompt.of(f"q{number}", domain="d")
        for index in range(count):
            made_from = digest([prompt.id, index])
            rows.append(
                Request(
                    prompt=prompt, source="s", index=index, seed=0, model="m", made_from=made_from
                )
            )
    return rows


class Watched(Inline):
    """Says how many shards were open at most, and which rows it was asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(group=1)
        self.folder, self.most, self.asked = folder, 0, Counter[str]()

    def map(
        self, part: Any, batches: Iterable[Batch], where: Where
    ) -> Generator[Sequence[Any], None, None]:
        for group in super().map(part, self._seen(batches), where):
            self.most = max(self.most, len(list((self.folder / "journal").glob("*.lease.*"))))
            yield group

    def _seen(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.asked.update(row.made_from for row in batch.rows)
            yield batch


def job(rows: Any, folder: Path, **more: Any) -> RowJob:
    return RowJob(Counted(), rows, Response, folder, shard_rows=4, **more)


def do(one: RowJob, executor: Any = None, **more: Any) -> JobResult:
    return run_job(one, executor or Inline(), Where(), quiet(), "rows", **more)


def table(folder: Path) -> list[tuple[str, int]]:
    return [(r.prompt_id, r.index) for r in read_table(folder / "data", Response)]


def named(rows: Sequence[Request]) -> list[tuple[str, int]]:
    return [(r.prompt.id, r.index) for r in rows]
