"""Chat templates, real and broken: each finding on a model that has it, and on one not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.doctor.doctor_tokenizers import checks, published
from tests.tiny_models import FAMILIES, Family, tiny_tokenizer

from fusechat import chat
from fusechat.doctor import templates

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>"
    "\n\n' + m.content|trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def test_llama_3s_real_vocabulary_reads_its_template_as_published(llama3: Any) -> None:
    # 128000 BOS, 128006/128007 header, 882 "user", 271 two line breaks, 128009 end of turn
    ids = chat.render_prompt(llama3, [{"role": "user", "content": "Hello world"}])
    assert ids[:5] == [128000, 128006, 882, 128007, 271]
    assert ids[5:8] == [9906, 1917, 128009]
    assert chat.turn_end_id(llama3) == 128009


def test_llama_3_has_no_fault_in_any_check_of_its_template(llama3: Any) -> None:
    found = {name for check in templates.CHECKS for name in checks(check(llama3))}
    assert found == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_no_check_finds_a_fault_in_a_sound_model(family: Family) -> None:
    tokenizer = tiny_tokenizer(family)
    found = {name for check in templates.CHECKS for name in checks(check(tokenizer))}
    assert not {name for name in found if not name.startswith("note:")}


def test_qwens_template_on_llamas_vocabulary_is_seen_as_another_models(
    llama3: Any, shared_data: Path
) -> None:
    before = llama3.chat_template
    try:
        llama3.chat_template = published(shared_data, "qwen2.5-instruct", stripped=False)
        (found,) = templates.control_tokens(llama3)
        assert "<|im_start|>, <|im_end|>" in found.what
        assert "fault:control-token-unknown" in checks([found])
        # the doctor says it once: the end of turn is that same fault, not a second one
        assert checks(templates.end_of_turn(llama3)) == set()
    finally:
        llama3.chat_template = before
    assert checks(templates.control_tokens(llama3)) == set()


@pytest.mark.parametrize(
    ("name", "family"),
    [("llama-3-instruct", "llama"), ("gemma-it", "gemma2"), ("mistral-instruct", "mistral")],
)
def test_a_template_indented_for_reading_is_a_fault_until_it_is_stripped(
    name: str, family: Family, shared_data: Path
) -> None:
    as_file = tiny_tokenizer(family, published(shared_data, name, stripped=False))
    as_meant = tiny_tokenizer(family, published(shared_data, name))
    assert checks(templates.layout(as_file)) == {"fault:template-layout"}
    assert checks(templates.layout(as_meant)) == set()


def test_a_bos_in_every_turn_is_a_fault() -> None:
    broken = LLAMA.replace("{{ bos_token }}{% for m in messages %}{{ ",
                           "{% for m in messages %}{{ bos_token + ")  # fmt: skip
    assert "fault:bos-doubled" in checks(templates.bos(tiny_tokenizer("llama", broken)))
    assert checks(templates.bos(tiny_tokenizer("llama", LLAMA))) == {"note:bos-twice-elsewhere"}


def test_a_bos_written_twice_is_kept_once_and_warned_of() -> None:
    tokenizer = tiny_tokenizer("llama", "{{ bos_token }}" + LLAMA)
    assert checks(templates.bos(tokenizer)) == {"warning:bos-doubled"}
    ids = chat.render_prompt(tokenizer, templates.USER)
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_bos_that_only_the_tokenizer_adds_is_missing_on_servers() -> None:
    tokenizer = tiny_tokenizer("llama", LLAMA.replace("{{ bos_token }}", ""))
    assert checks(templates.bos(tokenizer)) == {"warning:bos-not-in-template"}


def test_a_bos_that_nobody_writes_is_missing() -> None:
    tokenizer = tiny_tokenizer("qwen2", CHATML)
    assert checks(templates.bos(tokenizer)) == set()  # it has none, and needs none
    tokenizer.bos_token = "<|endoftext|>"
    assert checks(templates.bos(tokenizer)) == {"warning:bos-missing"}


def test_a_bos_that_opens_every_turn_is_not_doubled() -> None:
    tokenizer = tiny_tokenizer("qwen2", CHATML)
    tokenizer.bos_token = "<|im_start|>"  # as SmolLM2 has it
    assert checks(templates.bos(tokenizer)) == set()


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("<|im_end|>\\n", set()),
        ("<|im_end|><|endoftext|>", {"warning:end-doubled"}),
        ("<|im_end|><|im_end|>", {"warning:end-doubled"}),
        ("", {"warning:end-missing"}),
        ("\\n### END", {"warning:end-missing"}),
    ],
)
def test_the_end_of_an_answer_is_found_doubled_or_missing(end: str, expected: set[str]) -> None:
    tokenizer = tiny_tokenizer("qwen2", CHATML.replace("<|im_end|>\n", end.replace("\\n", "\n")))
    if "endoftext" in end:
        tokenizer.eos_token = "<|endoftext|>"
    assert checks(templates.end_of_turn(tokenizer)) == expected


def test_a_template_without_generation_prompt_is_a_fault_where_answers_have_a_head() -> None:
    cut = CHATML.partition("{% if add")[0]
    assert checks(templates.generation_prompt(tiny_tokenizer("qwen2", cut))) == {
        "fault:no-generation-prompt"
    }
    assert checks(templates.generation_prompt(tiny_tokenizer("qwen2", CHATML))) == set()
    # Mistral's answers follow [/INST] at once: there is nothing to prompt with
    assert checks(templates.generation_prompt(tiny_tokenizer("mistral"))) == set()


def test_a_generation_prompt_that_opens_thoughts_is_no_prefix_of_an_answer() -> None:
    thinking = CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
    assert checks(templates.generation_prompt(tiny_tokenizer("qwen2", thinking))) == {
        "warning:prompt-no-prefix"
    }


def test_a_template_that_rewrites_earlier_answers_is_noted() -> None:
    forgetful = CHATML.replace(
        "m.content +",
        "(m.content if m.role == 'user' or loop.last else '...') + ('' if loop.last or m.role == "
        "'assistant' or loop.length < 3 else ' (earlier)') +",
    )
    assert checks(templates.generation_prompt(tiny_tokenizer("qwen2", forgetful))) == {
        "note:history-differs"
    }


def test_a_token_across_the_border_of_prompt_and_answer_is_noted() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        ["A:7"] * 50,
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ ('Q:' if m.role == 'user' else 'A:') + m.content + eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
    )
    assert "note:prompt-merges" in checks(templates.generation_prompt(tokenizer))


@pytest.mark.parametrize(
    ("family", "expected"),
    [("llama", "accepted"), ("qwen2", "accepted"), ("gemma2", "refused"), ("mistral", "merged")],
)
def test_what_becomes_of_a_system_message(family: Family, expected: str) -> None:
    assert templates.system_role(tiny_tokenizer(family)) == expected


def test_published_templates_take_a_system_message_as_their_models_do(shared_data: Path) -> None:
    cases: dict[Family, tuple[str, str]] = {
        "llama": ("llama-3-instruct", "accepted"),
        "gemma2": ("gemma-it", "merged"),  # its publisher's addition: Google's own refuses
        "mistral": ("mistral-instruct", "accepted"),  # as plain text before the first turn
    }
    for family, (name, expected) in cases.items():
        tokenizer = tiny_tokenizer(family, published(shared_data, name))
        assert templates.system_role(tokenizer) == expected


def test_a_system_message_that_a_template_swallows_is_dropped() -> None:
    deaf = CHATML.replace("in messages %}", "in messages if m.role != 'system' %}")
    assert templates.system_role(tiny_tokenizer("qwen2", deaf)) == "dropped"


def test_qwens_own_system_prompt_is_noted_with_its_words(shared_data: Path) -> None:
    real = tiny_tokenizer("qwen2", published(shared_data, "qwen2.5-instruct", stripped=False))
    (found,) = templates.default_system(real)
    assert "You are Qwen, created by Alibaba Cloud." in found.what
    assert checks(templates.default_system(tiny_tokenizer("qwen2", CHATML))) == set()
    assert checks(templates.default_system(tiny_tokenizer("gemma2"))) == set()


def test_a_template_that_can_think_is_noted() -> None:
    qwen3 = CHATML.replace(
        "assistant\n' }}{% endif",
        "assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif",
    )
    assert checks(templates.branches(tiny_tokenizer("qwen2", qwen3))) == {"note:thinking-template"}
    assert checks(templates.branches(tiny_tokenizer("qwen2", CHATML))) == set()
