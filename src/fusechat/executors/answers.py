"""Answers on disk and in hand: which failed, under whose name, and how a part is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fusechat.errors import SourceError
from fusechat.executors.contract import RowIn, RowOut
from fusechat.files import read_json, read_jsonl
from fusechat.records import LogpRequest, Record, Request, Response, Score, SourceLogp
from fusechat.tables import read_table

NOTES = "notes"


def notes_of(folder: Path) -> list[dict[str, Any]]:
    """What the workers of an unfinished unit's last runs said of its part."""
    found = sorted((folder / "journal").glob(f"{NOTES}*.json"))
    return [note for path in found for note in read_json(path)]


def relabel(row: Record, asked: RowIn) -> Record:
    """The same answer under the asker's names: rows are shared by content, not by name."""
    if isinstance(asked, Request):
        assert isinstance(row, Response)
        return asked.response(row.text, row.finish, **_kept(row))
    if isinstance(asked, LogpRequest):
        assert isinstance(row, SourceLogp)
        return row.model_copy(update={"response_id": asked.response_id, "source": asked.source})
    assert isinstance(row, Score)
    names = {"response_id": asked.response.id, "annotator": asked.annotator}
    return row.model_copy(update=names)


def _kept(row: Response) -> dict[str, Any]:
    names = ("reasoning", "error", "tokens", "prompt_tokens", "seed", "logprob", "details", "model")
    return {name: getattr(row, name) for name in names}


def failed(row: Record) -> bool:
    """Whether a row is kept with an error."""
    if isinstance(row, Response):
        return row.finish == "error"
    return isinstance(row, Score | SourceLogp) and row.status == "error"


def failure(asked: RowIn, reason: str) -> RowOut:
    """The kept record of a row that could not be computed."""
    return asked.failure(reason) if isinstance(asked, Request) else asked.error(reason)


def answers_of(folder: Path, row_type: type[Record]) -> Iterator[Record]:
    """All rows that a row-wise unit has on disk, finished or in journals."""
    yield from read_table(folder / "data", row_type)
    for journal in sorted((folder / "journal").glob("*.jsonl")):
        yield from journaled(journal, row_type)


def journaled(journal: Path, row_type: type[Record]) -> Iterator[Any]:
    """The rows of a journal; a line that is none is left out, and its row computed again."""
    with suppress(FileNotFoundError):  # another worker finished the shard meanwhile
        for row in read_jsonl(journal):
            with suppress(ValidationError):
                yield row_type.model_validate(row)


def compute(
    work: Callable[[Iterator[Any]], Iterator[Any]], rows: Iterable[RowIn]
) -> Iterator[RowOut]:
    """Call a part's work; a row that fails twice is answered with its error, never left out."""
    asked = {row.made_from: row for row in rows}
    try:
        for out in work(iter(list(asked.values()))):
            asked.pop(out.made_from, None)
            yield out
    except SourceError:
        raise
    except Exception as first:  # noqa: BLE001 - a part's own fault must not lose its rows
        for row in list(asked.values()):
            yield _alone(work, row, first)


def _alone(work: Callable[[Iterator[Any]], Iterator[Any]], row: RowIn, first: Exception) -> RowOut:
    try:
        (out,) = list(work(iter([row])))
    except SourceError:
        raise
    except Exception as error:  # noqa: BLE001 - kept in the row, with both errors if they differ
        again = f"{type(error).__name__}: {error}"
        before = f"{type(first).__name__}: {first}"
        return failure(row, again if again == before else f"{again} (first: {before})")
    if not isinstance(out, (Response, Score, SourceLogp)):
        return failure(row, f"the part gave a {type(out).__name__} where an answer is due")
    return out
