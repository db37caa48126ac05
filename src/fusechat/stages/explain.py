"""Why a prompt gave this row, this pair, or nothing: all that was decided about it, laid open."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from fusechat.errors import Fault, RecipeError
from fusechat.parts import Group, Groups, Seen, Strategy
from fusechat.stages.build_settings import BuildSettings, DomainRule
from fusechat.stages.decisions import UNRULED
from fusechat.stages.explain_details import read_details
from fusechat.stages.explain_sources import explain_strategy
from fusechat.stages.explain_text import as_text as as_text
from fusechat.stages.explain_text import sentence, split_sentence
from fusechat.stages.groups import groups_of, texts_of
from fusechat.stages.windows import resolved_as
from fusechat.tables import read_columns, read_dicts, shards

TABLES = ("sft", "dpo", "reserved", "dropped")
SHORTEST_PREFIX = 4


def explain_prompt(
    prompt_id: str,
    inputs: Mapping[str, Path],
    settings: BuildSettings,
    build_folder: Path | None = None,
    *,
    later: Path | None = None,
    trained: Collection[str] = (),
) -> dict[str, Any]:
    """All responses to a prompt with their scores, what each strategy says of them, and why.

    `prompt_id`: an id, or the first characters of one (at least 4, of one prompt only).
    `inputs`, `settings`: as of the build unit, or of both where a build is in two. `build_folder`:
    the finished build; without it only the strategies can be explained, not the split. `later`: the
    finished build of the prompts that it reserved. `trained`: the sources that the recipe trains
    itself. Keys of the answer: `prompt`, `rule`, `responses`, `strategies`
    (`explain_sources.explain_strategy`), `placed`, `why`. Raises `RecipeError` where there is no
    such prompt.
    """
    prompt = _find(prompt_id, inputs["prompts"] / "prompts")
    groups = groups_of(inputs, prompt["id"])
    placed = {} if build_folder is None else _placed(prompt["id"], build_folder, later)
    waits = bool(placed and placed["reserved"])
    rule = _rule(prompt["domain"], inputs, settings, later if waits and later else build_folder)
    asked = _asked(rule, groups, trained)
    strategies = {
        table: explain_strategy(strategy, group)
        for table, (strategy, group) in asked.items()
        if not (table == "dpo" and waits and later is None)
    }
    used = {r.response_id for _, group in asked.values() for r in group.responses}
    return {
        "prompt": prompt,
        "rule": rule.split.model_dump() if rule else None,
        "responses": _responses(inputs, groups, strategies, None if rule is None else used),
        "strategies": strategies,
        "placed": placed,
        "why": why(rule, strategies, placed),
    }


def _asked(
    rule: DomainRule | None, groups: Groups, trained: Collection[str]
) -> dict[str, tuple[Strategy, Group]]:
    """Table -> its strategy, and the responses that it sees."""
    if rule is None:
        return {}
    return {
        table: (strategy, groups.take([0], _seen_by(rule, table, groups.sources, trained)).group(0))
        for table, strategy in rule.strategies().items()
        if table in rule.split.asks
    }


def _responses(
    inputs: Mapping[str, Path],
    groups: Groups,
    strategies: Mapping[str, Any],
    used: Collection[str] | None,
) -> list[dict[str, Any]]:
    """All responses; `used`: ids of those that a strategy sees, None: no rule says."""
    everything = groups.group(0).responses
    texts = texts_of(inputs, groups, range(len(groups)))
    details = read_details(inputs, [seen.response_id for seen in everything])
    return [
        {
            **_seen(seen, details.get(seen.response_id, {})),
            "used": used is None or seen.response_id in used,
            "picked": _roles(seen.response_id, strategies),
            "text": texts[row],
        }
        for row, seen in enumerate(everything)
    ]


def why(
    rule: DomainRule | None, strategies: Mapping[str, Any], placed: Mapping[str, Any]
) -> list[str]:
    """The decision in sentences, the split last."""
    if rule is None:
        return [f"Dropped: {UNRULED}."]
    sentences = [sentence(table, said) for table, said in strategies.items()]
    return (
        [*sentences, split_sentence(rule.split.rule, strategies, placed)] if placed else sentences
    )


def _seen_by(
    rule: DomainRule, table: str, sources: Sequence[str], trained: Collection[str]
) -> tuple[str, ...]:
    """The sources whose responses a table's strategy sees."""
    named = rule.sources_of(table)
    asked = rule.asks_for(table, trained)
    ready = tuple(name for name in sources if name not in trained or name in asked)
    return ready if named is None else named


def _rule(
    domain: str, inputs: Mapping[str, Path], settings: BuildSettings, build_folder: Path | None
) -> DomainRule | None:
    """The domain's rule, its window in the raw units that the build used."""
    if domain not in settings.domains:
        return None
    only = settings.model_copy(update={"root": {domain: settings.domains[domain]}})
    return resolved_as(inputs, only, build_folder).domains[domain]


def _seen(seen: Seen, details: Mapping[str, Any]) -> dict[str, Any]:
    scores = {}
    for name, judged in seen.scores.items():
        scores[name] = asdict(judged)
        if name in details:
            scores[name]["details"] = details[name]
    rest = {name: value for name, value in asdict(seen).items() if name != "scores"}
    return {**rest, "scores": scores}


def _roles(response_id: str, strategies: Mapping[str, Any]) -> list[str]:
    roles = {
        "response_id": "sft", "chosen_id": "dpo chosen", "rejected_id": "dpo rejected",
        "source_chosen_id": "dpo source chosen", "target_chosen_id": "dpo target chosen",
    }  # fmt: skip
    return [
        role
        for said in strategies.values()
        for pick in said.get("picked", ())
        for key, role in roles.items()
        if pick.get(key) == response_id
    ]


def _find(prompt_id: str, folder: Path) -> dict[str, Any]:
    long_enough = len(prompt_id) >= SHORTEST_PREFIX
    found: list[dict[str, Any]] = []
    for path in shards(folder):
        ids = read_columns(path, ["id"])["id"]
        if (place := pc.index(ids, prompt_id).as_py()) >= 0:
            return _row(path, place)
        if long_enough:
            begins = pc.indices_nonzero(pc.starts_with(ids, prompt_id)).to_pylist()
            found += [_row(path, place) for place in begins]
    if len(found) == 1:
        return found[0]
    message = (
        f"{len(found)} prompts begin with '{prompt_id}'. Give more of the id."
        if found
        else f"there is no prompt '{prompt_id}'. Ids are in the prompts unit's table."
    )
    raise RecipeError([Fault("", "--prompt", message)])


def _row(path: Path, place: int) -> dict[str, Any]:
    names = pq.read_schema(path).names
    row: dict[str, Any] = read_columns(path, names).slice(place, 1).to_pylist()[0]
    return row


def _placed(prompt_id: str, folder: Path, later: Path | None) -> dict[str, list[dict[str, Any]]]:
    folders = [folder] if later is None else [folder, later]
    return {
        table: [row for one in folders for row in _rows_of(prompt_id, one / table)]
        for table in TABLES
    }


def _rows_of(prompt_id: str, table: Path) -> Iterator[dict[str, Any]]:
    for path in shards(table):
        owners = read_columns(path, ["prompt_id"])["prompt_id"]
        for place in pc.indices_nonzero(pc.equal(owners, prompt_id)).to_pylist():
            yield _readable(_row(path, place))


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    details = row.get("details")
    return {**row, "details": json.loads(details)} if details else dict(row)


def dropped_rows(build_folder: Path, reason: str | None = None) -> Sequence[dict[str, Any]]:
    """The dropped prompts of a build, those with this reason where given; details as objects."""
    rows = (_readable(row) for row in read_dicts(build_folder / "dropped"))
    return [row for row in rows if reason in (None, row["reason"])]
