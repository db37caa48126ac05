"""Stored responses as a source: sampled by someone, sometime, and kept in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from fusechat.columns import (
    PROMPT_COLUMNS,
    ColumnSpec,
    column,
    column_fault,
    first_columns,
    read_rows,
    to_messages,
)
from fusechat.digests import digest_path
from fusechat.hub_sets import is_hub_id, load_split
from fusechat.parts import RowPart, Source, UnreadableRow, Where, package_fault
from fusechat.records import Finish, Prompt, Request, Response
from fusechat.settings import HubSetName
from fusechat.sources._kept_logps import KeptLogps

FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "STOP": "stop",
}
"""What servers call the end of a response; anything else is `unknown`."""


class Given(Source):
    """Stored responses from JSONL, JSON or Parquet; nested columns are mapped in the recipe.

    A data set of the hub is read where `revision` says at which commit; only the numbers of its
    rows are kept in memory, their texts stay in the local cache of `datasets`.
    """

    path: HubSetName
    """The file, relative to the recipe; with `revision` a data set's id on the hub (or a folder of
    one)."""
    revision: str | None = None
    """The commit of a hub set."""
    split: str = "train"
    """Of a hub set."""
    name: str | None = None
    """The configuration of a hub set, where it has several."""
    responses: ColumnSpec | tuple[ColumnSpec, ...] = "response"
    """The column(s) of the responses: a text, a list of texts, or one column a sample. Several
    rows with the same prompt are further samples of it."""
    prompt: ColumnSpec | None = None
    """The prompt's column; it must give the very messages of the prompt set."""
    finish: ColumnSpec | None = None
    """Why each response ended (`stop`, `length`); without it that is unknown, and counted so."""
    logprob: ColumnSpec | None = None
    """The sum of each response's log-probabilities under its model, in nats: one number a response,
    in a list where there are several. Losses that read sources' log-probabilities need it."""
    tokens: ColumnSpec | None = None
    """The number of tokens of each response in its model's tokenizer, as `logprob`."""
    model: str = "stored"
    """The model that made them, as it is filed."""

    def open(
        self, where: Where
    ) -> AbstractContextManager[Callable[[Iterator[Request]], Iterator[Response]]]:
        """Read the file."""
        return nullcontext(self._work)

    def _work(self, requests: Iterator[Request]) -> Iterator[Response]:
        stored = _stored(self)
        for request in requests:
            found = stored.at(self, request.prompt.id, request.index)
            yield request.response(
                found.text, found.finish, seed=None, logprob=found.logprob, tokens=found.tokens
            )

    def logps(self) -> RowPart | str:
        """Of its own responses, what is stored with them."""
        if self.logprob is not None and self.tokens is not None:
            return KeptLogps()
        return (
            "stored responses say how likely they are where 'logprob' and 'tokens' name the "
            "columns that hold it. Name both, or name the model as an 'hf' source."
        )

    def available(self, prompt: Prompt, wanted: int | None) -> int:
        """As many as are stored, at most `wanted`."""
        found = len(_stored(self).found.get(prompt.id, ()))
        return found if wanted is None else min(found, wanted)

    def unread(self) -> list[UnreadableRow]:
        """Rows without a prompt or a response."""
        return _stored(self).unread

    def sees(self, request: Request) -> Any:
        """The prompt and which of its stored responses; the seed decides nothing."""
        return [request.prompt.chat(), request.index]

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: columns that the file does not have."""
        yield from super().faults()
        if not Path(self.path).exists():
            yield from self._hub_faults()
            return
        if Path(self.path).is_dir():
            if fault := package_fault("datasets", "hub"):
                yield "use", fault
            return
        if isinstance(first := first_columns(Path(self.path)), str):
            yield "path", first
            return
        specs = {"responses": _columns(self)}
        for name in ("prompt", "finish", "logprob", "tokens"):
            if (spec := getattr(self, name)) is not None:
                specs[name] = (spec,)
        for name, columns in specs.items():
            for spec in columns:
                if fault := column_fault(Path(self.path), spec):
                    yield name, fault

    def _hub_faults(self) -> Iterator[tuple[str, str]]:
        if self.revision is None and not Path(self.path).is_absolute():
            told = f"there is nothing at {self.path}. Give a path relative to the recipe"
            yield "path", f"{told}; of a data set of the hub also its commit: 'revision'."
        elif not Path(self.path).is_absolute() and not is_hub_id(self.path):
            yield "path", f"'{self.path}' is no data set's id on the hub (org/name)."
        elif fault := package_fault("datasets", "hub"):
            yield "use", fault


def _columns(part: Given) -> tuple[ColumnSpec, ...]:
    return part.responses if isinstance(part.responses, tuple) else (part.responses,)


class _Sample(NamedTuple):
    """One stored response."""

    text: str
    finish: Finish
    logprob: float | None = None
    tokens: int | None = None


@dataclass
class _Stored:
    found: dict[str, list[Any]]
    """Prompt id -> its samples, or (row, which of that row's), in file order."""
    unread: list[UnreadableRow]
    rows: Sequence[Any] | None = None
    """Rows of a hub set, by number."""

    def at(self, part: Given, prompt_id: str, index: int) -> _Sample:
        """One stored response."""
        found = self.found[prompt_id][index]
        if self.rows is not None:
            number, which = found
            found = _samples(part, self.rows[number])[1][which]
        assert isinstance(found, _Sample)
        return found


def _stored(part: Given) -> _Stored:
    local = Path(part.path).is_file()
    return _read(part, digest_path(Path(part.path)) if local else str(part.revision))


@lru_cache(maxsize=8)
def _read(part: Given, content: str) -> _Stored:
    """The file, read once as long as its content stays."""
    if Path(part.path).is_file():
        out, placed = _Stored({}, []), read_rows(Path(part.path))
    else:
        rows = load_split(part.path, part.split, part.revision, part.name)
        out = _Stored({}, [], rows)
        placed = ((f"{part.path}:{part.split}[{n}]", row) for n, row in enumerate(rows))
    for number, (place, row) in enumerate(placed):
        try:
            prompt_id, texts = _samples(part, row)
        except ValueError as error:
            out.unread.append(UnreadableRow(place, str(error).splitlines()[0]))
            continue
        kept = texts if out.rows is None else [(number, which) for which in range(len(texts))]
        out.found.setdefault(prompt_id, []).extend(kept)
    return out


def _samples(part: Given, row: Any) -> tuple[str, list[_Sample]]:
    """The prompt's id and the stored responses of a row; `ValueError` with what is wrong of it."""
    prompt, texts = _row(part, row)
    count = len(texts)
    logprobs = _numbers(part.logprob, row, count, "log-probability", lambda n: n <= 0)
    tokens = _numbers(part.tokens, row, count, "number of tokens", lambda n: n >= 1 and n == int(n))
    columns = (texts, _finishes(part, row, count), logprobs, tokens)
    return prompt.id, [
        _Sample(text, finish, logprob, None if n is None else int(n))
        for text, finish, logprob, n in zip(*columns, strict=True)
    ]


def _numbers(
    spec: ColumnSpec | None, row: Any, count: int, what: str, possible: Callable[[float], bool]
) -> Sequence[float | None]:
    """One number for each response of a row; None where the row has none."""
    value = None if spec is None else column(spec).of(row)
    values = value if isinstance(value, list) else [value]
    if value is None:
        return [None] * count
    if len(values) != count:
        raise ValueError(f"{len(values)} values of the {what}, and {count} responses")
    for number in values:
        known = isinstance(number, int | float) and not isinstance(number, bool)
        if number is not None and not (known and isfinite(number) and possible(number)):
            raise ValueError(f"no {what}: {number!r}"[:80])
    return values


def _row(part: Given, row: Any) -> tuple[Prompt, list[str]]:
    """The prompt and the stored texts of a row; raises `ValueError` with what it lacks."""
    if not isinstance(row, Mapping):
        raise ValueError("not JSON" if isinstance(row, ValueError) else "row is not an object")
    prompt = Prompt.of(to_messages(_prompt_value(part, row)), domain="")
    texts = [text for spec in _columns(part) for text in _texts(column(spec).of(row))]
    if not texts:
        raise ValueError("no response in the row")
    return prompt, texts


def _prompt_value(part: Given, row: Mapping[str, Any]) -> Any:
    if part.prompt is not None:
        return column(part.prompt).of(row)
    return next((row[name] for name in PROMPT_COLUMNS if row.get(name) is not None), None)


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    if isinstance(value, Mapping):
        return _texts(value.get("content", value.get("text")))
    return [str(value)]


def _finishes(part: Given, row: Mapping[str, Any], count: int) -> list[Finish]:
    value = column(part.finish).of(row) if part.finish is not None else None
    names = value if isinstance(value, list) else [value] * count
    if len(names) != count:
        names = [None] * count
    return [FINISHES.get(str(name), "unknown") for name in names]
