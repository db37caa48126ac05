"""Describe: what the responses are like as texts, and which are near-duplicates. Judges nothing.

Reads every response once, source after source, and keeps numbers. The word n-grams of all
different texts wait in a file, so that memory grows by about half a kilobyte a response.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from fusechat.chat import load_tokenizer
from fusechat.files import write_json
from fusechat.metrics.style_summary import StyleSummary
from fusechat.metrics.styles import style_of
from fusechat.stages.context import UnitContext
from fusechat.stages.describe_pairs import NearDuplicate, Pool, examples, listed, numbers
from fusechat.tables import count_rows, read_dicts, write_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS_FILE = "texts.json"
FORMAT = 1
"""Of `texts.json`."""
_BATCH = 256
_SHINGLES = "shingles.tmp"
Row = Mapping[str, Any]


class NearDuplicateSettings(BaseModel):
    """Which texts count as near-duplicates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(default=0.8, ge=0.2, le=1)
    """Least Jaccard similarity of their sets of word n-grams."""
    shingle: int = Field(default=5, ge=1)
    """Words of an n-gram; a shorter text is one n-gram."""


class DescribeSettings(BaseModel):
    """What is said of the responses as texts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    near_duplicates: NearDuplicateSettings | None = NearDuplicateSettings()
    """null: they are not looked for."""
    openings: int = Field(default=5, ge=0)
    """How many of the commonest openings of each source are kept."""


def describe(context: UnitContext) -> dict[str, Any]:
    """Write `texts.json` and `near_duplicates/`, and count them.

    Inputs: `prompts`, `sample/<source>` in the recipe's order of sources. Settings: `describe`,
    and `target` (None, or whose tokenizer counts tokens).
    """
    settings: DescribeSettings = context.settings["describe"]
    target = context.settings["target"]
    context.folder.mkdir(parents=True, exist_ok=True)
    scratch = context.folder / _SHINGLES
    try:
        return _describe(context, settings, target, scratch)
    finally:
        scratch.unlink(missing_ok=True)


def _describe(
    context: UnitContext, settings: DescribeSettings, target: Any, scratch: Path
) -> dict[str, Any]:
    samples = {
        name.removeprefix("sample/"): folder / "data"
        for name, folder in context.inputs.items()
        if name.startswith("sample/")
    }
    prompts = context.inputs["prompts"] / "prompts"
    alike = settings.near_duplicates
    origins = _origins(prompts)
    pool = Pool(scratch, alike.shingle, tuple(samples), list(origins)) if alike else None
    reader = _Reader(origins, settings.openings, _tokenizer(target), pool)
    context.progress.start(sum(map(count_rows, samples.values())), "responses")
    for source, folder in samples.items():
        for batch in _batches(folder):
            reader.read(source, batch)
            context.progress.advance(len(batch))
    texts: dict[str, Any] = {
        "format": FORMAT,
        "tokenizer": target.model if target else None,
        "groups": reader.report(),
        "near_duplicates": None,
    }
    rows: Iterable[NearDuplicate] = ()
    if pool is not None and alike is not None:
        found = pool.compare(alike.threshold)
        of_prompts = Pool.of_prompts(prompts, scratch, alike.shingle).compare(alike.threshold)
        texts["near_duplicates"] = {
            **alike.model_dump(),
            **numbers(found, of_prompts, context.inputs["prompts"] / "dropped"),
            "examples": examples(found, of_prompts, prompts, samples),
        }
        rows = chain(listed(found), listed(of_prompts))
    table = write_table(context.folder / "near_duplicates", rows, NearDuplicate)
    write_json(context.folder / TEXTS_FILE, texts)
    return {
        "responses": sum(g["responses"] for g in texts["groups"] if g["origin"] is None),
        "near_duplicates": table.rows,
    }


class _Reader:
    """Takes in responses: into the summaries of their source, and into the pool."""

    def __init__(
        self,
        origins: Mapping[str, tuple[int, str]],
        openings: int,
        tokenizer: PreTrainedTokenizerBase | None,
        pool: Pool | None,
    ) -> None:
        self._origins, self._openings = origins, openings
        self._tokenizer, self._pool = tokenizer, pool
        self._found: dict[tuple[str, str | None], StyleSummary] = {}

    def read(self, source: str, rows: Sequence[Row]) -> None:
        """Some responses of one source."""
        texts = [_text_of(row) for row in rows]
        for row, text, tokens in zip(rows, texts, self._tokens(texts), strict=True):
            place, origin = self._origins[row["prompt_id"]]
            style = style_of(text) if text else None
            for key in ((source, None), (source, origin)):
                summary = self._found.get(key)
                if summary is None:
                    summary = self._found[key] = StyleSummary(self._openings)
                summary.add(row["finish"], style, tokens if text else None)
            if text and self._pool is not None:
                self._pool.add(row["id"], place, source, text)

    def report(self) -> list[dict[str, Any]]:
        """Each source over all prompt sets (`origin` null); then by prompt set, where several."""
        sets = {origin for _, origin in self._found if origin is not None}
        return [
            {"source": source, "origin": origin, **summary.report()}
            for (source, origin), summary in sorted(
                self._found.items(), key=lambda item: item[0][1] is not None
            )
            if origin is None or len(sets) > 1
        ]

    def _tokens(self, texts: Sequence[str]) -> Sequence[int | None]:
        if self._tokenizer is None or not any(texts):
            return [None] * len(texts)
        encoded = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [len(ids) + 1 for ids in encoded]


def _text_of(row: Row) -> str:
    """The text to describe; empty where it failed or has no visible character."""
    failed = row["finish"] == "error" or not row["text"].strip()
    return "" if failed else str(row["text"])


def _batches(folder: Path) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in read_dicts(folder, ["id", "prompt_id", "finish", "text"]):
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _origins(prompts: Path) -> dict[str, tuple[int, str]]:
    """Prompt id -> its position, and its prompt set."""
    rows = read_dicts(prompts, ["id", "origin"])
    return {row["id"]: (number, row["origin"]) for number, row in enumerate(rows)}


def _tokenizer(target: Any) -> PreTrainedTokenizerBase | None:
    return load_tokenizer(target.model) if target else None
