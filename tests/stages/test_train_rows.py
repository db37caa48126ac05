"""From rows to token ids."""

from __future__ import annotations

import json

import pytest
from training_tiny import demonstrations, make_tokenizer, pairs

from fusechat.chat import render_prompt
from fusechat.records import Demonstration, Dropped, Message, Pair, Triple
from fusechat.stages.train_rows import encode_rows, keep
from fusechat.training.examples import Example

TOKENIZER = make_tokenizer()


def _one(row: Demonstration | Pair, max_length: int = 100) -> Example | Dropped:
    (encoded,) = encode_rows(TOKENIZER, [row], max_length)
    return encoded


def _demonstration(prompt: str, response: str, **fields: float) -> Demonstration:
    (row,) = demonstrations(1)
    return row.model_copy(
        update={"messages": (Message(role="user", content=prompt),), "response": response, **fields}
    )


def test_the_loss_covers_the_response_and_its_end_of_turn_token_and_nothing_else() -> None:
    example = _one(_demonstration("w1 w2", "w3 w4 w5"))
    assert isinstance(example, Example)
    (text,) = example.texts
    response = TOKENIZER.convert_ids_to_tokens(text.ids[text.start :].tolist())
    assert response == ["w3", "w4", "w5", "<|end|>"]
    prompt = render_prompt(TOKENIZER, [{"role": "user", "content": "w1 w2"}])
    assert text.ids[: text.start].tolist() == prompt
    assert (text.length, example.response_tokens) == (4, 4)


def test_a_pair_has_its_chosen_text_first() -> None:
    (row,) = pairs(1)
    example = _one(row)
    assert isinstance(example, Example)
    starts = [TOKENIZER.decode(text.ids[text.start : text.start + 1]) for text in example.texts]
    assert starts == ["w1", "w2"]


@pytest.mark.parametrize(("max_length", "response"), [(9, 3), (8, 2), (7, 1), (6, 0)])
def test_truncation_cuts_the_end_of_a_response_and_drops_a_prompt_without_room(
    max_length: int, response: int
) -> None:
    # <s> <|user|> w1 w2 <|end|> <|assistant|> and w3 w4 <|end|>: the prompt alone takes six.
    row = _demonstration("w1 w2", "w3 w4")
    (encoded,) = encode_rows(TOKENIZER, [row], max_length, "truncate")
    if response == 0:
        assert isinstance(encoded, Dropped)
        assert encoded.reason == "nothing of a response is left within max_length"
        assert json.loads(str(encoded.details))["prompt_tokens"] == 6
    else:
        assert isinstance(encoded, Example)
        whole = _one(row)
        assert isinstance(whole, Example)
        assert encoded.texts[0].ids.tolist() == whole.texts[0].ids[:max_length].tolist()
        assert (encoded.response_tokens, encoded.truncated) == (response, response < 3)


@pytest.mark.parametrize(("max_length", "kept"), [(9, True), (8, False)])
def test_a_row_is_whole_or_dropped_with_its_numbers_and_never_cut(
    max_length: int, kept: bool
) -> None:
    # <s> <|user|> w1 w2 <|end|> <|assistant|> and w3 w4 <|end|>: nine tokens.
    encoded = _one(_demonstration("w1 w2", "w3 w4"), max_length)
    if kept:
        assert isinstance(encoded, Example)
        assert encoded.longest == 9
    else:
        assert isinstance(encoded, Dropped)
        assert (encoded.stage, encoded.reason) == ("length", "longer than max_length")
        assert json.loads(encoded.details or "") == {"tokens": {"response": 9}, "max_length": 8}


def test_a_pair_with_one_side_too_long_is_dropped() -> None:
    (row,) = pairs(1)
    long = row.model_copy(update={"chosen": "w1", "rejected": "w2 " * 50})
    assert isinstance(_one(long, 40), Dropped)


def test_a_pair_whose_responses_are_the_same_tokens_is_dropped_and_counted() -> None:
    (row,) = pairs(1)
    same = row.model_copy(update={"chosen": "w5  w6", "rejected": "w5 w6"})  # as tokens, the same
    dropped = _one(same)
    assert isinstance(dropped, Dropped)
    assert (dropped.stage, dropped.reason) == ("identical", "both responses are the same tokens")
    assert json.loads(str(dropped.details))["sides"] == ["chosen", "rejected"]


def test_a_pair_that_cutting_makes_the_same_is_dropped() -> None:
    (row,) = pairs(1)
    pair = row.model_copy(update={"chosen": "w5 w6 w7", "rejected": "w5 w6 w8"})
    assert isinstance(_one(pair), Example)
    whole = _one(pair)
    assert isinstance(whole, Example)
    start = whole.texts[0].start
    (cut,) = encode_rows(TOKENIZER, [pair], start + 2, "truncate")
    assert isinstance(cut, Dropped)
    assert cut.stage == "identical"


def test_only_a_rejected_response_that_is_also_a_chosen_one_drops_a_triple() -> None:
    (pair,) = pairs(1)
    fields = pair.model_dump(include={"prompt_id", "messages", "rejected_id", "origin", "domain"})
    triple = Triple.model_validate(
        {**fields, "source_chosen": "w5", "target_chosen": "w5", "rejected": "w6",
         "source_chosen_id": "a", "target_chosen_id": "b", "source": "s", "target_source": "t"}
    )  # fmt: skip
    (kept,) = encode_rows(TOKENIZER, [triple], 100)
    assert isinstance(kept, Example)
    (gone,) = encode_rows(TOKENIZER, [triple.model_copy(update={"rejected": "w5"})], 100)
    assert isinstance(gone, Dropped)
    assert json.loads(str(gone.details))["sides"] == ["source_chosen", "target_chosen", "rejected"]


def test_the_weight_of_a_row_comes_along_and_dropped_rows_are_handed_over() -> None:
    dropped: list[Dropped] = []
    rows = [_demonstration("w1", "w2", weight=0.25), _demonstration("w1", "w2 " * 200)]
    (example,) = keep(encode_rows(TOKENIZER, rows, 50), dropped.append)
    assert example.weight == 0.25
    assert len(dropped) == 1


def test_a_row_that_the_targets_template_refuses_is_dropped_and_stops_no_training() -> None:
    """Gemma has no system role: that row goes, with the template's own words; the next stays."""
    from tests.tiny_models import tiny_tokenizer

    def row(*roles: str) -> Demonstration:
        turns = [{"role": role, "content": "hi"} for role in roles]
        return Demonstration.model_validate(
            {"prompt_id": "-".join(roles), "messages": turns, "response": "ho", "response_id": "r",
             "source": "s", "origin": "o", "domain": "d"}
        )  # fmt: skip

    rows = [row("system", "user"), row("user")]
    refused, kept = encode_rows(tiny_tokenizer("gemma2"), rows, max_length=64)
    assert isinstance(refused, Dropped)
    assert refused.reason == "refused by the target's chat template"
    assert "system" in str(refused.details).lower()
    assert isinstance(kept, Example)


@pytest.mark.parametrize(("limit", "kept"), [(None, True), (6, True), (5, False)])
def test_a_prompt_longer_than_its_own_limit_drops_the_row(limit: int | None, kept: bool) -> None:
    """<s> <|user|> w1 w2 <|end|> <|assistant|> are six tokens."""
    row = _demonstration("w1 w2", "w3 w4")
    (encoded,) = encode_rows(TOKENIZER, [row], 100, max_prompt_length=limit)
    assert isinstance(encoded, Example) == kept
    if isinstance(encoded, Dropped):
        assert (encoded.stage, encoded.reason) == ("length", "prompt longer than max_prompt_length")
        assert json.loads(str(encoded.details)) == {"tokens": 6, "max_prompt_length": 5}
