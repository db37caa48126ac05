"""`fusechat score arena_hard JUDGMENTS.jsonl`: Arena-Hard's win rate from stored judgments."""

from __future__ import annotations

import glob
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fusechat.columns import read_rows as read_items
from fusechat.errors import Fault, RecipeError
from fusechat.grading._stored_judgments import Stored, in_both, one_or_all
from fusechat.grading.rows import read_rows
from fusechat.metrics import agreement as agree
from fusechat.metrics import bradley_terry as bt
from fusechat.tasks import _chat_battles as games
from fusechat.tasks._chat_files import answer_texts
from fusechat.tasks.arena_hard import BASELINE, ArenaHard

SIZE = 500
"""Items of Arena-Hard v0.1."""


class Judged(BaseModel):
    """One row of Arena-Hard's `model_judgment` files."""

    question_id: str | None = None
    uid: str | None = None
    model: str
    judge: Any = None
    games: list[Any]
    """Two of `{"score": "A>B"}`: the baseline's answer in place A, then in place B; a game without
    `score` is read from its `judgment`."""

    @property
    def item(self) -> str:
        return self.uid or self.question_id or ""


def score(path: Path, data_dir: Path | None) -> dict[str, Any]:
    """Win rate against gpt-4-0314 in per cent, as Arena-Hard v0.1 makes it, with its interval.

    JSON: `win_rate`, `interval` (percentiles of 100 resamples), `n` (items with a verdict in either
    game), `n_expected`, `status` (`ok` or `partial`), `games` (verdicts by their end),
    `games_disagree`, `unparsable` (games without a verdict: left out, as Arena-Hard does),
    `missing`, `doubled` (the first judgment counts) and `unknown` items, and `style_controlled`
    where `data_dir` has the answers. Several models in a file: `{"models": [...]}`. Raises
    `RecipeError` where rows are faulty.
    """
    task = ArenaHard(data_dir=str(data_dir) if data_dir else None)
    there = task.found()
    rows = [row for _, row in read_items(there["items"])] if "items" in there else []
    known = [row for row in rows if isinstance(row, Mapping)]
    expected = [str(row.get("uid") or row.get("question_id")) for row in known]
    models: dict[tuple[str, str], list[Judged]] = {}
    for row in _read(path):
        models.setdefault((row.model, str(row.judge or "")), []).append(row)
    baseline = answer_texts(there["baseline"]) if "baseline" in there else {}
    found = []
    for (model, judge), judged in models.items():
        stored = Stored.of(((row.item, row) for row in judged), expected, SIZE)
        answers = _answers_of(model, data_dir)
        found.append({"model": model, "judge": judge} | _scored(stored, answers, baseline))
    return one_or_all(path, found)


def agreement(path: Path, published: Path, data_dir: Path | None) -> dict[str, Any]:
    """How two judges agree on the same responses, the first being ours.

    What a judge prefers is read off both games of an item together (the weighted share that the
    model won). JSON: `agreement` (share of items of which both prefer the same response; where just
    one sees a draw, half) and `correlation`, both with intervals, `n`, and `not_published`: items
    of ours that the other file has not. Raises `RecipeError` where no item is in both files, or a
    row is faulty.
    """
    ours, theirs = _preferences(path), _preferences(published)
    both = in_both(path, ours, theirs)
    told = agree.told([one for one, _ in both], [other for _, other in both])
    return {"ours": str(path), "published": str(published), **told,
            "not_published": len(ours) - len(both)}  # fmt: skip


def _preferences(path: Path) -> dict[Hashable, float]:
    """(model, item) -> the share that the model won, of items with both verdicts."""
    found: dict[Hashable, float] = {}
    for row in _read(path):
        first, second = (_battle(row.games, place) for place in (0, 1))
        if first is not None and second is not None:
            weights = [first.weight, second.weight]
            found.setdefault(
                (row.model, row.item), bt.win_rate([first.share, second.share], weights)
            )
    return found


def _read(path: Path) -> list[Judged]:
    """The rows, each about an item."""
    rows = read_rows(path, Judged)
    told = "it names no item. Write its 'question_id' or 'uid'."
    if faults := [Fault(f"{path}:{number}", "", told) for number, row in rows if not row.item]:
        raise RecipeError(faults)
    return [row for _, row in rows]


def _scored(
    stored: Stored[Judged], answers: Mapping[str, str], baseline: Mapping[str, str]
) -> dict[str, Any]:
    items, battles, pairs, unparsable = [], [], [], 0
    for item, row in stored.rows.items():
        played = [_battle(row.games, place) for place in (0, 1)]
        unparsable += sum(one is None for one in played)
        for one in played:
            if one is not None:
                items.append(str(item))
                battles.append(one)
        if played[0] is not None and played[1] is not None:
            pairs.append((played[0], played[1]))
    told = {
        "baseline": BASELINE, "n": len(set(items)),
        "games": games.told(battles), "games_disagree": games.disagreeing(pairs),
        **stored.told(unparsable),
    }  # fmt: skip
    if not battles:
        return {"win_rate": None, "interval": None} | told
    shares, weights = [b.share for b in battles], [b.weight for b in battles]
    interval = bt.interval(shares, weights)
    return {
        "win_rate": 100 * bt.win_rate(shares, weights),
        "interval": [100 * interval.low, 100 * interval.high],
        **told,
        "style_controlled": _style(items, battles, answers, baseline),
    }


def _battle(row: Sequence[Any], place: int) -> games.Battle | None:
    game = row[place] if place < len(row) else None
    if not isinstance(game, Mapping):
        return None
    if "score" in game:
        label = game["score"]
    else:
        said = game.get("judgment")
        said = said.get("answer") if isinstance(said, Mapping) else said
        label = games.label_of(said) if isinstance(said, str) else None
    known = isinstance(label, str) and label in games.VERDICTS
    return games.battle(label, second=place == 0) if known else None


def _answers_of(model: str, data_dir: Path | None) -> dict[str, str]:
    """Item -> the model's answer, from a file of Arena-Hard's layout below the folder."""
    if data_dir is None:
        return {}
    name = glob.escape(model.rsplit("/", 1)[-1])
    for pattern in (f"model_answer/{name}.jsonl", f"arena_hard_v0.1_answer_{name}.jsonl"):
        for path in sorted(data_dir.rglob(pattern)):
            if found := answer_texts(path):
                return found
    return {}


def _style(
    items: Sequence[str],
    battles: Sequence[games.Battle],
    answers: Mapping[str, str],
    baseline: Mapping[str, str],
) -> dict[str, Any]:
    both = [place for place, item in enumerate(items) if item in answers and item in baseline]
    if len(both) < len(items):
        why = "--data-dir has not both answers (the model's, the baseline's) to every item"
        return {"win_rate": None, "why": why}
    model = [games.style_counts(answers[item]) for item in items]
    other = [games.style_counts(baseline[item]) for item in items]
    return games.style_told(battles, model, other, "characters")
