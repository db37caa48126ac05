"""Messages to token ids: the only place where a chat template is applied.

Sampling, training and scoring all come through here, so that they see the same ids. Three
rules hold for every tokenizer:

- *One BOS.* A rendered conversation is tokenised without adding special tokens again; the ids
  start with exactly one BOS where the template writes one or the tokenizer adds one to plain
  text, and with none elsewhere (Qwen).
- *Prompt ids are a prefix.* The ids of a training example begin with the very ids that sampling
  fed to the model. The response is tokenised together with the prompt where that leaves the
  prompt's ids untouched, and by itself where a merge would cross the border.
- *Text is text.* A control token spelt inside a message (`<|im_end|>` in a user's question) is
  encoded as ordinary characters, so that no message can open or close a turn.

Templates that print today's date get the fixed day `DATE`: the same prompt is the same ids on
every day.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.digests import digest
from fusechat.errors import FusechatError, MissingExtraError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DATE = datetime(2024, 7, 26)
"""The day that templates see; Llama-3.1's own default, `26 Jul 2024`."""
_PROBE = "fusechatprobe"
_GOES_ON = "\ue002fusechatgoeson\ue002"
"""Marks where a begun answer goes on."""
_HELD = re.compile("\ue000([0-9]+)\ue001")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")

Messages = Sequence[Mapping[str, str]]


class ChatTemplateError(FusechatError):
    """A template refuses a conversation, or a model has no template or tokenizer.

    Mended in the prompt set (a system role that the model does not know) or in the model folder.
    """


@dataclass(frozen=True)
class Encoded:
    """A conversation with its answer, as ids.

    `ids[:response_start]` equals `render_prompt`'s ids; `ids[response_start:]` is the response
    and its end-of-turn token, and nothing after that.
    """

    ids: list[int]
    response_start: int


@dataclass(frozen=True)
class _Traits:
    """What is found out once per tokenizer and template."""

    template: str
    end_text: str
    """What the template writes after a final answer, such as `<|im_end|>` and a line break."""
    end_id: int
    adds_bos: bool
    control: re.Pattern[str] | None
    """Matches the tokenizer's control tokens."""


_TRAITS: weakref.WeakKeyDictionary[Any, _Traits] = weakref.WeakKeyDictionary()


def tokenizer_fault(folder: str | Path) -> str | None:
    """What a model folder lacks for chatting, with the mend; None where nothing is missing.

    Looks at file names and `tokenizer_config.json` only, so that a recipe can be checked
    without loading anything.
    """
    path = Path(folder)
    if not path.is_dir():
        return f"there is no model folder at {path}. Give a folder that exists."
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        return (
            f"the model folder {path} has no tokenizer (no {' or '.join(_TOKENIZER_FILES[:2])}). "
            f"Put it there: AutoTokenizer.from_pretrained(BASE).save_pretrained('{path}')."
        )
    config = path / "tokenizer_config.json"
    in_config = config.is_file() and '"chat_template"' in config.read_text("utf-8")
    if not in_config and not any((path / name).is_file() for name in _TEMPLATE_FILES):
        return (
            f"the tokenizer in {path} has no chat template. A base model has none: name the "
            f"instruct model, or put its template there as {path / 'chat_template.jinja'}."
        )
    return None


def load_tokenizer(model: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder (or of a hub name in the local cache), ready to chat.

    Raises `ChatTemplateError` naming the folder where the tokenizer or its chat template is
    missing, and `MissingExtraError` without transformers.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("a local model", "transformers", "local") from error
    if Path(model).is_absolute() and (fault := tokenizer_fault(model)):
        raise ChatTemplateError(fault)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model))
    except (OSError, ValueError, KeyError) as error:
        raise ChatTemplateError(
            f"the tokenizer of {model} cannot be loaded: {error}. Give a folder with its files."
        ) from error
    if not tokenizer.chat_template:
        raise ChatTemplateError(
            f"the tokenizer of {model} has no chat template. Name the instruct model, or put "
            "its template beside the tokenizer as chat_template.jinja."
        )
    return tokenizer


def is_begun(messages: Messages) -> bool:
    """Whether the last message is the assistant's: the beginning of the answer, a prefill."""
    return bool(messages) and messages[-1]["role"] == "assistant"


def answered(messages: Messages, response: str) -> list[dict[str, str]]:
    """The conversation with its answer, which goes on from the answer's beginning if it has one."""
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
    if not is_begun(turns):
        return [*turns, {"role": "assistant", "content": response}]
    return [*turns[:-1], {"role": "assistant", "content": turns[-1]["content"] + response}]


def render_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, *, new_answer: bool = False
) -> list[int]:
    """Ids of a conversation up to where the model writes.

    That is where its answer begins, or, where the last message is the assistant's, the end of that
    beginning, as it is written: a template that trims its messages takes nothing from it (where
    transformers' `continue_final_message` leaves white space at the end out, too). With
    `new_answer` another answer is begun behind the assistant's message. Raises
    `ChatTemplateError` where the template refuses the messages.
    """
    held: list[str] = []
    if new_answer:
        text = _render(tokenizer, messages, held, generation_prompt=True)
    else:
        text = _prompt_text(tokenizer, messages, held)
    return _one_bos(tokenizer, _encode(tokenizer, text, held))


def render_conversation(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """Ids of a whole conversation, exactly as the template writes it: what reward models read.

    Raises `ChatTemplateError` where the template refuses the messages.
    """
    held: list[str] = []
    text = _render(tokenizer, messages, held, generation_prompt=False)
    return _one_bos(tokenizer, _encode(tokenizer, text, held))


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Messages, response: str) -> Encoded:
    """Ids of a conversation and its answer; see `Encoded` for where the answer begins and ends.

    What the template writes between the generation prompt and the answer (Mistral's space)
    belongs to the response; what it writes after the end-of-turn token (the line break of Qwen
    and Gemma) is left out. Raises `ChatTemplateError` where the template refuses the messages.
    """
    held: list[str] = []
    prompt = _prompt_text(tokenizer, messages, held)
    turns = answered(messages, response)
    whole_held: list[str] = []
    whole = _render(tokenizer, turns, whole_held, generation_prompt=False)
    traits = _traits(tokenizer)
    if whole.startswith(prompt) and whole.endswith(traits.end_text):
        body = whole[len(prompt) : len(whole) - len(traits.end_text)]
    else:  # the template opens a generation prompt otherwise than an answer (reasoning models)
        body = _hold(traits.control, response, whole_held := list(held))
    prompt_ids = _one_bos(tokenizer, _encode(tokenizer, prompt, held))
    start = len(prompt_ids)
    joint = _one_bos(tokenizer, _encode(tokenizer, prompt + body, whole_held))
    fits = joint[:start] == prompt_ids
    body_ids = joint[start:] if fits else _encode(tokenizer, body, whole_held)
    return Encoded([*prompt_ids, *body_ids, traits.end_id], start)


def template_text(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, generation_prompt: bool = False
) -> str:
    """The text that every stage tokenises for these messages: the template's, on the day `DATE`.

    Raises `ChatTemplateError` where the template refuses the messages.
    """
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
    return _apply(tokenizer, turns, generation_prompt)


def answer_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes after a final answer; empty where it writes nothing."""
    return _traits(tokenizer).end_text


def turn_end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token that ends an answer: the first the template writes after it, else EOS."""
    return _traits(tokenizer).end_id


def system_role_fault(model: str | Path) -> str | None:
    """Why a model's template cannot take a system message, with the mend; None where it can."""
    return _system_role_fault(load_tokenizer(model), str(model))


def template_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of all that decides how messages become text: template, control tokens, date."""
    return digest(
        [
            tokenizer.get_chat_template(),
            {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
            DATE.date().isoformat(),
        ]
    )


def _system_role_fault(tokenizer: PreTrainedTokenizerBase, model: str) -> str | None:
    turns = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "a"}]
    try:
        if _PROBE in _render(tokenizer, turns, [], generation_prompt=True):
            return None
    except ChatTemplateError:
        pass
    return (
        f"the chat template of {model} has no system role. Put the system text at the head of "
        "the user turn, or leave it out of the prompt set."
    )


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, held: list[str], generation_prompt: bool
) -> str:
    """The template's text; control tokens spelt in messages go to `held`, marks in their place."""
    pattern = _control_pattern(tokenizer)
    turns = [
        {"role": turn["role"], "content": _hold(pattern, turn["content"], held)}
        for turn in messages
    ]
    return _apply(tokenizer, turns, generation_prompt)


def _prompt_text(tokenizer: PreTrainedTokenizerBase, messages: Messages, held: list[str]) -> str:
    """The text up to where the model writes: for an answer that is begun, what stands before a mark
    that is put behind its beginning."""
    if not is_begun(messages):
        return _render(tokenizer, messages, held, generation_prompt=True)
    turns = answered(messages, _GOES_ON)
    text = _render(tokenizer, turns, held, generation_prompt=False)
    before, found, _ = text.rpartition(_GOES_ON)
    if not found:
        raise ChatTemplateError(
            f"the chat template of {tokenizer.name_or_path} leaves out the beginning of an answer; "
            "no answer can be begun for this model."
        )
    return before


def _apply(
    tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], generation_prompt: bool
) -> str:
    from jinja2.exceptions import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            turns,
            chat_template=_fixed_day(tokenizer.get_chat_template()),
            tokenize=False,
            add_generation_prompt=generation_prompt,
            date_string=DATE.strftime("%d %b %Y"),
        )
    except (TemplateError, TypeError) as error:
        name = tokenizer.name_or_path
        has_system = any(turn["role"] == "system" for turn in turns)
        plain = _PROBE not in "".join(turn["content"] for turn in turns)
        mend = _system_role_fault(tokenizer, name) if has_system and plain else None
        raise ChatTemplateError(
            mend or f"the chat template of {name} refuses this conversation: {error}."
        ) from error
    return str(text)


@lru_cache(maxsize=64)
def _fixed_day(template: str) -> str:
    """The template, its clock (`strftime_now`) replaced by a macro that knows only `DATE`."""
    if "strftime_now" not in template:
        return template
    parts = "".join(f"|replace('%{c}', '{DATE.strftime('%' + c)}')" for c in "aAbBdHIjmMpSyY")
    return "{%- macro strftime_now(form) -%}{{ form" + parts + " }}{%- endmacro -%}" + template


def _hold(pattern: re.Pattern[str] | None, text: str, held: list[str]) -> str:
    """`text` with each control token replaced by a mark; the token itself is added to `held`."""
    if pattern is None or not (pattern.search(text) or _HELD.search(text)):
        return text

    def mark(match: re.Match[str]) -> str:
        held.append(match.group())
        return f"\ue000{len(held) - 1}\ue001"

    return re.compile(f"{_HELD.pattern}|{pattern.pattern}").sub(mark, text)


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, held: Sequence[str]) -> list[int]:
    """Ids of a rendered text, what was held encoded as ordinary characters."""
    if not held:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    ids: list[int] = []
    for number, piece in enumerate(re.split(_HELD, text)):
        spelt = held[int(piece)] if number % 2 else piece
        ids += tokenizer(spelt, add_special_tokens=False, split_special_tokens=bool(number % 2))[
            "input_ids"
        ]
    return ids


def _one_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    bos = tokenizer.bos_token_id
    while bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    missing = _traits(tokenizer).adds_bos and ids[:1] != [bos]
    return [bos, *ids] if missing else ids


def _control_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    return _traits(tokenizer).control


def _traits(tokenizer: PreTrainedTokenizerBase) -> _Traits:
    known = _TRAITS.get(tokenizer)
    template = tokenizer.get_chat_template()
    if known is None or known.template != template:
        known = _TRAITS[tokenizer] = _find_traits(tokenizer, template)
    return known


def _find_traits(tokenizer: PreTrainedTokenizerBase, template: str) -> _Traits:
    control = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _PROBE}]
    end_text = _apply(tokenizer, turns, generation_prompt=False).rpartition(_PROBE)[2]
    end_ids = tokenizer(end_text.lstrip(), add_special_tokens=False)["input_ids"]
    written = end_ids[0] if end_ids and end_ids[0] in tokenizer.added_tokens_decoder else None
    end_id = tokenizer.eos_token_id if written is None else written
    if end_id is None:
        raise ChatTemplateError(
            f"the template of {tokenizer.name_or_path} ends an answer with no control token, and "
            "its tokenizer has no EOS token. Set eos_token in its tokenizer_config.json."
        )
    bos = tokenizer.bos_token_id
    return _Traits(
        template=template,
        end_text=end_text,
        end_id=end_id,
        adds_bos=bos is not None and list(tokenizer("a")["input_ids"][:1]) == [bos],
        control=_alternatives(tuple(sorted(control, key=lambda token: (-len(token), token)))),
    )


@lru_cache(maxsize=64)
def _alternatives(tokens: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, tokens))) if tokens else None
