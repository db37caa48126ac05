"""How likely each source's model finds the responses of the preference rows.

The unit `source_logps/<source>` is row-wise (`rowwise.source_logps`): one row for every response
of the rows in `<build>/dpo`, whoever wrote it, in their order. Training reads all of them side by
side (`read_source_logps`): what a source could not say is nan there, never a number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.digests import digest
from fusechat.errors import StaleInputError
from fusechat.records import SIDES, LogpRequest, Prompt, Response
from fusechat.stages.build_rows import training_tables
from fusechat.stages.entries import LogpsEntry
from fusechat.tables import read_dicts

if TYPE_CHECKING:
    import torch

    from fusechat.training.examples import Example
    from fusechat.training.reference import Known

UNIT = "source_logps/"
MOST_SHOWN = 20
Row = dict[str, Any]


@dataclass(frozen=True)
class _Rows:
    """The requests of one prompt: how many, and how they are made."""

    size: int
    make: Callable[[], Iterator[LogpRequest]]

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[LogpRequest]:
        return self.make()


class LogpRequests:
    """What one source is asked: every response of the preference rows once, prompt by prompt."""

    def __init__(self, entry: LogpsEntry, inputs: Mapping[str, Path], source: str) -> None:
        """`inputs`: the build, and where the source keeps something, what it wrote itself."""
        own = f"sample/{source}"
        self._entry, self._source = entry, source
        self._tables = training_tables(inputs, "dpo")
        self._samples = inputs[own] / "data" if own in inputs else None
        self._digest = entry.part.digest()
        self._own: dict[str, Row] | None = None

    def __iter__(self) -> Iterator[_Rows]:
        for key, found in groupby(self._rows(), lambda row: row["prompt_id"]):
            rows = list(found)
            texts = _texts(rows)
            yield _Rows(len(texts), lambda k=key, r=rows[0], t=texts: self._requests(k, r, t))  # type: ignore[misc]

    def survey(self) -> int:
        """Number of requests."""
        return sum(map(len, self))

    def _rows(self) -> Iterator[Row]:
        for table in self._tables:
            yield from read_dicts(table)

    def _requests(self, key: str, row: Row, texts: Mapping[str, str]) -> Iterator[LogpRequest]:
        prompt = Prompt(
            id=key, messages=row["messages"], domain=row["domain"], origin=row["origin"]
        )
        for response_id, text in texts.items():
            draft = LogpRequest(
                prompt=prompt, response_id=response_id, text=text, source=self._source,
                own=self._written(response_id), made_from="",
            )  # fmt: skip
            made_from = digest([self._digest, self._entry.part.sees(draft)])  # type: ignore[attr-defined]
            yield draft.model_copy(update={"made_from": made_from})

    def _written(self, response_id: str) -> Response | None:
        """The response's row, where this source wrote it and something was kept with it."""
        if self._samples is None:
            return None
        if self._own is None:
            wanted = {name for row in self._rows() for name in _texts([row])}
            found = read_dicts(self._samples)
            self._own = {row["id"]: row for row in found if row["id"] in wanted}
        row = self._own.get(response_id)
        return None if row is None else Response.model_validate(row)


def _texts(rows: Sequence[Row]) -> dict[str, str]:
    """Response id -> text of all sides of some rows, in their order."""
    return {row[f"{side}_id"]: row[side] for row in rows for side in sides_of(row)}


def sides_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The sides that a row of a preference table has."""
    return SIDES["Triple" if "source_chosen" in row else "Pair"]


def logp_counts(folder: Path) -> dict[str, Any]:
    """What a unit's rows come to: by status and reason, tokens, and the mean nats of a token."""
    status: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = {}
    tokens, nats = 0, 0.0
    for row in read_dicts(folder / "data", ["status", "reason", "logp", "tokens"]):
        status[row["status"]] += 1
        if row["status"] == "ok":
            tokens, nats = tokens + row["tokens"], nats + row["logp"]
        else:
            reasons.setdefault(row["status"], Counter())[row["reason"]] += 1
    return {
        "responses": status.total(),
        "status": dict(status),
        "reasons": {name: dict(count.most_common(MOST_SHOWN)) for name, count in reasons.items()},
        "tokens": tokens,
        "token_logp": nats / tokens if tokens else None,
    }


def source_names(inputs: Mapping[str, Path]) -> tuple[str, ...]:
    """The sources whose log-probabilities a training unit has, in the order of the plan."""
    return tuple(name.removeprefix(UNIT) for name in inputs if name.startswith(UNIT))


def read_source_logps(
    inputs: Mapping[str, Path], examples: Sequence[Example], device: torch.device | str = "cpu"
) -> Known:
    """What the sources of a unit's `inputs` say of `examples`, on `device`; empty without sources.

    `Known.source_logps` and `source_lengths`: float64 `[rows, sides, sources]`, sources in the
    order of `source_names`; nan and 0 where a source could not say. Raises `StaleInputError` where
    a response of `examples` was not asked for.
    """
    import torch

    from fusechat.training.reference import Known

    names = source_names(inputs)
    if not names:
        return Known()
    found = [_read(inputs[f"{UNIT}{name}"] / "data") for name in names]
    for name, table in zip(names, found, strict=True):
        missing = [e.prompt_id for e in examples if not e.response_ids or
                   any(one not in table for one in e.response_ids)]  # fmt: skip
        if missing:
            raise StaleInputError(
                f"{UNIT}{name} holds no row for the responses of {len(missing)} training rows "
                f"(prompt {missing[0]}, ...). Run it again: --refresh {UNIT}{name}."
            )
    numbers = [[[table[one] for table in found] for one in e.response_ids] for e in examples]
    both = torch.tensor(numbers, dtype=torch.float64, device=device)
    if not examples:
        both = both.reshape(0, 0, len(names), 2)
    return Known(source_logps=both[..., 0], source_lengths=both[..., 1])


def _read(table: Path) -> dict[str, tuple[float, float]]:
    """Response id -> nats and tokens; nan and 0 where the source could not say."""
    rows = read_dicts(table, ["response_id", "logp", "tokens"])
    return {
        row["response_id"]: (math.nan, 0.0) if row["logp"] is None else (row["logp"], row["tokens"])
        for row in rows
    }


def coverage(known: Known) -> dict[str, Any]:
    """How many of a unit's training rows have a value of some source at every side, and of none."""
    if known.source_logps is None:
        return {}
    there = ~known.source_logps.isnan()
    sides = there.any(dim=2)
    return {
        "rows_with_sources": int(sides.all(dim=1).sum()),
        "rows_without_sources": int((~sides.any(dim=1)).sum()),
    }
