"""`BestOf.select` of many prompts at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fusechat.digests import digest
from fusechat.groups import ABSENT, PICKED, Array, Groups, Selection
from fusechat.strategies._columns import (
    Eligible,
    Words,
    at_rows,
    cells_of,
    first_best,
    left_out_all,
    shares_right_all,
    values_of,
)

if TYPE_CHECKING:
    from fusechat.strategies.best_of import BestOf


def select_best(strategy: BestOf, groups: Groups) -> Selection:
    """The best response of every prompt (of each source), or why there is none."""
    shape = (len(groups.prompt_ids), len(groups.sources))
    by = strategy.by
    score = np.full(len(groups), np.nan) if by is None else values_of(groups, by)
    found = Eligible.of(groups, by, strategy.correct_by)
    words = Words()
    codes = np.append(words(*found.words), np.int16(PICKED))  # from the end: -1 has one
    prompts, cells = groups.columns["prompt"], cells_of(groups)
    count = shape[0] * shape[1]
    by_source = codes[found.why_none(cells, count)]
    by_source[np.bincount(cells, minlength=count) == 0] = ABSENT
    rows = _picked(strategy, groups, found.rows, score)
    return Selection(
        prompt=prompts[rows].astype(np.int32),
        row=rows.astype(np.int32),
        other=np.full(len(rows), -1, np.int32),
        score=score[rows],
        other_score=np.full(len(rows), np.nan),
        margin=np.full(len(rows), np.nan),
        why=np.zeros(len(rows), np.int16),
        reasons=(strategy.reason(),),
        refusal=codes[found.why_none(prompts, shape[0])],
        by_source=by_source.reshape(shape),
        gap=np.full(shape, np.nan),
        best=at_rows(score, first_best(found.rows, score, cells, count)).reshape(shape),
        refusals=words.known(),
    )


def best_details(
    strategy: BestOf, groups: Groups, said: Selection, prompts: Sequence[int]
) -> list[Mapping[str, Any]]:
    """The details of the refusals of some prompts, from what `select_best` said."""
    at = np.asarray(prompts, np.int64)
    causes = left_out_all(groups, strategy.annotators(), at)
    found: list[Mapping[str, Any]] = []
    for left_out, whys in zip(causes, said.by_source[at].tolist(), strict=True):
        sources = {
            source: {"reason": said.refusals[why]}
            for source, why in zip(groups.sources, whys, strict=True)
            if why != ABSENT
        }
        found.append({"sources": sources, "left_out": left_out})
    return found


def _picked(strategy: BestOf, groups: Groups, eligible: Array, score: Array) -> Array:
    """Rows of the picks, by prompt, then by rank."""
    rows = np.flatnonzero(eligible)
    prompt = groups.columns["prompt"][rows]
    keys = [-np.nan_to_num(score[rows]), prompt]  # the last key decides first
    if strategy.ties == "most_correct":
        shares = shares_right_all(groups, strategy.correct_by)
        keys.insert(0, -shares[prompt, groups.columns["source"][rows]])
    elif strategy.ties == "random":
        keys.insert(0, _draws(strategy.seed, groups, rows))
    ranked = rows[np.lexsort(keys)]
    bins = groups.columns["prompt"] if strategy.responses_per_prompt == 1 else cells_of(groups)
    return ranked[np.sort(np.unique(bins[ranked], return_index=True)[1])]


def _draws(seed: int, groups: Groups, rows: Array) -> Array:
    columns = [groups.columns[name][rows].tolist() for name in ("prompt", "source", "index")]
    names = [
        digest([seed, groups.prompt_ids[prompt], groups.sources[source], index])
        for prompt, source, index in zip(*columns, strict=True)
    ]
    return np.array(names, "S16")
