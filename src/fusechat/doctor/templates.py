"""Checks of a chat template with its tokenizer: BOS, end of turn, control tokens, prefix, system.

Every check takes a tokenizer and yields findings without a place. `ours` is the text that all
stages of fusechat tokenise (`chat.template_text`), `raw` what any other tool gets from the
template.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any, Literal

from fusechat import chat
from fusechat.doctor.findings import Finding, shortened

USER = [{"role": "user", "content": "What is 12 - 5?"}]
ANSWER = "7 are left."
TURNS = [*USER, {"role": "assistant", "content": ANSWER}, {"role": "user", "content": "Why?"}]
_MARK = "fusechatmark"
_CONTROL = re.compile(
    r"<\|[^|<>\s]+\|>|<｜[^｜<>\s]+｜>|<(?:start|end)_of_turn>|<(?:bos|eos)>|</?s>"
)
_WORDS = re.compile(r"[^\W\d_]{2,}")

System = Literal["accepted", "merged", "dropped", "refused"]


def bos(tokenizer: Any) -> Iterator[Finding]:
    """A beginning-of-text token that is doubled, missing, or left to the tokenizer alone."""
    known, token = tokenizer.bos_token_id, tokenizer.bos_token
    if known is None:
        return
    ids = chat.render_prompt(tokenizer, TURNS)
    text = chat.template_text(tokenizer, TURNS, generation_prompt=True)
    written, starts = text.count(token), bool(ids) and ids[0] == known
    adds = list(tokenizer("a")["input_ids"][:1]) == [known]
    if ids.count(known) > 1 and starts and not _opens_turns(tokenizer, ids):
        what = f"{token} stands {ids.count(known)} times in a conversation of two questions."
        yield Finding("fault", "bos-doubled", what, "Take it out of the template's loop.")
    elif text.startswith(token + token):
        what = f"the template writes {token} twice at the start; fusechat keeps one."
        yield Finding("warning", "bos-doubled", what, "Take one out of the template.")
    elif written and adds:
        yield Finding(
            "note", "bos-twice-elsewhere",
            f"the template writes {token} and the tokenizer adds another to plain text; fusechat "
            "keeps one, a tool that tokenises rendered text with special tokens has two.",
            "In other tools tokenise rendered text with add_special_tokens=False.",
        )  # fmt: skip
    if not starts:
        yield Finding(
            "warning", "bos-missing",
            f"a prompt does not begin with the tokenizer's BOS {token}: neither the template nor "
            "the tokenizer writes it.",
            "Right for a model that was trained so (see its card); else begin the template with "
            "{{ bos_token }}.",
        )  # fmt: skip
    elif adds and not written:
        yield Finding(
            "warning", "bos-not-in-template",
            f"the tokenizer adds {token}, the template does not write it: fusechat's own stages "
            "have it, servers that render chats without special tokens (vLLM) do not.",
            "Begin the template with {{ bos_token }}.",
        )  # fmt: skip


def _opens_turns(tokenizer: Any, ids: list[int]) -> bool:
    """Whether BOS is the token that opens each turn, as `<|im_start|>` is in some models."""
    known, control = tokenizer.bos_token_id, tokenizer.added_tokens_decoder
    after = [two for one, two in itertools.pairwise(ids) if one == known]
    return len(after) > len(TURNS) and not any(one in control for one in after)


def end_of_turn(tokenizer: Any) -> Iterator[Finding]:
    """The token that ends an answer: missing, spelt in pieces, doubled, or not learnt."""
    encoded = chat.encode_chat(tokenizer, USER, ANSWER)
    end_id, end_text = chat.turn_end_id(tokenizer), chat.answer_end(tokenizer)
    name = tokenizer.convert_ids_to_tokens(end_id)
    response = encoded.ids[encoded.response_start :]
    written = tokenizer(end_text.strip(), add_special_tokens=False)["input_ids"]
    if not end_text.strip():
        yield Finding(
            "warning", "end-missing",
            f"the template writes nothing after an answer; fusechat trains {name} there, a tool "
            "that trains on rendered text never teaches the model to stop.",
            "End assistant turns with {{ eos_token }} in the template.",
        )  # fmt: skip
    elif end_id not in written and not unknown_control(tokenizer, end_text):
        what = f"the template ends an answer with {end_text.strip()!r}, which is ordinary text;"
        yield Finding("warning", "end-missing", f"{what} fusechat trains {name} there.",
                      "End assistant turns with the tokenizer's end-of-turn token.")  # fmt: skip
    ends = {end_id, tokenizer.eos_token_id}
    if len(written) > 1 and written[1] in ends:
        second = tokenizer.convert_ids_to_tokens(written[1])
        yield Finding(
            "warning", "end-doubled",
            f"the template writes {name}{second} after an answer; fusechat trains the first only, "
            "a tool that trains on rendered text trains both.",
            "Take one out of the template.",
        )  # fmt: skip
    if response[-1:] != [end_id] or response.count(end_id) != 1:
        what = f"{name} stands {response.count(end_id)} times in the part that a loss sums."
        yield Finding("fault", "end-not-trained", what, "Tell the makers of fusechat.")


def control_tokens(tokenizer: Any) -> Iterator[Finding]:
    """Control tokens that the template writes and the vocabulary does not have."""
    text = chat.template_text(tokenizer, TURNS, generation_prompt=True)
    missing = unknown_control(tokenizer, text)
    if missing:
        yield Finding(
            "fault", "control-token-unknown",
            f"the template writes {', '.join(missing)}, and the tokenizer reads that as ordinary "
            "characters: it is the template of another model.",
            "Use the model's own chat_template, or add the tokens to the tokenizer and train them.",
        )  # fmt: skip


def unknown_control(tokenizer: Any, text: str) -> list[str]:
    """Spelt control tokens in `text` that are not one token each."""
    spelt = dict.fromkeys(_CONTROL.findall(text))
    return [one for one in spelt if len(tokenizer(one, add_special_tokens=False)["input_ids"]) != 1]


def layout(tokenizer: Any) -> Iterator[Finding]:
    """Line breaks of the template file itself that reach the prompt."""
    text = chat.template_text(tokenizer, USER, generation_prompt=True)
    token = tokenizer.bos_token or ""
    start = text[len(token) :] if token and text.startswith(token) else text
    if start[:1].isspace():
        yield Finding(
            "fault", "template-layout",
            f"a prompt begins with {start[: len(start) - len(start.lstrip())]!r} before its first "
            "turn: the template was indented for reading, and its line breaks are written out.",
            "Use the model's own template; or take the indents and line breaks between its blocks "
            "out, as the publisher of that file says.",
        )  # fmt: skip


def generation_prompt(tokenizer: Any) -> Iterator[Finding]:
    """Whether a prompt with its generation prompt is the beginning of the same with an answer."""
    prompt = chat.template_text(tokenizer, USER, generation_prompt=True)
    plain = chat.template_text(tokenizer, USER)
    whole = chat.template_text(tokenizer, TURNS[:2])
    rest = chat.template_text(tokenizer, TURNS).partition(ANSWER)[0]
    if prompt == plain and not whole[len(plain) :].lstrip().startswith(ANSWER):
        yield Finding(
            "fault", "no-generation-prompt",
            "the template ignores add_generation_prompt, and an answer has a head "
            f"({shortened(whole[len(plain) :].partition(ANSWER)[0], 40)!r}) that a model must then "
            "write itself.",
            "Add `{% if add_generation_prompt %}` with the head of an assistant turn.",
        )  # fmt: skip
    elif not whole.startswith(prompt):
        at = next((i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), 0)
        yield Finding(
            "warning", "prompt-no-prefix",
            f"the template opens a generation prompt with {shortened(prompt[at:], 40)!r} and an "
            f"answer with {shortened(whole[at:], 40)!r}. fusechat trains the answer behind what "
            "sampling sees; a tool that trains on rendered text trains another conversation.",
            "Nothing here; train with fusechat, or mend the template.",
        )  # fmt: skip
    elif not rest.startswith(prompt):
        yield Finding(
            "note", "history-differs",
            "earlier answers are written otherwise in a longer conversation (reasoning models drop "
            "their thoughts there).",
        )  # fmt: skip
    ids = chat.render_prompt(tokenizer, USER)
    joint = chat.render_conversation(tokenizer, TURNS[:2])
    if whole.startswith(prompt) and joint[: len(ids)] != ids:
        yield Finding(
            "note", "prompt-merges",
            "the last characters of a prompt and the first of an answer become one token; fusechat "
            "tokenises the answer by itself there, other tools may not.",
        )  # fmt: skip


def system_role(tokenizer: Any) -> System:
    """What becomes of a system message: its own turn, part of the user's, nothing, an error."""
    turns = [{"role": "system", "content": _MARK}, *USER]
    try:
        text = chat.template_text(tokenizer, turns, generation_prompt=True)
    except chat.ChatTemplateError:
        return "refused"
    if _MARK not in text:
        return "dropped"
    between = text.partition(_MARK)[2].partition(USER[0]["content"])[0]
    return "merged" if not between.strip() else "accepted"


def default_system(tokenizer: Any) -> Iterator[Finding]:
    """Words that the template writes before the first question by itself."""
    said = default_text(tokenizer)
    if len(_WORDS.findall(said)) > 2:
        yield Finding(
            "note", "default-system",
            f"without a system message the template writes its own: {shortened(said)!r}.",
            "Answers are made under it; put a system message into the prompt set for another.",
        )  # fmt: skip


def default_text(tokenizer: Any) -> str:
    """What stands before the first question besides control tokens and the names of roles."""
    text = chat.template_text(tokenizer, [{"role": "user", "content": _MARK}])
    head = text.partition(_MARK)[0]
    for token in {*tokenizer.added_tokens_encoder, *_CONTROL.findall(head)}:
        head = head.replace(token, "\n")
    lines = [line.strip() for line in head.splitlines()]
    roles = ("system", "user", "assistant", "model", "[INST]")
    return " ".join(line for line in lines if line and line not in roles)


def branches(tokenizer: Any) -> Iterator[Finding]:
    """Ways of the template that are not taken here: thinking."""
    template = tokenizer.get_chat_template()
    if "enable_thinking" in template:
        yield Finding(
            "note", "thinking-template",
            "the template knows enable_thinking; fusechat leaves it at its default, at which most "
            "such models think before they answer.",
            "Leave room for thoughts in max_new_tokens; on a server say extra_body: "
            "{chat_template_kwargs: {enable_thinking: false}} to have none.",
        )  # fmt: skip


CHECKS = (control_tokens, layout, bos, end_of_turn, generation_prompt, default_system, branches)
