"""A reward model's score depends on the conversation alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_models import FAMILIES, strip_template, tiny_model, tiny_reward_model

from fusechat import chat
from fusechat.annotators import reward_model
from fusechat.annotators.reward_model import RewardModel
from fusechat.errors import PartError
from fusechat.parts import Where
from fusechat.records import Candidate, Prompt, Request, Response, Score

LONG = "Once upon a time there was a model that wanted to be good. "


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("rewards")
    return {family: tiny_reward_model(root / family, family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, models: dict[str, Path]) -> str:
    return str(models[request.param])


def candidate(asked: str, answered: str, finish: Any = "stop", **fields: Any) -> Candidate:
    prompt = Prompt.of(asked, domain="chat")
    request = Request(prompt=prompt, source="s", index=0, seed=1, model="m", made_from=answered)
    response: Response = request.response(answered, finish, **fields)
    made_from = f"{asked}|{answered}"
    return Candidate(prompt=prompt, response=response, annotator="rm", made_from=made_from)


def scored(part: RewardModel, rows: list[Candidate]) -> dict[str, Score]:
    with part.open(Where()) as work:
        out = [score for batch in part.cut(rows) for score in work(iter(batch))]
    assert len(out) == len(rows)
    return {score.made_from: score for score in out}


def rows() -> list[Candidate]:
    return [candidate("What is 12 - 5?", LONG * n + str(n)) for n in range(4)] + [
        candidate("Why?" * n, "Because.") for n in (1, 9)
    ]


def test_a_score_is_the_stock_classifiers_logit_for_the_conversation_alone(model: str) -> None:
    from transformers import AutoModelForSequenceClassification

    stock = AutoModelForSequenceClassification.from_pretrained(model)
    tokenizer = chat.load_tokenizer(model)
    values = scored(RewardModel(model=model, dtype="float32"), rows())
    for row in rows():
        turns = [*row.prompt.chat(), {"role": "assistant", "content": row.response.text}]
        ids = tokenizer.apply_chat_template(turns, date_string="26 Jul 2024", return_dict=False)
        expected = float(stock(input_ids=torch.tensor([ids])).logits[0, 0].detach())
        assert values[row.made_from].value == pytest.approx(expected, abs=1e-5)


def test_a_score_does_not_depend_on_the_batch(model: str) -> None:
    together = scored(RewardModel(model=model, dtype="float32"), rows())
    alone = scored(RewardModel(model=model, dtype="float32", batch_rows=1), rows())
    for made_from, score in together.items():
        assert score.value == pytest.approx(alone[made_from].value, abs=1e-5)


def test_padding_with_the_end_of_turn_token_does_not_move_the_last_token(tmp_path: Path) -> None:
    folder = tiny_reward_model(tmp_path / "rm", "llama", pad_token_id=1)
    tokenizer = chat.load_tokenizer(folder)
    assert chat.turn_end_id(tokenizer) == 1, "the pad id of this model is its end-of-turn token"
    together = scored(RewardModel(model=str(folder), dtype="float32"), rows())
    alone = scored(RewardModel(model=str(folder), dtype="float32", batch_rows=1), rows())
    assert len({round(score.value or 0, 6) for score in together.values()}) == len(together)
    for made_from, score in together.items():
        assert score.value == pytest.approx(alone[made_from].value, abs=1e-5)


def test_an_encoder_with_a_head_of_its_own_is_scored_too(tmp_path: Path) -> None:
    from tests.tiny_models import tiny_tokenizer
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=400, intermediate_size=16, num_labels=1, **sizes)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tiny_tokenizer("qwen2").save_pretrained(tmp_path)
    together = scored(RewardModel(model=str(tmp_path), dtype="float32"), rows())
    alone = scored(RewardModel(model=str(tmp_path), dtype="float32", batch_rows=1), rows())
    for made_from, score in together.items():
        assert score.value == pytest.approx(alone[made_from].value, abs=1e-5)


def test_cut_failed_and_empty_responses_are_unscorable_with_their_reasons(
    models: dict[str, Path],
) -> None:
    given = [
        candidate("a", "half an answ", "length"),
        candidate("b", "", "error", error="time-out"),
        candidate("c", "  "),
        candidate("d", "fine"),
    ]
    found = scored(RewardModel(model=str(models["llama"])), given)
    reasons = [(found[row.made_from].status, found[row.made_from].reason) for row in given]
    assert reasons == [
        ("unscorable", "cut response"),
        ("unscorable", "failed response"),
        ("unscorable", "empty response"),
        ("ok", ""),
    ]


def test_a_conversation_beyond_the_context_is_unscorable(models: dict[str, Path]) -> None:
    given = [candidate("a", LONG * 20), candidate("b", "short")]
    found = scored(RewardModel(model=str(models["qwen2"])), given)
    assert found[given[0].made_from].reason == "longer than the reward model's context"
    assert found[given[1].made_from].status == "ok"
    strict = scored(RewardModel(model=str(models["qwen2"]), max_length=5), given)
    assert {score.status for score in strict.values()} == {"unscorable"}


def test_a_system_role_that_the_template_refuses_is_an_error_with_the_mend(
    models: dict[str, Path],
) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}]
    row = candidate("a", "b").model_copy(update={"prompt": Prompt.of(turns, domain="chat")})
    found = scored(RewardModel(model=str(models["gemma2"])), [row])[row.made_from]
    assert found.status == "error"
    assert "no system role" in found.reason


def test_a_score_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    folder = tiny_reward_model(tmp_path / "rm", "llama")
    part = RewardModel(model=str(folder), dtype="float32")
    row = candidate("a", "b")
    judge = reward_model._open_judge(part, torch.device("cpu"))
    judge.model.score.weight.fill_(float("nan"))
    (found,) = judge.score([row])
    assert (found.status, found.value) == ("error", None)
    with pytest.raises(PartError, match="nan"):
        judge.check_itself()


def test_a_model_that_looks_at_the_padding_is_refused_in_any_number_format(
    models: dict[str, Path],
) -> None:
    for dtype in ("float32", "bfloat16"):
        part = RewardModel(model=str(models["llama"]), dtype=dtype)
        judge = reward_model._open_judge(part, torch.device("cpu"))
        body = judge.model.base_model.forward

        def leaky(input_ids: Any, attention_mask: Any, body: Any = body) -> Any:
            out = body(input_ids=input_ids, attention_mask=attention_mask)
            mark = (input_ids * (1 - attention_mask)).sum(-1)[:, None, None]
            out.last_hidden_state = out.last_hidden_state + mark.to(out.last_hidden_state.dtype)
            return out

        judge.model.base_model.forward = leaky
        with pytest.raises(PartError, match="not batch-invariant: the content of the padding"):
            judge.check_itself()


def test_a_model_whose_neighbours_matter_is_refused(models: dict[str, Path]) -> None:
    part = RewardModel(model=str(models["llama"]), dtype="float32")
    judge = reward_model._open_judge(part, torch.device("cpu"))
    body = judge.model.base_model.forward

    def leaky(input_ids: Any, attention_mask: Any) -> Any:
        out = body(input_ids=input_ids, attention_mask=attention_mask)
        out.last_hidden_state = out.last_hidden_state * (1 + 0.01 * len(input_ids))
        return out

    judge.model.base_model.forward = leaky
    with pytest.raises(PartError, match="not batch-invariant: a batch changes the score"):
        judge.check_itself()


def test_sixteen_bits_are_measured_and_logged_not_refused(
    models: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=reward_model.__name__):
        scored(RewardModel(model=str(models["llama"]), dtype="bfloat16"), rows()[:1])
    assert "llama: a batch changes its scores by at most" in caplog.text


def test_a_chat_model_is_refused_because_it_has_no_reward_head(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "chat", "llama")
    with pytest.raises(PartError, match="no trained reward head"), _opened(folder):
        pass


def test_a_classifier_of_two_labels_is_refused(tmp_path: Path) -> None:
    folder = tiny_reward_model(tmp_path / "two", "llama", num_labels=2)
    with pytest.raises(PartError, match="has 2 labels; a reward model has one"), _opened(folder):
        pass


def test_faults_of_the_folder_are_seen_before_anything_is_loaded(tmp_path: Path) -> None:
    folder = strip_template(tiny_reward_model(tmp_path / "rm", "llama"))
    (folder / "config.json").unlink()
    messages = [message for _, message in RewardModel(model=str(folder)).faults()]
    assert len(messages) == 2
    assert "no config.json" in messages[0]
    assert "no chat template" in messages[1]


def test_batches_are_a_function_of_the_rows_not_of_their_order(models: dict[str, Path]) -> None:
    part = RewardModel(model=str(models["llama"]), batch_rows=2)
    assert part.cut(rows()) == part.cut(rows()[::-1])
    assert part.cut([]) == []


def _opened(folder: Path) -> Any:
    return RewardModel(model=str(folder), dtype="float32").open(Where())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
