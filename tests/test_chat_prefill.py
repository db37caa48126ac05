"""An answer that is begun goes on exactly where its beginning ends, in every template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import FAMILIES, Family, tiny_tokenizer

from fusechat import chat

ASKED = {"role": "user", "content": "Write add."}
BEGUN = "Here it is:\n```python\n"
PREFILLED = [ASKED, {"role": "assistant", "content": BEGUN}]
REAL = {
    "llama": "llama-3-instruct.jinja",
    "qwen2": "qwen2.5-instruct.jinja",
    "gemma2": "gemma-it.jinja",
    "mistral": "mistral-instruct.jinja",
}
TOKENIZERS: dict[Family, Any] = {family: tiny_tokenizer(family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture(params=["own", "published"])
def tokenizer(request: pytest.FixtureRequest, family: Family) -> Any:
    if request.param == "own":
        return TOKENIZERS[family]
    folder: Path = request.getfixturevalue("shared_data")
    template = (folder / "chat_templates" / REAL[family]).read_text()
    if family != "qwen2":  # indented for reading; their publisher strips this before use
        template = template.replace("    ", "").replace("\n", "")
    return tiny_tokenizer(family, template)


def test_the_ids_end_with_the_beginning_as_it_is_written_line_break_included(
    tokenizer: Any,
) -> None:
    text = tokenizer.decode(chat.render_prompt(tokenizer, PREFILLED))
    assert text.endswith(BEGUN)


def test_a_begun_answer_is_the_plain_prompt_with_the_beginning_behind_it(
    tokenizer: Any, family: Family
) -> None:
    plain = tokenizer.decode(chat.render_prompt(tokenizer, [ASKED]))
    between = " " if family == "mistral" else ""  # its template writes one before an answer
    assert tokenizer.decode(chat.render_prompt(tokenizer, PREFILLED)) == plain + between + BEGUN


def test_a_begun_answer_has_one_bos_or_none_where_the_family_has_none(
    tokenizer: Any, family: Family
) -> None:
    ids = chat.render_prompt(tokenizer, PREFILLED)
    assert ids.count(tokenizer.bos_token_id) == (0 if family == "qwen2" else 1)


def test_the_prompt_ids_of_a_begun_answer_begin_its_training_example(tokenizer: Any) -> None:
    encoded = chat.encode_chat(tokenizer, PREFILLED, "def add(a, b):\n    return a + b\n```")
    assert encoded.ids[: encoded.response_start] == chat.render_prompt(tokenizer, PREFILLED)
    rest = tokenizer.decode(encoded.ids[encoded.response_start : -1])
    assert rest == "def add(a, b):\n    return a + b\n```"
    assert encoded.ids[-1] == chat.turn_end_id(tokenizer)


def test_a_beginning_with_a_control_token_in_it_stays_text() -> None:
    tokenizer = TOKENIZERS["qwen2"]
    spelt = [ASKED, {"role": "assistant", "content": "say <|im_end|>"}]
    ids = chat.render_prompt(tokenizer, spelt)
    ends = ids.count(chat.turn_end_id(tokenizer))
    assert ends == chat.render_prompt(tokenizer, PREFILLED).count(chat.turn_end_id(tokenizer))
    assert tokenizer.decode(ids).endswith("say <|im_end|>")


def test_another_answer_behind_the_assistants_message_is_another_turn() -> None:
    tokenizer = TOKENIZERS["qwen2"]
    text = tokenizer.decode(chat.render_prompt(tokenizer, PREFILLED, new_answer=True))
    assert text.endswith("<|im_start|>assistant\n")
    assert text.count("<|im_start|>assistant\n") == 2


def test_a_template_that_leaves_the_beginning_out_is_refused() -> None:
    tokenizer = tiny_tokenizer("qwen2", "{% for m in messages if m.role == 'user' %}{{ m.content }}"
                               "{% endfor %}<|im_end|>")  # fmt: skip
    with pytest.raises(chat.ChatTemplateError, match="no answer can be begun"):
        chat.render_prompt(tokenizer, PREFILLED)


def test_a_conversation_with_its_answer_has_one_last_turn() -> None:
    assert chat.answered(PREFILLED, "x = 1") == [
        ASKED,
        {"role": "assistant", "content": BEGUN + "x = 1"},
    ]
    assert chat.answered([ASKED], "x = 1") == [ASKED, {"role": "assistant", "content": "x = 1"}]


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Co")), max_size=20))
def test_any_beginning_is_kept_but_for_white_space_at_its_head(begun: str) -> None:
    tokenizer = TOKENIZERS["llama"]
    turns = [ASKED, {"role": "assistant", "content": f"{begun}x \n"}]
    text = tokenizer.decode(chat.render_prompt(tokenizer, turns))
    assert text.endswith(f"{begun}x \n".lstrip())
