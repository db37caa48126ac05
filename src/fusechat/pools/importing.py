"""Stored responses of other tools -> a pool that `files`, `given` and `stored_score` read.

    prompts.jsonl             each prompt once: messages, and what the file knows of it
    responses/<source>.jsonl  prompt, response, model, score, finish: a row a response
    scores.jsonl              the stored scores by prompt and digest of the text
    unread.jsonl              every row and response that could not be read, and why
    pool.yaml                 a recipe to start from

Rows are read and written one by one; kept in memory are the ids of prompts.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from fusechat.columns import LOOKED_AT, read_rows
from fusechat.digests import digest, digest_bytes
from fusechat.errors import Fault, RecipeError
from fusechat.files import sync_folder, write_atomic
from fusechat.pools.layouts import LAYOUTS, Layout
from fusechat.pools.recipe import starting_recipe
from fusechat.pools.rows import UNNAMED, Found, Stored, source_name
from fusechat.settings import PLANNED_MODELS

AUTO = "auto"
MOST_SOURCES = 500
"""Models of one import, each of which becomes a file and an entry of the recipe."""


@dataclass
class Imported:
    """What an import found and wrote."""

    layouts: dict[str, str] = field(default_factory=dict)
    """File -> its layout."""
    rows: int = 0
    prompts: int = 0
    responses: Counter[str] = field(default_factory=Counter)
    """Source -> its responses."""
    models: dict[str, str] = field(default_factory=dict)
    """Source -> the model as the files name it."""
    scores: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    """Reason -> rows and responses that could not be read."""
    most_samples: int = 0
    """The most responses that one source has to one prompt; not counted further than 2."""


def import_pool(layout: str, files: Sequence[Path], out: Path, model: str = "") -> Imported:
    """Write the pool of some files into the folder `out`, which must be new or empty.

    `layout`: a name of `LAYOUTS`, or `auto`. `model`: of responses whose file names none; without
    it such a file's own name. Raises `RecipeError` with all that is wrong before anything is
    written.
    """
    found = Imported(layouts=_layouts(layout, files, out))
    out.mkdir(parents=True, exist_ok=True)
    with _Writer(out, found) as writer:
        for path in files:
            reader = LAYOUTS[found.layouts[str(path)]]
            for place, row in read_rows(path):
                found.rows += 1
                _take(writer, reader, place, row, model or path.name.split(".")[0])
    write_atomic(out / "pool.yaml", starting_recipe(found).encode())
    return found


def _layouts(layout: str, files: Sequence[Path], out: Path) -> dict[str, str]:
    faults = []
    if layout != AUTO and layout not in LAYOUTS:
        known = ", ".join([AUTO, *LAYOUTS])
        faults.append(Fault("", layout, f"is no layout. There are: {known}."))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        faults.append(Fault(str(out), "", "is there already and not empty. Give a new --out."))
    told: dict[str, str] = {}
    for path in files:
        if not path.is_file():
            faults.append(Fault(str(path), "", "there is no such file."))
        elif layout == AUTO or layout in LAYOUTS:
            fitting = _fitting(path)
            if layout == AUTO and not fitting:
                faults.append(Fault(str(path), "", _unknown(path)))
            told[str(path)] = layout if layout != AUTO else next(iter(fitting), "")
    if faults:
        raise RecipeError(faults)
    return told


def _fitting(path: Path) -> list[str]:
    """Layouts that at least half of the first rows have, the best first."""
    rows = [row for _, row in islice(read_rows(path), LOOKED_AT) if isinstance(row, Mapping)]
    counts = {name: sum(one.fits(row) for row in rows) for name, one in LAYOUTS.items()}
    likely = [name for name, count in counts.items() if 2 * count >= max(1, len(rows))]
    return sorted(likely, key=lambda name: -counts[name])


def _unknown(path: Path) -> str:
    rows = (row for _, row in islice(read_rows(path), LOOKED_AT) if isinstance(row, Mapping))
    columns = ", ".join(sorted({str(name) for row in rows for name in row})) or "none"
    layouts = "; ".join(f"{one.name} ({one.what})" for one in LAYOUTS.values())
    return f"has the layout of no tool that is known here. Its columns: {columns}. Known: {layouts}"


def _take(writer: _Writer, reader: Layout, place: str, row: Any, model: str) -> None:
    try:
        if not isinstance(row, Mapping):
            raise ValueError("not JSON" if isinstance(row, ValueError) else "row is not an object")
        found = reader.read(row)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        known = isinstance(error, ValueError)
        reason = str(error).splitlines()[0] if known else f"not of the layout {reader.name}"
        writer.unread(place, reason)
        return
    writer.add(place, found, model)


class _Writer:
    """Writes the files of a pool; each is renamed into place when all is read."""

    def __init__(self, out: Path, found: Imported) -> None:
        self.out, self.found = out, found
        self._stack = ExitStack()
        self._files: dict[Path, TextIO] = {}
        self._seen: set[str] = set()
        self._names: dict[str, str] = {}
        self._samples: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> _Writer:
        (self.out / "responses").mkdir(exist_ok=True)
        for name in ("prompts.jsonl", "scores.jsonl", "unread.jsonl"):
            self._file(self.out / name)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for handle in self._files.values():
            handle.flush()
            os.fsync(handle.fileno())
        self._stack.close()
        for path in self._files:
            begun = _begun(path)
            begun.replace(path) if kind is None else begun.unlink()
        sync_folder(self.out / "responses")
        sync_folder(self.out)

    def unread(self, place: str, reason: str, **more: Any) -> None:
        """Keep a row (or one of its responses) that could not be read."""
        self.found.unread[reason] += 1
        self._write(self.out / "unread.jsonl", {"place": place, "reason": reason, **more})

    def add(self, place: str, found: Found, model: str) -> None:
        """Write a row's prompt, if it is new, and its responses."""
        prompt_id = digest(found.prompt)
        if all(one.fault for one in found.responses):
            reason = found.responses[0].fault if found.responses else "no response in the row"
            self.unread(place, reason)
            return
        if prompt_id not in self._seen:
            self._seen.add(prompt_id)
            self.found.prompts += 1
            self._write(self.out / "prompts.jsonl", {"prompt": found.prompt, **found.extra})
        for number, one in enumerate(found.responses):
            if one.fault:
                self.unread(place, one.fault, response=number)
            else:
                self._response(prompt_id, found, one, model)

    def _response(self, prompt_id: str, found: Found, one: Stored, fallback: str) -> None:
        model = one.model if one.model != UNNAMED else fallback
        if model in PLANNED_MODELS:  # a recipe would take it for a model of its own
            model = f"stored-{model}"
        source = self._source(model)
        self.found.responses[source] += 1
        if self.found.most_samples < 2:
            self._samples[source, prompt_id] += 1
            most = max(self.found.most_samples, self._samples[source, prompt_id])
            self.found.most_samples = most
        row = {"prompt": found.prompt, "response": one.text, "model": model, "finish": one.finish}
        self._write(
            self.out / "responses" / f"{source}.jsonl", {**row, "score": one.score, **one.extra}
        )
        if one.score is not None:
            self.found.scores += 1
            text = digest_bytes(one.text.encode("utf-8", "surrogatepass"))
            known = {"prompt_id": prompt_id, "text": text, "model": model, "score": one.score}
            self._write(self.out / "scores.jsonl", known)

    def _source(self, model: str) -> str:
        if model not in self._names:
            if len(self._names) == MOST_SOURCES:
                raise RecipeError([Fault("", model, (
                    f"is model {MOST_SOURCES + 1} of these files. Is the column of models really "
                    "one? Name one layout, or import the files one by one with --model."
                ))])  # fmt: skip
            taken = {name.lower() for name in self._names.values()}
            name = plain = source_name(model)
            for number in range(2, len(taken) + 2):
                if name.lower() not in taken:
                    break
                name = f"{plain[:56]}-{number}"
            self._names[model] = name
            self.found.models[name] = model
        return self._names[model]

    def _file(self, path: Path) -> TextIO:
        if path not in self._files:
            handle = _begun(path).open("w", encoding="utf-8", errors="surrogatepass")
            self._files[path] = self._stack.enter_context(handle)
        return self._files[path]

    def _write(self, path: Path, row: Mapping[str, Any]) -> None:
        self._file(path).write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _begun(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def summary(found: Imported, out: Path) -> Iterator[str]:
    """What was found, line by line, for a terminal."""
    for path, layout in found.layouts.items():
        yield f"{path}: {layout} ({LAYOUTS[layout].what})"
    yield (
        f"{found.rows:,} rows: {found.prompts:,} prompts, {sum(found.responses.values()):,} "
        f"responses of {len(found.responses)} sources, {found.scores:,} with a score"
    )
    for source, count in found.responses.most_common(20):
        yield f"  {source}: {count:,}"
    if found.unread:
        total = sum(found.unread.values())
        yield f"not read: {total:,}, each with its reason in {out / 'unread.jsonl'}"
        for reason, count in found.unread.most_common(5):
            yield f"  {count:,} {reason}"
    yield f"next: fusechat check {out / 'pool.yaml'}"
