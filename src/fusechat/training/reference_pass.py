"""Making the reference's log-probabilities once: for this unit and all others of a workspace.

They depend on the model and the token ids only. So what another training unit has made from the
same model is taken over, and a pass that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusechat.digests import digest, digest_path
from fusechat.errors import DamagedError, TrainingError
from fusechat.faultpoints import reach
from fusechat.files import append_jsonl, mend_torn_line, read_json, read_jsonl
from fusechat.training.bad_batch import named, save_bad_batch
from fusechat.training.batches import epoch_order
from fusechat.training.examples import Example
from fusechat.training.ranks import Ranks
from fusechat.training.reference import Marks, journal_of, write_reference

if TYPE_CHECKING:
    import torch

    from fusechat.training.loop import Job
    from fusechat.training.step import Engine

VERSION = 1
"""Raised when the same model and rows would now give other values."""
_CHUNK = 256
"""Rows that are computed between two writes, at least; a kill loses no more."""

Ints = NDArray[np.int64]
Values = NDArray[np.float64]


def make_reference(job: Job, engine: Engine, ranks: Ranks) -> torch.Tensor:
    """Nats, float64 `[rows, sides]`, by the very batches of the first epoch; written to disk.

    So the policy's first step meets its reference bit for bit, and its loss is ln 2. On a CPU only
    values with the same bits are taken over from another unit, elsewhere all of the same rows.
    Raises `TrainingError` where the model gives a row no finite log-probability.
    """
    import torch

    folder, exact = job.folder / "reference", _bits_count(ranks)
    steps = _steps(job)
    marks = _marks(job, engine, steps)
    values = _values_of(marks, job, exact) if ranks.main else _nothing(job)
    values = _from_main(values, ranks)
    missing = _missing(values)
    job.progress.start(len(job.examples), "reference rows", int((~missing).sum()))
    for chunk in _chunks(_todo(steps, missing, exact)):
        for rows in chunk:
            values[rows] = engine.logps([job.examples[row] for row in rows]).cpu().numpy()
        done = [row for rows in chunk for row in rows]
        _refuse_non_finite(job, values, done)
        if ranks.main:
            lines = [{"row": row, "logps": values[row].tolist()} for row in done]
            append_jsonl(journal_of(folder), *lines)
            reach("train.reference.chunk")
        job.progress.advance(int(missing[done].sum()))
    out = torch.from_numpy(values).to(ranks.device)
    if ranks.main:
        write_reference(folder, job.examples, out, marks)
        journal_of(folder).unlink(missing_ok=True)
    ranks.wait()
    return out


def _bits_count(ranks: Ranks) -> bool:
    """Whether the same work gives the same bits here, which nothing taken over may change."""
    return ranks.device.type == "cpu"


def _steps(job: Job) -> list[list[int]]:
    """The rows of each step of the first epoch."""
    order, batch = epoch_order(len(job.examples), job.seed, 0), job.settings.global_batch_size
    return [order[start : start + batch] for start in range(0, len(order), batch)]


def _todo(
    steps: Sequence[list[int]], missing: NDArray[np.bool_], exact: bool
) -> Iterator[list[int]]:
    """What is computed together: where bits count, whole steps, as training will compute them."""
    for rows in steps:
        if missing[rows].any():
            yield rows if exact else [row for row in rows if missing[row]]


def _chunks(parts: Iterable[list[int]]) -> Iterator[list[list[int]]]:
    """Consecutive parts, as many as make `_CHUNK` rows."""
    chunk: list[list[int]] = []
    for rows in parts:
        chunk.append(rows)
        if sum(map(len, chunk)) >= _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _refuse_non_finite(job: Job, values: Values, rows: Sequence[int]) -> None:
    bad = [row for row in rows if not np.isfinite(values[row]).all()]
    if bad:
        examples = [job.examples[row] for row in bad]
        saved = save_bad_batch(job.folder, examples, {"what": "reference"})
        raise TrainingError(
            f"the model in {job.base} gives no finite log-probability to {named(examples)}. "
            f"Their token ids are in {saved}. Look at those rows, train in float32, or begin with "
            "another model."
        )


def _marks(job: Job, engine: Engine, steps: Sequence[Sequence[int]]) -> Marks:
    own = np.array([_mark(*_content(example)) for example in job.examples], dtype=np.int64)
    together = np.empty_like(own)
    for rows in steps:
        whole = json.dumps([engine.cuts(), own[rows].tolist()], sort_keys=True)
        together[rows] = [_mark(f"{whole}{place}".encode()) for place in range(len(rows))]
    route = [VERSION, engine.route(), job.settings.dtype]
    return Marks(digest([_model_digest(job.base), route]), own, together)


def _content(example: Example) -> Iterator[bytes]:
    for text in example.texts:
        yield f"{len(text.ids)}:{text.start}:".encode()
        yield text.ids.astype("<i4").tobytes()


def _mark(*parts: bytes) -> int:
    found = hashlib.sha256(b"".join(parts)).digest()
    return int.from_bytes(found[:8], "little", signed=True)


def _model_digest(base: Path) -> str | None:
    """Of weights and configuration; None for a model that is not a folder here."""
    if not base.is_dir():
        return None
    files = sorted(p for p in base.iterdir() if p.suffix in (".safetensors", ".bin"))
    files += [path for path in (base / "config.json",) if path.exists()]
    return digest([[path.name, digest_path(path)] for path in files])


def _missing(values: Values) -> NDArray[np.bool_]:
    return np.asarray(np.isnan(values).any(axis=1), dtype=np.bool_)


def _nothing(job: Job) -> Values:
    return np.full((len(job.examples), len(job.settings.loss.sides)), np.nan)


def _values_of(marks: Marks, job: Job, exact: bool) -> Values:
    """What is known of each row, from this unit's journal and from other units; nan elsewhere."""
    values = _nothing(job)
    _read_journal(journal_of(job.folder / "reference"), marks, values)
    if not job.base.is_dir():
        return values
    for folder in sorted(job.folder.parent.glob("*/reference")):
        missing = int(_missing(values).sum())
        _take_over(folder, marks, values, exact)
        taken = missing - int(_missing(values).sum())
        if taken:
            job.progress.note(f"{taken} rows of the reference are those of {folder.parent.name}")
    return values


def _read_journal(path: Path, marks: Marks, values: Values) -> None:
    """Fill in what a pass that was killed had written; begin again if it was another one."""
    head = {"model": marks.model, "steps": digest(marks.steps.tolist())}
    lines = list(read_jsonl(path))
    if not lines or lines[0] != head:
        path.unlink(missing_ok=True)
        append_jsonl(path, head)
        return
    mend_torn_line(path)
    for line in lines[1:]:
        values[line["row"]] = line["logps"]


def _take_over(folder: Path, marks: Marks, values: Values, exact: bool) -> None:
    """Fill in the rows that another unit has; a folder that is being written has none."""
    from safetensors.numpy import load_file

    try:
        if read_json(folder / "rows.json").get("model") != marks.model:
            return
        theirs = load_file(folder / "logps.safetensors")
    except (OSError, DamagedError):
        return
    name, own = ("steps", marks.steps) if exact else ("rows", marks.rows)
    if name not in theirs or theirs["logps"].shape[1:] != values.shape[1:]:
        return
    places = {mark: place for place, mark in enumerate(theirs[name].tolist())}
    for row in np.flatnonzero(_missing(values)):
        place = places.get(int(own[row]))
        if place is not None:
            values[row] = theirs["logps"][place]


def _from_main(values: Values, ranks: Ranks) -> Values:
    """The main rank's values on every rank."""
    import torch

    known = ~np.isnan(values).any(axis=1, keepdims=True)
    both = np.concatenate([np.where(known, values, 0.0), known.astype(float)], axis=1)
    summed = ranks.sum_(torch.from_numpy(both).to(ranks.device)).cpu().numpy()
    made: Values = np.where(summed[:, -1:] > 0, summed[:, :-1], np.nan)
    return made
