"""One process of a job that several share: `python worker_lab.py FOLDER run|worker ROWS`.

Stub rows over shards of 4. With FUSECHAT_TEST_PAUSE=N the source holds still in the N-th row
that this process receives, until the file FOLDER/go is there. Prints how the job ended.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from fusechat.digests import digest
from fusechat.executors.rows import RowJob, run_job
from fusechat.parts import Where
from fusechat.progress import quiet
from fusechat.records import Prompt, Request, Response
from stub_parts import Counted, Inline, note


class Gated(Counted):
    """Holds still where it is told to."""

    gate: str

    def open(self, where: Where) -> AbstractContextManager[Any]:
        return nullcontext(self._work)

    def _work(self, rows: Iterator[Request]) -> Iterator[Response]:
        for row in rows:
            note(row)
            _Received.count += 1
            if _Received.count == int(os.environ.get("FUSECHAT_TEST_PAUSE", "0")):
                while not Path(self.gate).exists():
                    time.sleep(0.05)
            yield row.response(row.prompt.messages[-1].content, "stop")


class _Received:
    count = 0


def requests(count: int) -> list[Request]:
    """One row a prompt."""
    prompts = [Prompt.of(f"q{number}", domain="d") for number in range(count)]
    return [
        Request(prompt=p, source="s", index=0, seed=0, model="m", made_from=digest(p.id))
        for p in prompts
    ]


def main() -> None:
    """Do the job as the run or as a worker."""
    folder, role, rows = Path(sys.argv[1]), sys.argv[2], requests(int(sys.argv[3]))
    job = RowJob(Gated(gate=str(folder / "go")), rows, Response, folder / "unit", shard_rows=4)
    print(run_job(job, Inline(group=1), Where(), quiet(), "rows", closing=role == "run"))


if __name__ == "__main__":
    main()
