"""Asking a source `endpoint` in this process: shared by the tests against scripted servers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fusechat.parts import Where
from fusechat.records import Prompt, Request, Response
from fusechat.sources.endpoint import Endpoint


def part_of(*urls: str, **settings: Any) -> Endpoint:
    settings = {
        "model": "m",
        "base_urls": urls,
        "backoff": 0.01,
        "samples_per_request": 8,
    } | settings
    return Endpoint(**settings)


def rows_of(part: Endpoint, prompts: int, samples: range) -> list[Request]:
    """As the sampling stage makes them: prompt by prompt, indices adjacent."""
    rows = []
    for prompt in (Prompt.of(f"question {p}", domain="d") for p in range(prompts)):
        for index in samples:
            seed = part.row_seed(7, prompt, index)
            names = {"source": "s", "model": "m", "made_from": f"{prompt.id}/{seed}"}
            rows.append(Request(prompt=prompt, index=index, seed=seed, **names))
    return rows


def ask(part: Endpoint, rows: list[Request], where: Where | None = None) -> list[Response]:
    """The answers in the rows' order; each row is answered once."""
    with part.open(where or Where()) as work:
        out = list(work(iter(rows)))
    assert Counter(r.made_from for r in out) == Counter(r.made_from for r in rows)
    by_name = {r.made_from: r for r in out}
    return [by_name[row.made_from] for row in rows]
