"""One BOS, prompt ids as prefix, one end-of-turn token, and text that stays text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import FAMILIES, Family, strip_template, tiny_tokenizer

from fusechat import chat

QUESTION = [{"role": "user", "content": "What is 12 - 5?"}]
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


def test_the_prompt_ids_begin_every_training_example(tokenizer: Any) -> None:
    encoded = chat.encode_chat(tokenizer, QUESTION, "7 are left.")
    assert encoded.ids[: encoded.response_start] == chat.render_prompt(tokenizer, QUESTION)


def test_a_prompt_has_exactly_one_bos_or_none_where_the_family_has_none(
    tokenizer: Any, family: Family
) -> None:
    ids = chat.render_prompt(tokenizer, QUESTION)
    expected = 0 if family == "qwen2" else 1
    assert ids.count(tokenizer.bos_token_id) == expected
    assert ids[0] == tokenizer.bos_token_id or family == "qwen2"


def test_the_response_ends_with_its_end_of_turn_token_and_nothing_after(
    tokenizer: Any, family: Family
) -> None:
    ends = {"llama": "<|eot_id|>", "qwen2": "<|im_end|>", "gemma2": "<end_of_turn>"}
    encoded = chat.encode_chat(tokenizer, QUESTION, "7 are left.")
    response = encoded.ids[encoded.response_start :]
    assert tokenizer.decode(response).strip() == "7 are left." + ends.get(family, "</s>")
    assert response[-1] == chat.turn_end_id(tokenizer)
    assert response.count(response[-1]) == 1


def test_an_example_is_what_the_template_itself_writes_up_to_the_end_of_turn(
    tokenizer: Any,
) -> None:
    encoded = chat.encode_chat(tokenizer, QUESTION, "7 are left.")
    turns = [*QUESTION, {"role": "assistant", "content": "7 are left."}]
    whole = chat.render_conversation(tokenizer, turns)
    assert whole[: len(encoded.ids)] == encoded.ids
    assert tokenizer.decode(whole[len(encoded.ids) :]).strip() == ""


def test_earlier_answers_of_a_conversation_belong_to_the_prompt(tokenizer: Any) -> None:
    talk = [*QUESTION, {"role": "assistant", "content": "7"}, {"role": "user", "content": "Why?"}]
    encoded = chat.encode_chat(tokenizer, talk, "Because.")
    assert "Because" not in tokenizer.decode(encoded.ids[: encoded.response_start])
    assert "Why?" in tokenizer.decode(encoded.ids[: encoded.response_start])
    assert "Because." in tokenizer.decode(encoded.ids[encoded.response_start :])


def test_control_tokens_spelt_in_a_message_stay_text(tokenizer: Any) -> None:
    attack = f"a{tokenizer.eos_token}b{tokenizer.bos_token or ''}" + "".join(
        token.content for token in tokenizer.added_tokens_decoder.values()
    )
    plain = chat.encode_chat(tokenizer, [{"role": "user", "content": "x"}], "y")
    encoded = chat.encode_chat(tokenizer, [{"role": "user", "content": attack}], attack)
    control = set(tokenizer.added_tokens_decoder)
    assert [i for i in encoded.ids if i in control] == [i for i in plain.ids if i in control]
    assert attack in tokenizer.decode(encoded.ids[: encoded.response_start])
    assert attack in tokenizer.decode(encoded.ids[encoded.response_start :])


def test_qwen_gets_its_default_system_prompt_only_where_there_is_none(family: Family) -> None:
    if family != "qwen2":
        pytest.skip("only Qwen-2.5 has a default system prompt")
    tokenizer = TOKENIZERS[family]
    own = [{"role": "system", "content": "Be brief."}, *QUESTION]
    assert "helpful assistant" in tokenizer.decode(chat.render_prompt(tokenizer, QUESTION))
    assert "helpful assistant" not in tokenizer.decode(chat.render_prompt(tokenizer, own))


def test_a_system_role_that_gemma_refuses_is_an_error_with_its_mend() -> None:
    turns = [{"role": "system", "content": "Be brief."}, *QUESTION]
    with pytest.raises(chat.ChatTemplateError, match=r"no system role.*head of the user turn"):
        chat.render_prompt(TOKENIZERS["gemma2"], turns)


def test_roles_that_a_template_refuses_are_an_error_with_its_reason() -> None:
    template = "{{ raise_exception('Roles must alternate') if messages[0].role != 'user' }}"
    tokenizer = tiny_tokenizer("llama", template + "{{ messages[-1].content + eos_token }}")
    with pytest.raises(chat.ChatTemplateError, match="Roles must alternate"):
        chat.render_prompt(tokenizer, [{"role": "assistant", "content": "x"}])


@pytest.mark.parametrize("write", ["date_string", "strftime_now('%d %b %Y')"])
def test_a_template_that_prints_the_date_prints_the_fixed_one(write: str) -> None:
    tokenizer = tiny_tokenizer("llama", "{{ " + write + " + messages[-1].content + eos_token }}")
    assert "26 Jul 2024What" in tokenizer.decode(chat.render_prompt(tokenizer, QUESTION))


def test_an_answer_that_would_merge_with_the_prompt_is_tokenised_by_itself() -> None:
    template = (
        "{% for m in messages %}{{ m.content }}{{ eos_token if m.role == 'assistant' }}{% endfor %}"
    )
    tokenizer = tiny_tokenizer("qwen2", template)
    turns = [{"role": "user", "content": "Th"}]
    prompt = chat.render_prompt(tokenizer, turns)
    assert tokenizer("The")["input_ids"][: len(prompt)] != prompt, "there is a merge"
    encoded = chat.encode_chat(tokenizer, turns, "e")
    assert encoded.ids[: encoded.response_start] == prompt
    assert tokenizer.decode(encoded.ids) == "The<|im_end|>"


def test_a_template_that_opens_answers_otherwise_still_gives_prompt_answer_and_end() -> None:
    template = (
        "{% for m in messages %}{{ m.role + ':' + m.content + eos_token }}{% endfor %}"
        "{{ 'assistant:<think>' if add_generation_prompt }}"
    )
    tokenizer = tiny_tokenizer("qwen2", template)
    encoded = chat.encode_chat(tokenizer, QUESTION, "so it is <|im_end|> 7")
    text = "user:What is 12 - 5?<|im_end|>assistant:<think>so it is <|im_end|> 7<|im_end|>"
    assert tokenizer.decode(encoded.ids) == text
    assert encoded.ids.count(chat.turn_end_id(tokenizer)) == 2


def test_a_template_without_an_end_of_turn_token_ends_with_eos() -> None:
    template = "{% for m in messages %}{{ '### ' + m.role + '\n' + m.content + '\n' }}{% endfor %}"
    tokenizer = tiny_tokenizer("llama", template)
    assert chat.turn_end_id(tokenizer) == tokenizer.eos_token_id


def test_a_folder_without_tokenizer_or_template_is_named_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(chat.ChatTemplateError, match=f"no model folder at {tmp_path}/none"):
        chat.load_tokenizer(tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(chat.ChatTemplateError, match=r"empty has no tokenizer.*save_pretrained"):
        chat.load_tokenizer(empty)
    TOKENIZERS["llama"].save_pretrained(tmp_path / "base")
    assert chat.tokenizer_fault(tmp_path / "base") is None
    with pytest.raises(chat.ChatTemplateError, match=r"base has no chat template.*instruct model"):
        chat.load_tokenizer(strip_template(tmp_path / "base"))


def test_only_gemma_lacks_a_system_role(tmp_path: Path, family: Family) -> None:
    TOKENIZERS[family].save_pretrained(tmp_path)
    fault = chat.system_role_fault(tmp_path)
    assert (fault is not None) == (family == "gemma2")


def test_a_template_that_drops_the_system_text_counts_as_having_no_system_role(
    tmp_path: Path,
) -> None:
    tiny_tokenizer("qwen2", "{{ messages[-1].content + eos_token }}").save_pretrained(tmp_path)
    assert "no system role" in str(chat.system_role_fault(tmp_path))


def test_the_template_digest_changes_with_the_template_and_only_then() -> None:
    one, other = tiny_tokenizer("llama"), tiny_tokenizer("llama", "{{ messages[0].content }}")
    assert chat.template_digest(one) == chat.template_digest(TOKENIZERS["llama"])
    assert chat.template_digest(one) != chat.template_digest(other)


@settings(max_examples=40, deadline=None)
@given(
    prompt=st.text(min_size=1, max_size=30), answer=st.text(max_size=30), which=st.integers(0, 3)
)
def test_any_text_keeps_the_prefix_and_has_one_end_of_turn(
    prompt: str, answer: str, which: int
) -> None:
    tokenizer = TOKENIZERS[FAMILIES[which]]
    turns = [{"role": "user", "content": prompt}]
    encoded = chat.encode_chat(tokenizer, turns, answer)
    assert encoded.ids[: encoded.response_start] == chat.render_prompt(tokenizer, turns)
    end = chat.turn_end_id(tokenizer)
    assert encoded.ids[encoded.response_start :].index(end) == (
        len(encoded.ids) - encoded.response_start - 1
    )
