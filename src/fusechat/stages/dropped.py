"""The prompts that a build drops: where, why, and with which numbers of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from fusechat.digests import canonical_json
from fusechat.groups import PICKED
from fusechat.records import Dropped
from fusechat.stages.build_settings import DomainRule
from fusechat.stages.decisions import Decisions, Picked
from fusechat.tables import SHARD_ROWS, arrow_schema, write_tables


class Details:
    """What the strategies say of the prompts that they refuse, kept in a file without a name.

    Which of these prompts are dropped is known only when all are decided; until then their
    details wait on disk, and a kill leaves nothing of them behind.
    """

    def __init__(self, folder: Path, prompts: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._begins = np.zeros(prompts, np.int64)
        self._lengths = np.zeros(prompts, np.int32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, picked: Picked, rule: DomainRule) -> None:
        """Keep the details of the prompts that a strategy refused and that may be dropped."""
        found: dict[int, dict[str, Any]] = {}
        for table, (groups, said) in picked.own.items():
            refused = np.flatnonzero(said.refusal != PICKED).tolist()
            strategy = rule.strategies()[table]
            details = strategy.refusal_details(groups, said, refused)
            for number, own in zip(refused, details, strict=True):
                reason = said.refusals[said.refusal[number]]
                found.setdefault(number, {})[table] = {"reason": reason, **own}
        rows = [canonical_json(said_of_it).encode() for said_of_it in found.values()]
        lengths = np.array([len(row) for row in rows], np.int32)
        at = picked.at[list(found)] if found else np.zeros(0, np.int32)
        self._lengths[at] = lengths
        self._begins[at] = self._file.seek(0, 2) + np.cumsum(lengths) - lengths
        self._file.write(b"".join(rows))

    def get(self, at: int) -> str | None:
        """The details of one prompt as JSON; None where no strategy was asked."""
        if not self._lengths[at]:
            return None
        self._file.seek(self._begins[at])
        return self._file.read(self._lengths[at]).decode()


def write_dropped(folder: Path, decisions: Decisions, details: Details) -> None:
    """Write the table of the prompts that are in neither of the other two."""
    write_tables(folder, _rows(decisions, details), arrow_schema(Dropped))


def _rows(decisions: Decisions, details: Details) -> Iterator[pa.Table]:
    prompts = decisions.prompts
    gone = decisions.dropped()
    for start in range(0, len(gone), SHARD_ROWS):
        at = gone[start : start + SHARD_ROWS]
        reasons = [decisions.drop_reason(int(number)) for number in at]
        yield pa.table(
            {
                "prompt_id": prompts.ids.take(pa.array(at)),
                "origin": [prompts.origins[code] for code in prompts.origin[at]],
                "domain": [prompts.domains[code] for code in prompts.domain[at]],
                "stage": [stage for stage, _ in reasons],
                "reason": [reason for _, reason in reasons],
                "details": pa.array([details.get(int(number)) for number in at], pa.string()),
            }
        )
