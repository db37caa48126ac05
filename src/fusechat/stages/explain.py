"""Why a prompt gave this row, this pair, or nothing: all that was decided about it, laid open."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fusechat.errors import Fault, RecipeError
from fusechat.parts import Group, Refusal, Strategy
from fusechat.stages.build_settings import BuildSettings, DomainRule
from fusechat.stages.decisions import UNRULED, Picks
from fusechat.stages.groups import Pool
from fusechat.tables import read_dicts

TABLES = ("sft", "dpo", "dropped")
SHORTEST_PREFIX = 4


def explain_prompt(
    prompt_id: str,
    inputs: Mapping[str, Path],
    settings: BuildSettings,
    build_folder: Path | None = None,
) -> dict[str, Any]:
    """All responses to a prompt with their scores, what each strategy says of them, and why.

    `prompt_id`: an id, or the first characters of one (at least 4, of one prompt only).
    `inputs`, `settings`: as of the build unit. `build_folder`: the finished build; without
    it only the strategies can be explained, not the split. Keys of the answer: `prompt`,
    `rule`, `responses`, `strategies`, `placed`, `why`. Raises `RecipeError` where there is
    no such prompt.
    """
    prompt = _find(prompt_id, inputs["prompts"] / "prompts")
    pool = Pool.read(inputs, only=prompt["id"])
    rule = settings.domains.get(prompt["domain"])
    everything, rows = pool.group(0)
    group, _ = pool.group(0, rule.sources if rule else None)
    texts = pool.texts(rows)
    strategies = (
        {}
        if rule is None
        else {
            table: explain_strategy(strategy, group)
            for table, strategy in rule.strategies().items()
            if table in rule.split.asks
        }
    )
    placed = {} if build_folder is None else _placed(prompt["id"], build_folder)
    used = {r.response_id for r in group.responses}
    responses = [
        {
            **{name: value for name, value in asdict(seen).items() if name != "scores"},
            "used": seen.response_id in used,
            "scores": {name: asdict(judged) for name, judged in seen.scores.items()},
            "picked": _roles(seen.response_id, strategies),
            "text": texts[row],
        }
        for seen, row in zip(everything.responses, rows, strict=True)
    ]
    return {
        "prompt": prompt,
        "rule": rule.split.model_dump() if rule else None,
        "responses": responses,
        "strategies": strategies,
        "placed": placed,
        "why": why(rule, strategies, placed),
    }


def explain_strategy(strategy: Strategy, group: Group) -> dict[str, Any]:
    """What a strategy picks from a prompt, and what it would pick from each source alone."""
    alone = {}
    for source in group.sources:
        own = tuple(r for r in group.responses if r.source == source)
        if own:
            one = replace(group, sources=(source,), responses=own)
            alone[source] = _said(strategy.select(one))
    settings = strategy.model_dump()
    return {
        "use": strategy.part_name(),
        "settings": settings,
        **_said(strategy.select(group)),
        "sources": alone,
    }


def why(
    rule: DomainRule | None, strategies: Mapping[str, Any], placed: Mapping[str, Any]
) -> list[str]:
    """The decision in sentences, the split last."""
    if rule is None:
        return [f"Dropped: {UNRULED}."]
    sentences = [_strategy_sentence(table, said) for table, said in strategies.items()]
    if not placed:
        return sentences
    has_pair, has_response = ("picked" in strategies.get(t, {}) for t in ("dpo", "sft"))
    name = rule.split.rule
    if placed["dropped"]:
        row = placed["dropped"][0]
        sentences.append(f"Dropped by the rule {name}: {row['reason']} ({row['stage']}).")
    elif placed["sft"] and placed["dpo"]:
        sentences.append(f"In SFT and in DPO: the rule {name} has allow_overlap.")
    elif placed["sft"]:
        note = ", although it has a pair: the split drew it for SFT" if has_pair else ""
        sentences.append(f"In SFT by the rule {name}{note}.")
    elif placed["dpo"]:
        note = ", and not in SFT as well" if has_response else ""
        sentences.append(f"In DPO by the rule {name}{note}.")
    return sentences


def as_text(explanation: Mapping[str, Any], width: int = 100) -> str:
    """The explanation for a terminal; texts are cut to one line of `width` characters."""
    return "\n".join(_lines(explanation, width))


def _lines(explanation: Mapping[str, Any], width: int) -> Iterator[str]:
    prompt = explanation["prompt"]
    yield f"prompt {prompt['id']}  domain {prompt['domain']}  from {prompt['origin'] or '-'}"
    for message in prompt["messages"]:
        yield f"  {message['role']}: {_one_line(message['content'], width)}"
    if prompt["answer"] is not None:
        yield f"  right answer: {_one_line(prompt['answer'], width)}"
    yield ""
    yield f"{len(explanation['responses'])} responses"
    for row in explanation["responses"]:
        yield from _response_lines(row, width)
    for table, said in explanation["strategies"].items():
        yield ""
        yield f"{table}: {said['use']} {_result(said)}"
        for source, alone in said["sources"].items():
            yield f"  {source} alone: {_result(alone)}"
    yield ""
    yield from explanation["why"]


def _response_lines(row: Mapping[str, Any], width: int) -> Iterator[str]:
    marks = [", ".join(row["picked"])] if row["picked"] else []
    if not row["whole"]:
        marks.append("not whole, cannot be picked")
    if not row["used"]:
        marks.append("source not used by this rule")
    tail = f"  <- {'; '.join(marks)}" if marks else ""
    yield f"  {row['source']} #{row['index']}  {row['response_id']}  {row['finish']}{tail}"
    for name, score in row["scores"].items():
        value = f"{score['value']:.6g}" if score["value"] is not None else score["status"]
        yield f"      {name}: {value}" + (f" ({score['reason']})" if score["reason"] else "")
    yield f"      {_one_line(row['text'], width)}"


def _result(said: Mapping[str, Any]) -> str:
    if "refused" in said:
        known = [
            f"{k} {v:.6g}" for k in ("best", "gap") if (v := _numbers(said).get(k)) is not None
        ]
        return f"gives nothing: {said['refused']}" + (f" ({', '.join(known)})" if known else "")
    return "; ".join(_pick(pick) for pick in said["picked"])


def _numbers(said: Mapping[str, Any]) -> Mapping[str, Any]:
    # A refusal over one source alone has that source's numbers in it.
    sources = said["details"].get("sources", {})
    return dict(next(iter(sources.values()))) if len(sources) == 1 else {}


def _pick(pick: Mapping[str, Any]) -> str:
    if "response_id" in pick:
        score = "" if pick["score"] is None else f", score {pick['score']:.6g}"
        return f"{pick['response_id']}{score} ({pick['reason']})"
    margin = "" if pick["margin"] is None else f", margin {pick['margin']:.6g}"
    return f"{pick['chosen_id']} over {pick['rejected_id']}{margin} ({pick['reason']})"


def _strategy_sentence(table: str, said: Mapping[str, Any]) -> str:
    what = "SFT response" if table == "sft" else "DPO pair"
    if "refused" in said:
        return f"No {what}: {said['refused']}."
    return f"{what}: {_result(said)}."


def _said(picks: Picks) -> dict[str, Any]:
    if isinstance(picks, Refusal):
        return {"refused": picks.reason, "details": dict(picks.details)}
    return {"picked": [asdict(pick) for pick in picks]}


def _roles(response_id: str, strategies: Mapping[str, Any]) -> list[str]:
    roles = {"response_id": "sft", "chosen_id": "dpo chosen", "rejected_id": "dpo rejected"}
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
    for row in read_dicts(folder):
        if row["id"] == prompt_id:
            return row
        if long_enough and row["id"].startswith(prompt_id):
            found.append(row)
    if len(found) == 1:
        return found[0]
    message = (
        f"{len(found)} prompts begin with '{prompt_id}'. Give more of the id."
        if found
        else f"there is no prompt '{prompt_id}'. Ids are in the prompts unit's table."
    )
    raise RecipeError([Fault("", "--prompt", message)])


def _placed(prompt_id: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    placed: dict[str, list[dict[str, Any]]] = {}
    for table in TABLES:
        rows = (row for row in read_dicts(folder / table) if row["prompt_id"] == prompt_id)
        placed[table] = [_readable(row) for row in rows]
    return placed


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    details = row.get("details")
    return {**row, "details": json.loads(details)} if details else dict(row)


def _one_line(text: str, width: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def dropped_rows(build_folder: Path, reason: str | None = None) -> Sequence[dict[str, Any]]:
    """The dropped prompts of a build, those with this reason where given; details as objects."""
    rows = (_readable(row) for row in read_dicts(build_folder / "dropped"))
    return [row for row in rows if reason in (None, row["reason"])]
