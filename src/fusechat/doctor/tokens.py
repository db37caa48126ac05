"""Checks of ids: stop tokens, padding, vocabulary, and the same ids in every stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from fusechat import chat
from fusechat.doctor.findings import Finding
from fusechat.records import Demonstration, Dropped, Message, Pair

CASES: tuple[tuple[dict[str, str], ...], ...] = (
    ({"role": "user", "content": "What is 12 - 5?"},),
    ({"role": "user", "content": "  Leading space, trailing line break\n"},),
    ({"role": "user", "content": "写一句话。"},),
    ({"role": "user", "content": "What does <|im_end|><|eot_id|></s> mean?"},),
    (
        {"role": "user", "content": "Name a prime."},
        {"role": "assistant", "content": "7"},
        {"role": "user", "content": "Another one."},
    ),
)
"""Conversations that stages are compared on: spaces, other scripts, spelt control tokens, turns."""
_ANSWERS = ("The answer is 7.", "  7")


def stop_ids(tokenizer: Any, config: Any, generation: Mapping[str, Any]) -> set[int]:
    """The tokens at which a server stops by default: EOS of tokenizer and generation config."""
    listed = generation.get("eos_token_id", getattr(config, "eos_token_id", None))
    ids = listed if isinstance(listed, (list, tuple)) else [listed]
    return {one for one in (*ids, tokenizer.eos_token_id) if one is not None}


def stops(
    tokenizer: Any, config: Any, generation: Mapping[str, Any], served: bool
) -> Iterator[Finding]:
    """Whether the end-of-turn token ends an answer.

    `served`: a server decides when to stop; the source `hf` also stops at the end-of-turn token.
    """
    end = chat.turn_end_id(tokenizer)
    known = stop_ids(tokenizer, config, generation)
    if end in known:
        return
    name = tokenizer.convert_ids_to_tokens(end)
    others = ", ".join(sorted(map(str, tokenizer.convert_ids_to_tokens(sorted(known))))) or "none"
    yield Finding(
        "fault" if served else "warning", "end-no-stop-token",
        f"an answer ends with {name}, which is not among the stop tokens ({others}): "
        + ("the server writes on after it." if served else "fusechat stops there, servers do not."),
        f"Put {end} into eos_token_id of generation_config.json.",
    )  # fmt: skip


def padding(tokenizer: Any, trained: bool) -> Iterator[Finding]:
    """A pad token that is also the end of an answer."""
    pad, ends = tokenizer.pad_token_id, {tokenizer.eos_token_id, chat.turn_end_id(tokenizer)}
    if trained and pad is not None and pad in ends:
        yield Finding(
            "note", "pad-is-end",
            f"the pad token {tokenizer.pad_token} also ends answers. fusechat masks by length and "
            "trains it; a trainer that masks by pad id never teaches the model to stop.",
            "Elsewhere, choose another pad token.",
        )  # fmt: skip


def vocabulary(tokenizer: Any, config: Any) -> Iterator[Finding]:
    """Ids that the embedding does not have; worst where a conversation can hold them."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    known = tokenizer.get_vocab()
    over = sorted(name for name, one in known.items() if rows is not None and one >= rows)
    if not over:
        return
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    written = chat.template_text(tokenizer, list(map(dict, CASES[-1])), generation_prompt=True)
    written += chat.answer_end(tokenizer)
    used = [name for name in over if name not in special or name in written]
    yield Finding(
        "fault" if used else "warning", "vocabulary-too-large",
        f"the tokenizer has ids up to {max(known.values())} and the model {rows} embeddings; "
        f"without one: {', '.join((used or over)[:5])}"
        + ("." if used else ", which no conversation holds (padding with it fails on a GPU)."),
        "Use the model's own tokenizer, or resize its embeddings and train them.",
    )  # fmt: skip


Rendered = Mapping[str, Sequence[Sequence[int] | str]]
"""Stage -> prompt ids of each of `CASES`, or why there are none."""


def stage_prompts(tokenizer: Any, config: Any, samplers: Mapping[str, Any]) -> dict[str, Any]:
    """The prompt ids of `CASES` through the very functions of each stage.

    `samplers`: name of a stage that samples -> its `hf` part.
    """
    from fusechat.sources.hf import _Sampler

    found: dict[str, Any] = {}
    for stage, part in samplers.items():
        sampler = _Sampler(part, SimpleNamespace(config=config), tokenizer, [])
        found[stage] = [sampler._render(list(map(dict, case))) for case in CASES]
    found["train.sft"] = _training_prompts(tokenizer, map(_demonstration, CASES))
    found["train.dpo"] = _training_prompts(tokenizer, map(_pair, CASES))
    return found


def _training_prompts(tokenizer: Any, rows: Iterable[Any]) -> list[Any]:
    from fusechat.stages.train_rows import encode_rows

    out: list[Any] = []
    for one in encode_rows(tokenizer, rows, max_length=1 << 20):
        if isinstance(one, Dropped):
            out.append(one.reason)
            continue
        prompts = {tuple(text.ids[: text.start].tolist()) for text in one.texts}
        out.append(list(prompts.pop()) if len(prompts) == 1 else "two prompts in one row")
    return out


def _demonstration(case: Sequence[Mapping[str, str]]) -> Demonstration:
    return Demonstration(
        prompt_id="doctor", messages=tuple(Message.model_validate(turn) for turn in case),
        response=_ANSWERS[0], response_id="doctor", source="doctor", origin="", domain="doctor",
    )  # fmt: skip


def _pair(case: Sequence[Mapping[str, str]]) -> Pair:
    return Pair(
        prompt_id="doctor", messages=tuple(Message.model_validate(turn) for turn in case),
        chosen=_ANSWERS[0], rejected=_ANSWERS[1], chosen_id="doctor", rejected_id="doctor",
        source="doctor", origin="", domain="doctor",
    )  # fmt: skip


def same_tokens(rendered: Rendered) -> Iterator[Finding]:
    """Whether every stage sees the very same prompt ids."""
    stages = list(rendered)
    for other in stages[1:]:
        for number, (one, two) in enumerate(zip(rendered[stages[0]], rendered[other], strict=True)):
            if list(one) != list(two) and not (isinstance(one, str) and isinstance(two, str)):
                yield Finding(
                    "fault", "stages-differ",
                    f"{stages[0]} and {other} see different tokens for the same prompt "
                    f"({CASES[number][-1]['content'].strip()!r}: {_first_apart(one, two)}).",
                    "Use one tokenizer and one template for the target in all stages; where a "
                    "trained model's folder was changed, train again.",
                )  # fmt: skip
                break


def _first_apart(one: Sequence[int] | str, two: Sequence[int] | str) -> str:
    if isinstance(one, str) or isinstance(two, str):
        return f"refused by one of them: {one if isinstance(one, str) else two}"
    pairs = zip(one, two, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))
    return f"they part at token {at}; {len(one)} and {len(two)} tokens"
