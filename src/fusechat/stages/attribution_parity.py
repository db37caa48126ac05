"""Length and style parity: are chosen responses longer, or otherwise dressed, than rejected?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fusechat.groups import Groups, Selection
from fusechat.stages.attribution_numbers import Array, quantiles
from fusechat.tables import read_columns, shards

STYLES = {
    "code fence": "```",
    "list": r"(?m)^ {0,3}(?:[-*+•]|\d{1,3}[.)]) ",
    "heading": r"(?m)^#{1,6} ",
    "bold": r"\*\*[^*\s]",
}
"""Feature of a text -> the regular expression that finds it (RE2, as Arrow has it)."""
STYLE_PAIRS = 10_000
"""Pairs whose texts are read; above it, of shards spread evenly over the table."""


class Parity:
    """Token counts of the pairs of one domain, 12 bytes a pair."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = tuple(sources)
        self._seen = 0
        self._columns: list[tuple[Array, ...]] = []

    def see(self, groups: Groups, said: Selection) -> None:
        """Take in the pairs of some prompts."""
        tokens = groups.columns["tokens"]
        source = groups.columns["source"][said.row].astype(np.int8)
        owner = (said.prompt + self._seen).astype(np.int32)
        self._columns.append((owner, source, tokens[said.row], tokens[said.other]))
        self._seen += len(groups.prompt_ids)

    def report(self, placed: Array, styles: Mapping[str, Any]) -> dict[str, Any] | None:
        """Of the pairs in the DPO table; None where there are none.

        `placed`: bool `[prompts]`, in the order seen; `styles`: source -> feature -> shares.
        """
        if not self._columns:
            return None
        owner, source, chosen, rejected = (
            np.concatenate(c) for c in zip(*self._columns, strict=True)
        )
        here = placed[owner]
        if not here.any():
            return None
        source, chosen, rejected = source[here], chosen[here], rejected[here]
        sources = {
            name: _parity(chosen[source == place], rejected[source == place]) | _style(styles, name)
            for place, name in enumerate(self._sources)
        }
        return {"all": _parity(chosen, rejected) | _style(styles, ""), "sources": sources}


def _parity(chosen: Array, rejected: Array) -> dict[str, Any]:
    known = (chosen >= 0) & (rejected >= 0)
    one, other = chosen[known].astype(np.int64), rejected[known].astype(np.int64)
    count = len(one)

    def mean(values: Array) -> float | None:
        return float(values.mean()) if count else None

    return {
        "pairs": len(chosen),
        "counted": count,
        "longer": mean(one > other),
        "equal": mean(one == other),
        "mean": mean(one - other),
        "mean_chosen": mean(one),
        "mean_rejected": mean(other),
        "quantiles": quantiles(one - other),
    }


def _style(styles: Mapping[str, Any], source: str) -> dict[str, Any]:
    found = styles.get(source, {"style": {}, "style_pairs": 0})
    return dict(found)


def read_styles(table: Path) -> dict[str, dict[str, Any]]:
    """Domain -> source (`""`: all) -> `{"style": {feature: {chosen, rejected}}, "style_pairs"}`.

    `table`: the DPO table of a build; of triples the sources' response is the chosen one. Shares
    are of the pairs read, in [0, 1].
    """
    counts: dict[tuple[str, str], Array] = {}
    for path in _spread(shards(table)):
        names = pq.read_schema(path).names
        sides = ("chosen" if "chosen" in names else "source_chosen", "rejected")
        rows = read_columns(path, ["domain", "source", *sides])
        if not rows.num_rows:
            continue
        flags = np.stack([_flags(rows.column(side)) for side in sides], axis=1)
        domains, sources = (
            np.array(rows.column(c).to_pylist(), object) for c in ("domain", "source")
        )
        for domain in dict.fromkeys(domains):
            own = domains == domain
            for source in ("", *dict.fromkeys(sources[own])):
                here = own & (sources == source) if source else own
                found = np.concatenate([[here.sum()], flags[here].sum(axis=0).ravel()])
                place = (str(domain), str(source))
                counts[place] = counts.get(place, np.zeros_like(found)) + found
    out: dict[str, dict[str, Any]] = {}
    for (domain, source), found in counts.items():
        out.setdefault(domain, {})[source] = _shares(found)
    return out


def _shares(found: Array) -> dict[str, Any]:
    count = int(found[0])
    sides = found[1:].reshape(2, len(STYLES)) / count
    style = {
        name: {"chosen": float(sides[0, place]), "rejected": float(sides[1, place])}
        for place, name in enumerate(STYLES)
    }
    return {"style": style, "style_pairs": count}


def _flags(texts: pa.ChunkedArray) -> Array:
    """int64 `[rows, features]`."""
    found = [pc.match_substring_regex(texts, pattern) for pattern in STYLES.values()]
    return np.stack([np.asarray(one.to_numpy(), np.int64) for one in found], axis=1)


def _spread(paths: Sequence[Path]) -> list[Path]:
    rows = sum(int(pq.ParquetFile(path).metadata.num_rows) for path in paths)
    step = max(1, -(-rows // STYLE_PAIRS))
    return list(paths[::step])
