"""Scores that came with stored responses: read by prompt and text, never computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

from fusechat.columns import first_columns, read_rows
from fusechat.digests import digest_bytes, digest_path
from fusechat.parts import Annotator, ContentPath, Where, Work
from fusechat.records import Candidate, Score

_COLUMNS = ("prompt_id", "text", "score")


class StoredScore(Annotator):
    """Gives the score that was stored with a response, found by prompt and text digest.

    `fusechat import` writes such a file (`scores.jsonl`: `prompt_id`, `text`, the digest of the
    response, `model`, `score`). A response without a stored score is unscorable, as is one whose
    text was stored twice for the prompt, of the same model, with different scores.
    """

    path: ContentPath
    """The file of scores, relative to the recipe."""
    scale: float = 1.0
    """What a stored score is multiplied by."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        """Read the file, once per worker."""
        known = _known(self.path, digest_path(Path(self.path)))

        def work(rows: Iterator[Any]) -> Iterator[Any]:
            return (self._judge(known, row) for row in rows)

        return nullcontext(work)

    def sees(self, candidate: Candidate) -> Any:
        """Also the model, whose score of a text it is."""
        return [super().sees(candidate), candidate.response.model]

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: a file that has no such columns."""
        yield from super().faults()
        path = Path(self.path)
        if not path.is_file():
            return
        first = first_columns(path)
        if isinstance(first, str):
            yield "path", first
        elif missing := [name for name in _COLUMNS if name not in first]:
            has = ", ".join(first)
            yield "path", f"{path.name} has no column {', '.join(missing)}; it has: {has}."

    def _judge(self, known: dict[tuple[str, str, str], set[float]], row: Candidate) -> Score:
        if not row.response.whole:
            return row.unscorable(f"the response is not whole ({row.response.finish})")
        text = digest_bytes(row.response.text.encode("utf-8", "surrogatepass"))
        found = known.get((row.prompt.id, text, row.response.model))
        if found is None:
            found = known.get((row.prompt.id, text, ""))
        if not found:
            return row.unscorable("no score was stored with this response")
        if len(found) > 1:
            return row.unscorable("different scores were stored with this response")
        return row.score(self.scale * next(iter(found)))


@lru_cache(maxsize=4)
def _known(path: str, content: str) -> dict[tuple[str, str, str], set[float]]:
    """(prompt id, text digest, model) -> the scores stored with it; model "" is any model's."""
    out: dict[tuple[str, str, str], set[float]] = {}
    for _, row in read_rows(Path(path)):
        if not isinstance(row, dict) or any(name not in row for name in _COLUMNS):
            continue
        score = row["score"]
        if isinstance(score, (int, float)) and math.isfinite(score):
            models = {str(row.get("model") or ""), ""}
            for model in models:
                out.setdefault((str(row["prompt_id"]), str(row["text"]), model), set()).add(
                    float(score)
                )
    return out
