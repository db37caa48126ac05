"""What annotators noted beside a score: the final answer, the failing test, the objectives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fusechat.files import read_json
from fusechat.tables import read_columns, shards

SHOWN_OBJECTIVES = 3
"""Objectives of a reward model that a terminal shows: those that add most to the score."""


def read_details(inputs: Mapping[str, Path], ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Response id -> annotator -> its details, for the responses `ids` that have any.

    A model with several objectives has them by name where its unit's manifest names them.
    """
    found: dict[str, dict[str, Any]] = {}
    wanted = pa.array(list(ids), pa.string())
    for name, folder in inputs.items():
        if not name.startswith("annotate/"):
            continue
        annotator = name.removeprefix("annotate/").partition("@")[0]
        names = _objectives(folder)
        for response_id, text in _rows(folder / "data", wanted):
            found.setdefault(response_id, {})[annotator] = _read(text, names)
    return found


def _rows(table: Path, wanted: pa.Array) -> Iterator[tuple[str, str]]:
    for path in shards(table):
        here = pc.is_in(read_columns(path, ["response_id"])["response_id"], value_set=wanted)
        if not pc.any(here).as_py():
            continue
        for row in read_columns(path, ["response_id", "details"]).filter(here).to_pylist():
            if row["details"]:
                yield row["response_id"], row["details"]


def _read(text: str, names: Sequence[str]) -> Any:
    try:
        details = json.loads(text)
    except ValueError:
        return text
    if isinstance(details, dict) and names:
        for key in ("objectives", "gate"):
            values = details.get(key)
            if isinstance(values, list) and len(values) == len(names):
                details[key] = dict(zip(names, values, strict=True))
    return details


def _objectives(folder: Path) -> Sequence[str]:
    path = folder / "manifest.json"
    found = read_json(path)["counts"].get("objectives") if path.exists() else None
    return found if isinstance(found, list) else ()


def as_line(details: Any) -> str:
    """Details in one line: `answer 42; gold 42`."""
    if not isinstance(details, Mapping):
        return str(details)
    objectives, gate = details.get("objectives"), details.get("gate")
    parts = [
        f"{name.replace('_', ' ')} {_plain(value)}"
        for name, value in details.items()
        if name not in ("objectives", "gate") and value not in (None, [], {})
    ]
    if isinstance(objectives, Mapping):
        weights = gate if isinstance(gate, Mapping) else dict.fromkeys(objectives, 1.0)
        shares = {name: value * weights.get(name, 0.0) for name, value in objectives.items()}
        most = sorted(shares, key=lambda name: -abs(shares[name]))[:SHOWN_OBJECTIVES]
        parts.append("most from " + ", ".join(f"{name} {shares[name]:+.3g}" for name in most))
    elif isinstance(objectives, list):
        parts.append(f"{len(objectives)} objectives without names")
    return "; ".join(parts)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
