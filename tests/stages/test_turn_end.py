"""Templates that would not teach a model to stop are refused before training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from training_tiny import (
    TEMPLATE,
    context_of,
    demonstrations,
    make_model,
    make_tokenizer,
    save_base,
    save_build,
)

from fusechat.errors import TrainingError
from fusechat.stages.train import train_sft
from fusechat.stages.train_settings import SftSettings
from fusechat.stages.turn_end import refuse_untaught_end, turn_end_fault


def test_a_template_that_ends_turns_with_a_token_is_right() -> None:
    assert turn_end_fault(make_tokenizer(), 66) is None


def test_a_template_that_writes_nothing_after_an_answer_is_ended_by_eos() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|> {{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    assert turn_end_fault(tokenizer, 66) is None


@pytest.mark.parametrize("end", ["<|im_end|>", "w3"])
def test_an_end_of_turn_that_is_not_a_token_of_its_own_is_named_with_its_mend(end: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("<|end|>", end)
    fault = turn_end_fault(tokenizer, 66)
    assert fault is not None
    assert repr(end) in fault
    assert "resize_token_embeddings" in fault


def test_a_template_that_leaves_the_answer_out_is_refused() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("in messages", "in messages[:1]")
    assert "leaves the assistant's last turn out" in (turn_end_fault(tokenizer, 66) or "")


def test_an_end_of_turn_that_the_model_has_no_embedding_for_is_refused() -> None:
    tokenizer = make_tokenizer()
    assert turn_end_fault(tokenizer, 5) is None
    assert "id 4, and the model has embeddings for 4 ids" in (turn_end_fault(tokenizer, 4) or "")


def test_the_models_own_configuration_says_how_many_embeddings_there_are(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    make_model(vocab_size=4, pad_token_id=0, eos_token_id=1).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=f"the chat template of {tmp_path}: .* has id 4"):
        refuse_untaught_end(tokenizer, tmp_path)
    refuse_untaught_end(tokenizer, tmp_path / "no-model")


def test_training_stops_before_it_reads_a_row(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("<|end|>", "<|im_end|>")
    tokenizer.save_pretrained(base)
    build = save_build(tmp_path / "build", demonstrations(8))
    with pytest.raises(
        TrainingError, match=r"ends a turn with '<\|im_end\|>'.*Nothing was trained"
    ):
        train_sft(context_of(tmp_path / "unit", base, build, SftSettings()))
    assert not (tmp_path / "unit").exists()
