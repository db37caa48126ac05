"""An explained prompt for a terminal, and its decision in sentences."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusechat.stages.explain_details import as_line

WHAT = {"sft": "SFT response", "dpo": "DPO pair"}


def sentence(table: str, said: Mapping[str, Any]) -> str:
    """What a strategy picked and why, or why it picked nothing."""
    if "refused" in said:
        return f"No {WHAT[table]}: {said['refused']}{_each_source(said)}."
    return f"{WHAT[table]}: {_result(said)}{_window(said)}{_passed_over(said)}."


def split_sentence(
    rule: str, strategies: Mapping[str, Any], placed: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """Where the split rule put the prompt; `placed`: its rows in each table of the build."""
    has_pair, has_response = ("picked" in strategies.get(t, {}) for t in ("dpo", "sft"))
    if placed["dropped"]:
        row = placed["dropped"][0]
        return f"Dropped by the rule {rule}: {row['reason']} ({row['stage']})."
    if placed["sft"] and placed["dpo"]:
        return f"In SFT and in DPO: the rule {rule} has allow_overlap."
    if placed["sft"]:
        note = ", although it has a pair: the split drew it for SFT" if has_pair else ""
        return f"In SFT by the rule {rule}{note}."
    if placed["dpo"]:
        note = ", and not in SFT as well" if has_response else ""
        return f"In DPO by the rule {rule}{note}."
    if placed.get("reserved"):
        return (
            f"Reserved for DPO by the rule {rule}: its row is made by build/on_policy, of what "
            "the trained target answers."
        )
    return "The build that was read does not have this prompt."


def _window(said: Mapping[str, Any]) -> str:
    return f" in the window {window_text(said['window'])}" if said.get("window") else ""


def window_text(window: Mapping[str, float | None]) -> str:
    """`0.01 to 0.1`, `at least 0.01`, `of any size`."""
    low, high = window["min_margin"], window["max_margin"]
    if low is None and high is None:
        return "of any size"
    if low is None or high is None:
        return f"up to {high:.6g}" if low is None else f"from {low:.6g}"
    return f"{low:.6g} to {high:.6g}"


def _passed_over(said: Mapping[str, Any]) -> str:
    """The sources that came before the one that gave the pair, and why they gave none."""
    chosen = {pick["chosen_id"] for pick in said["picked"] if "chosen_id" in pick}
    own = [
        one["rank"]
        for one in said["sources"].values()
        if one["rank"] and any(pick.get("chosen_id") in chosen for pick in one.get("picked", ()))
    ]
    before = [
        f"{name} ({one['refused']})"
        for name, one in _ranked(said)
        if own and "refused" in one and one["rank"] and one["rank"] < min(own)
    ]
    return f"; tried before: {', '.join(before)}" if before else ""


def _each_source(said: Mapping[str, Any]) -> str:
    reasons = {name: one.get("refused", "") for name, one in said["sources"].items()}
    if len(set(reasons.values())) <= 1:
        return ""
    told = ", ".join(f"{name} {reason or 'not tried'}" for name, reason in reasons.items())
    return f" ({told})"


def _ranked(said: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The sources in the order in which they are tried, those without a rank last."""
    return sorted(said["sources"].items(), key=lambda entry: entry[1].get("rank") or sys.maxsize)


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
        yield from _strategy_lines(table, said)
    yield ""
    yield from explanation["why"]


def _response_lines(row: Mapping[str, Any], width: int) -> Iterator[str]:
    marks = [", ".join(row["picked"])] if row["picked"] else []
    if not row["whole"]:
        marks.append("not whole, cannot be picked")
    if not row["used"]:
        marks.append("source not used by this rule")
    tail = f"  <- {'; '.join(marks)}" if marks else ""
    tokens = "" if row["tokens"] is None else f"  {row['tokens']} tokens"
    yield f"  {row['source']} #{row['index']}  {row['response_id']}  {row['finish']}{tokens}{tail}"
    for name, score in row["scores"].items():
        value = f"{score['value']:.6g}" if score["value"] is not None else score["status"]
        noted = f"  [{_one_line(as_line(score['details']), width)}]" if "details" in score else ""
        yield (
            f"      {name}: {value}" + (f" ({score['reason']})" if score["reason"] else "") + noted
        )
    yield f"      {_one_line(row['text'], width)}"


def _strategy_lines(table: str, said: Mapping[str, Any]) -> Iterator[str]:
    window = f", window {window_text(said['window'])}" if said.get("window") else ""
    yield f"{table}: {said['use']}{window}: {_result(said)}"
    used = {said["names"].get(_first(pick), "").split(" #")[0] for pick in said.get("picked", ())}
    for name, alone in _ranked(said):
        rank = f"{alone['rank']}. " if alone["rank"] else "-  "
        could = "could give the chosen one" if said["mixes_sources"] else "would give one by itself"
        gives = "gives it" if name in used else could
        ends = _ends(name, alone)
        verdict = f"none: {alone['refused']}" if "refused" in alone else gives
        yield f"  {rank}{name}  {verdict}" + (f"  ({ends})" if ends else "")


def _ends(name: str, alone: Mapping[str, Any]) -> str:
    parts = []
    for key in ("best", "worst"):
        if one := alone.get(key):
            score = "" if one["score"] is None else f" {one['score']:.6g}"
            tokens = "" if one["tokens"] is None else f", {one['tokens']} tokens"
            whose = "" if one["source"] == name else f"{one['source']} "
            parts.append(f"{key} {whose}#{one['index']}{score}{tokens}")
    if alone.get("gap") is not None:
        parts.append(f"gap {alone['gap']:.6g}")
    return "; ".join(parts)


def _result(said: Mapping[str, Any]) -> str:
    if "refused" in said:
        return f"gives nothing: {said['refused']}"
    return "; ".join(_pick(pick, said["names"]) for pick in said["picked"])


def _pick(pick: Mapping[str, Any], names: Mapping[str, str]) -> str:
    first = names[_first(pick)]
    if "response_id" in pick:
        score = "" if pick["score"] is None else f", score {pick['score']:.6g}"
        return f"{first}{score}{_weight(pick)} ({pick['reason']})"
    margin = "" if pick["margin"] is None else f", margin {pick['margin']:.6g}"
    if "target_chosen_id" in pick:
        first += f" and {names[pick['target_chosen_id']]}"
    return f"{first} over {names[pick['rejected_id']]}{margin}{_weight(pick)} ({pick['reason']})"


def _weight(pick: Mapping[str, Any]) -> str:
    return "" if pick.get("weight", 1.0) == 1.0 else f", weight {pick['weight']:.3g}"


def _first(pick: Mapping[str, Any]) -> str:
    """The response to imitate, or the chosen one, of a triple the sources'."""
    names = ("response_id", "chosen_id", "source_chosen_id")
    return next(str(pick[name]) for name in names if name in pick)


def _one_line(text: str, width: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
