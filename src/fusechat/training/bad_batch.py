"""Rows that training stopped at, kept so that they can be looked at and run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusechat.files import write_json
from fusechat.training.examples import Example
from fusechat.training.models import publish

_NAMED = 8


def named(examples: Sequence[Example]) -> str:
    """Some rows by their ids, for a message: `rows (prompt ids): a, b and 3 more`."""
    more = f" and {len(examples) - _NAMED} more" if len(examples) > _NAMED else ""
    return f"rows (prompt ids): {', '.join(e.prompt_id for e in examples[:_NAMED])}{more}"


def save_bad_batch(
    folder: Path,
    examples: Sequence[Example],
    said: Mapping[str, Any],
    losses: Sequence[float] | None = None,
) -> Path:
    """Write `bad_batch/` into a unit's folder, over an older one; returns its path.

    `batch.json`: `said`, and of each row its ids, weight, loss (as text where it is not finite)
    and where its responses begin. `texts.safetensors`: `ids`, int32, all texts one after the
    other, row by row, and `lengths` of the texts.
    """
    from safetensors.numpy import save_file

    rows = [
        {
            "prompt_id": example.prompt_id, "response_ids": list(example.response_ids),
            "weight": example.weight, "starts": [text.start for text in example.texts],
            **({} if losses is None else {"loss": _json_number(losses[place])}),
        }
        for place, example in enumerate(examples)
    ]  # fmt: skip
    texts = [text.ids for example in examples for text in example.texts]
    tensors = {
        "ids": np.concatenate(texts).astype(np.int32),
        "lengths": np.array([len(ids) for ids in texts], dtype=np.int64),
    }

    def write(place: Path) -> None:
        write_json(place / "batch.json", {**said, "rows": rows})
        save_file(tensors, place / "texts.safetensors")

    publish(folder / "bad_batch", write, "train.bad_batch")
    return folder / "bad_batch"


def _json_number(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)
