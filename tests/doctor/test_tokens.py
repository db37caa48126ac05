"""Stop tokens, padding, vocabulary, and the same ids in every stage."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.doctor.doctor_tokenizers import checks
from tests.tiny_models import FAMILIES, Family, tiny_config, tiny_tokenizer

from fusechat.doctor import tokens
from fusechat.sources.hf import Hf


def test_an_end_of_turn_that_is_no_stop_token_never_ends_a_servers_answer() -> None:
    tokenizer, config = tiny_tokenizer("gemma2"), tiny_config("gemma2")
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    eos_only = {"eos_token_id": tokenizer.eos_token_id}  # as Llama 3 was first published
    both = {"eos_token_id": [tokenizer.eos_token_id, end]}
    assert checks(tokens.stops(tokenizer, config, eos_only, True)) == {"fault:end-no-stop-token"}
    assert checks(tokens.stops(tokenizer, config, eos_only, False)) == {"warning:end-no-stop-token"}
    assert checks(tokens.stops(tokenizer, config, both, True)) == set()


def test_the_stop_tokens_of_the_config_count_where_there_is_no_generation_config() -> None:
    tokenizer = tiny_tokenizer("gemma2")
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    config = tiny_config("gemma2", eos_token_id=end)
    assert checks(tokens.stops(tokenizer, config, {}, True)) == set()


def test_a_pad_token_that_ends_answers_is_noted_for_the_target_only() -> None:
    tokenizer = tiny_tokenizer("llama")
    assert checks(tokens.padding(tokenizer, True)) == set()  # it has none
    tokenizer.pad_token = "<|eot_id|>"
    assert checks(tokens.padding(tokenizer, True)) == {"note:pad-is-end"}
    assert checks(tokens.padding(tokenizer, False)) == set()


def test_ids_beyond_the_embedding_are_a_fault_only_where_a_conversation_holds_them() -> None:
    tokenizer = tiny_tokenizer("qwen2")
    size = len(tokenizer)
    assert checks(tokens.vocabulary(tokenizer, tiny_config("qwen2", size))) == set()
    assert checks(tokens.vocabulary(tokenizer, tiny_config("qwen2", size - 1))) == {
        "fault:vocabulary-too-large"
    }
    tokenizer.add_special_tokens({"pad_token": "<|added_pad|>"})
    assert checks(tokens.vocabulary(tokenizer, tiny_config("qwen2", size))) == {
        "warning:vocabulary-too-large"
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_sft_dpo_and_evaluation_see_the_same_ids(family: Family) -> None:
    part = Hf(model="target")
    parts = {"sources.own": part, "evaluate target": part}
    found = tokens.stage_prompts(tiny_tokenizer(family), tiny_config(family), parts)
    assert list(found) == ["sources.own", "evaluate target", "train.sft", "train.dpo"]
    assert all(isinstance(ids, list) and len(ids) > 5 for ids in found["train.sft"])
    assert checks(tokens.same_tokens(found)) == set()


def test_llama_3s_real_vocabulary_gives_the_same_ids_in_every_stage(llama3: Any) -> None:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=8192))
    found = tokens.stage_prompts(llama3, config, {"sampling": Hf(model="target")})
    assert checks(tokens.same_tokens(found)) == set()
    # a control token spelt by a user is text: only the template's own end-of-turn tokens are ids
    assert found["sampling"][3].count(128009) == 1


def test_a_template_changed_between_two_stages_is_a_fault_that_says_where_they_part() -> None:
    before = tiny_tokenizer("qwen2")
    after = tiny_tokenizer("qwen2", before.chat_template.replace("helpful", "careful"))
    config, part = tiny_config("qwen2"), Hf(model="target")
    trained = tokens.stage_prompts(before, config, {})
    evaluated = tokens.stage_prompts(after, config, {"evaluate train.sft": part})
    rendered = {**trained, "evaluate train.sft": evaluated["evaluate train.sft"]}
    (found,) = tokens.same_tokens(rendered)
    assert checks([found]) == {"fault:stages-differ"}
    assert "train.sft and evaluate train.sft" in found.what
    assert "they part at token" in found.what
