"""The layouts of other tools' files: how each is told, and what a row of it holds.

Columns as the public cards and loaders of these sets have them: distilabel's steps
(`generations`, `generation_models`, `ratings`), openbmb/UltraFeedback (`completions`),
HuggingFaceH4/ultrafeedback_binarized, the README of SLIT-AI/WRPO, FuseAI/FuseChat-3.0-SFT-Data
and -DPO-Data, SimPO's on-policy generation, LLaMA-Factory's ranking files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fusechat.pools.rows import Found, Stored, at, number, prompt_of, stored, text_of

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """One layout: its name, what it is, how a row is told, and its reader."""

    name: str
    what: str
    fits: Callable[[Row], bool]
    read: Callable[[Row], Found]
    """Raises `ValueError` with the reason where the row as a whole cannot be read."""


def _has(row: Row, *names: str) -> bool:
    return all(row.get(name) is not None for name in names)


def _first(row: Row, *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _texts(row: Row, *names: str) -> list[Any]:
    value = _first(row, *names)
    if not isinstance(value, list) or not value:
        raise ValueError(f"'{names[0]}' is no list of responses, or an empty one")
    return value


def _kept(row: Row, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names if row.get(name) is not None}


# distilabel ------------------------------------------------------------------------------------

_DISTILABEL = ("generations", "evolved_responses", "responses")
_DISTILABEL_MODELS = ("generation_models", "generation_model", "model_names", "model_name")


def _fits_distilabel(row: Row) -> bool:
    lists = any(isinstance(row.get(name), list) for name in _DISTILABEL)
    single = isinstance(row.get("generation"), str) and "model_name" in row
    prompt = any(name in row for name in ("instruction", "input", "prompt", "messages"))
    return (lists or single) and prompt and "all_generated_responses" not in row


def _distilabel(row: Row) -> Found:
    names = ("messages", "instruction", "input", "prompt")
    prompt = prompt_of(row, *names, system=row.get("system_prompt"))
    listed = any(isinstance(row.get(name), list) for name in _DISTILABEL)
    texts = _texts(row, *_DISTILABEL) if listed else [row.get("generation")]
    models = _first(row, *_DISTILABEL_MODELS[: None if not listed else 3])
    if listed and models is None and isinstance(row.get("model_name"), list):
        models = row["model_name"]  # of a rating step it is one text: the judge's name
    scores = _first(row, "ratings", "rating", "scores")
    if isinstance(scores, (int, float)) and len(texts) == 1:
        scores = [scores]
    found = [
        stored(
            text,
            model=str(at(models, n, len(texts)) or (models if isinstance(models, str) else "")),
            score=number(at(scores, n, len(texts))),
            extra=_beside(row, n, len(texts), {"rationales": "rationale"}),
        )
        for n, text in enumerate(texts)
    ]
    return Found(prompt, tuple(found), _kept(row, "evol_instruction_score"))


def _beside(row: Row, index: int, count: int, columns: Mapping[str, str]) -> dict[str, Any]:
    found = {new: at(row.get(old), index, count) for old, new in columns.items()}
    return {name: value for name, value in found.items() if value is not None}


# UltraFeedback ---------------------------------------------------------------------------------


def _fits_ultrafeedback(row: Row) -> bool:
    inner = row.get("completions")
    return isinstance(inner, list) and all(isinstance(one, Mapping) for one in inner)


def _ultrafeedback(row: Row) -> Found:
    prompt = prompt_of(row, "instruction", "prompt", "messages")
    found = []
    for one in _texts(row, "completions"):
        rated = one.get("annotations")
        aspects = _aspects(rated) if isinstance(rated, Mapping) else {}
        whole = _first(one, "overall_score", "score", "fine-grained_score")
        extra = {"scores": aspects} if aspects else {}
        extra |= {} if (system := one.get("custom_system_prompt")) is None else {"system": system}
        found.append(
            stored(one.get("response"), model=str(one.get("model") or ""), score=number(whole),
                   finish=one.get("finish_reason"), extra=extra)
        )  # fmt: skip
    return Found(prompt, tuple(found), _kept(row, "source"))


def _aspects(annotations: Row) -> dict[str, float]:
    """Aspect -> its rating; of several annotations of an aspect the first, as its loaders do."""
    out = {}
    for name, said in annotations.items():
        one = said[0] if isinstance(said, list) and said else said
        value = number(one.get("Rating") if isinstance(one, Mapping) else one)
        if value is not None:
            out[str(name)] = value
    return out


def _fits_binarized(row: Row) -> bool:
    return (
        _has(row, "chosen", "rejected")
        and not {"conversations", "source_model", "all_generated_responses"} & set(row)
        and any(name in row for name in ("prompt", "messages", "question", "instruction"))
        and not isinstance(row.get("prompt"), Mapping)
    )


def _binarized(row: Row) -> Found:
    names = [n for n in ("prompt", "question", "instruction", "chosen") if row.get(n) is not None]
    sides = _sides(row, row["chosen"], row["rejected"])
    whole = row["chosen"]
    if isinstance(whole, list) and len(whole) > 1:
        names = ["chosen"]  # the conversation of both; `prompt` is only its first turn
    return Found(prompt_of(row, *names, system=row.get("system")), sides,
                 _kept(row, "prompt_id", "source"))  # fmt: skip


def _sides(row: Row, chosen: Any, rejected: Any, model: str = "") -> tuple[Stored, ...]:
    """Both sides of a pair; where no scores are stored, preferred is 1 and the other 0."""
    values = [
        number(_first(row, f"score_{side}", f"{side}_score", f"{side}_rating"))
        for side in ("chosen", "rejected")
    ]
    if None in values:
        values = [1.0, 0.0]
    makers = [
        str(_first(row, f"{side}_model", f"{side}-model") or model)
        for side in ("chosen", "rejected")
    ]
    return tuple(
        stored(text, model=maker, score=value, extra={"label": label})
        for text, maker, value, label in zip(
            (chosen, rejected), makers, values, ("chosen", "rejected"), strict=True
        )
    )


# The hub layouts of FuseAI ---------------------------------------------------------------------


_SOURCES, _TARGET = "wrpo-sources", "wrpo-target"  # its rows do not say which of the sources


def _fits_wrpo(row: Row) -> bool:
    return (
        isinstance(row.get("prompt"), Mapping)
        and isinstance(row.get("chosen"), list)
        and isinstance(row.get("rejected"), list)
    )


def _wrpo(row: Row) -> Found:
    prompt = prompt_of(row, "prompt")
    preferred = _texts(row, "chosen")
    found = [
        stored(one, model=_SOURCES if n == 0 and len(preferred) > 1 else _TARGET, score=1.0,
               extra={"label": "chosen"})
        for n, one in enumerate(preferred)
    ]  # fmt: skip
    found += [
        stored(one, model=_TARGET, score=0.0, extra={"label": "rejected"})
        for one in _texts(row, "rejected")
    ]
    return Found(prompt, tuple(found), _kept(row, "prompt_id"))


def _fits_fusechat(row: Row) -> bool:
    sft = isinstance(row.get("conversations"), list)
    return "source_model" in row and (sft or _has(row, "prompt", "chosen", "rejected"))


def _fusechat(row: Row) -> Found:
    model, extra = str(row.get("source_model") or ""), _kept(row, "dataset")
    if isinstance(row.get("conversations"), list):
        prompt = prompt_of(row, "conversations")
        answer = stored(row["conversations"], model=model, extra={"label": "sft"})
        return Found(prompt, (answer,), extra)
    prompt = prompt_of(row, "prompt")
    return Found(prompt, _sides(row, row["chosen"], row["rejected"], model), extra)


# SimPO -----------------------------------------------------------------------------------------


def _simpo(row: Row) -> Found:
    prompt = prompt_of(row, "prompt", "instruction", "messages")
    texts = _texts(row, "all_generated_responses")
    models = _first(row, "response_model_names", "model", "generator")
    found = [
        stored(
            text,
            model=str(at(models, n, len(texts)) or (models if isinstance(models, str) else "")),
            score=number(at(row.get("all_rm_scores"), n, len(texts))),
        )
        for n, text in enumerate(texts)
    ]
    return Found(prompt, tuple(found), _kept(row, "prompt_id"))


# LLaMA-Factory ---------------------------------------------------------------------------------


def _fits_llamafactory(row: Row) -> bool:
    ranking = _has(row, "chosen", "rejected")
    shared = isinstance(row.get("conversations"), list) and (ranking or "source_model" not in row)
    alpaca = isinstance(row.get("instruction"), str) and ("input" in row or "output" in row)
    return (shared or (alpaca and ranking)) and "source_model" not in row


def _llamafactory(row: Row) -> Found:
    prompt = prompt_of(row, "conversations", "instruction", system=row.get("system"))
    if _has(row, "chosen", "rejected"):
        return Found(prompt, _sides(row, row["chosen"], row["rejected"]))
    answer = _first(row, "output", "conversations")
    return Found(prompt, (stored(answer, extra={"label": "sft"}),))


# One response a row, and one column a model ----------------------------------------------------

_LONG_PROMPT = ("messages", "prompt", "instruction", "question", "problem", "input")
_LONG_TEXT = ("response", "output", "generation", "completion", "answer", "text")
_LONG_MODEL = ("model", "generator", "source", "source_model", "model_name", "model_id")


def _fits_long(row: Row) -> bool:
    response = any(text_of(row.get(name)) is not None for name in _LONG_TEXT)
    return response and _first(row, *_LONG_PROMPT) is not None


def _long(row: Row) -> Found:
    prompt = prompt_of(row, *_LONG_PROMPT, system=row.get("system"))
    score = number(_first(row, "score", "rating", "reward", "overall_score", "rm_score"))
    finish = _first(row, "finish", "finish_reason", "stop_reason")
    answer = stored(
        _first(row, *_LONG_TEXT),
        model=str(_first(row, *_LONG_MODEL) or ""),
        score=score,
        finish=None if finish is None else str(finish),
    )
    return Found(prompt, (answer,), _kept(row, "dataset", "domain"))


def _columns_of(row: Row) -> Iterator[tuple[str, Row]]:
    for name, value in row.items():
        if isinstance(value, Mapping) and any(key in value for key in ("solution", *_LONG_TEXT)):
            yield name, value


def _fits_columns(row: Row) -> bool:
    return _first(row, *_LONG_PROMPT) is not None and any(_columns_of(row))


def _columns(row: Row) -> Found:
    prompt = prompt_of(row, *_LONG_PROMPT)
    found = [
        stored(
            _first(value, "solution", *_LONG_TEXT),
            model=name,
            score=number(_first(value, "score", "rating", "is_correct", "correct")),
        )
        for name, value in _columns_of(row)
    ]
    gold = row.get("ground_truth")
    extra = _kept(row, "answer") if isinstance(row.get("answer"), str) else {}
    if isinstance(gold, str) and "\nA:" in gold:
        extra["answer"] = gold.rpartition("\nA:")[2].strip()
    return Found(prompt, tuple(found), extra)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("simpo", "SimPO: all_generated_responses, all_rm_scores",
               lambda row: isinstance(row.get("all_generated_responses"), list), _simpo),
        Layout("ultrafeedback", "UltraFeedback: completions with model, response, overall_score",
               _fits_ultrafeedback, _ultrafeedback),
        Layout("wrpo", "WRPO: prompt, chosen [of a source, of the target], rejected",
               _fits_wrpo, _wrpo),
        Layout("fusechat", "FuseChat-3.0: source_model with conversations, or with a pair",
               _fits_fusechat, _fusechat),
        Layout("llamafactory", "LLaMA-Factory: conversations or instruction, with or without a "
               "ranking", _fits_llamafactory, _llamafactory),
        Layout("distilabel", "distilabel: generations, generation_models, ratings",
               _fits_distilabel, _distilabel),
        Layout("binarized", "pairs: prompt, chosen, rejected, perhaps their scores",
               _fits_binarized, _binarized),
        Layout("columns", "one column a model, each an object with its solution",
               _fits_columns, _columns),
        Layout("long", "one response a row, with its model", _fits_long, _long),
    )
}  # fmt: skip
"""By name, the most telling first: `auto` takes the first that fits most rows."""
