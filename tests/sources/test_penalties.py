"""Presence and frequency penalties: of the answer's own tokens, in process and behind a server."""

from __future__ import annotations

import pytest
import torch
from tests.serving.served import running
from tests.sources.asking import ask, part_of, rows_of
from tests.tiny_models import tiny_model

from fusechat import chat
from fusechat.parts import Where
from fusechat.serving.engine import LocalEngine
from fusechat.sources._drawing import Batch, Warp, streams
from fusechat.sources.endpoint import request_body
from fusechat.sources.hf import Hf, _open_sampler


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    return str(tiny_model(tmp_path_factory.mktemp("model") / "llama", "llama"))


def test_a_token_loses_the_one_penalty_once_and_the_other_each_time() -> None:
    logits, said = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0, 1, 3]])
    warp = Warp(presence_penalty=0.5, frequency_penalty=0.25)
    # 1; 2 - 0.25 - 0.5; 3 - 0.75 - 0.5.
    expected = torch.tensor([[1.0, 1.25, 1.75]]).softmax(-1)
    torch.testing.assert_close(warp.probabilities(logits, None, said), expected)
    assert Warp(0.0, frequency_penalty=0.7).pick(logits, None, torch.zeros(1), said).item() == 1


def test_the_penalty_of_repetition_comes_first() -> None:
    logits, seen = torch.tensor([[2.0, -1.0]]), torch.tensor([[True, True]])
    found = Warp(repetition_penalty=2.0, presence_penalty=0.5).probabilities(
        logits, seen, torch.tensor([[1, 1]])
    )
    # 2 / 2 - 0.5 and -1 * 2 - 0.5.
    torch.testing.assert_close(found, torch.tensor([[0.5, -2.5]]).softmax(-1))


@pytest.mark.parametrize(("presence", "frequency"), [(0.8, 0.6), (-2.0, -1.0)])
def test_batched_answers_are_those_of_one_row_counted_by_hand(
    folder: str, presence: float, frequency: float
) -> None:
    warp = Warp(0.0, presence_penalty=presence, frequency_penalty=frequency)
    sampler = _open_sampler(Hf(model=folder, dtype="float32"), torch.device("cpu"))
    texts = ["Tom has apples", "Tom has apples", "Ann gives five of them to Tom"]
    prompts = [
        chat.render_prompt(sampler.tokenizer, [{"role": "user", "content": text}]) for text in texts
    ]
    with torch.inference_mode():
        batch = Batch(sampler.model, prompts, warp)
        drawn, _ = batch.run(streams([1, 2, 3], 10), [10, 4, 10], [])
        plain, _ = Batch(sampler.model, prompts, Warp(0.0)).run(streams([1] * 3, 10), [10] * 3, [])
        for prompt, found in zip(prompts, drawn.tolist(), strict=True):
            ids: list[int] = []
            while len(ids) < len([token for token in found if token >= 0]):
                logits = sampler.model(input_ids=torch.tensor([prompt + ids])).logits[0, -1].clone()
                for token in set(ids):
                    logits[token] -= presence + frequency * ids.count(token)
                ids.append(int(logits.argmax()))
            assert ids == [token for token in found if token >= 0]
    assert (drawn.tolist()[0] != plain.tolist()[0]) or presence > 0


def test_our_server_draws_with_them_what_the_model_in_this_process_draws(folder: str) -> None:
    settings = {"presence_penalty": 1.5, "frequency_penalty": 0.5, "max_new_tokens": 16}
    rows = rows_of(part_of("http://h/v1"), 2, range(1))
    here = Hf(model=folder, dtype="float32", **settings)
    ours = [row.text for row in ask(here, rows)]  # type: ignore[arg-type]
    engine = LocalEngine(folder, "m", "float32", Where(), 8)
    try:
        with running(engine) as client:
            part = part_of(f"http://127.0.0.1:{client.port}/v1", **settings)
            assert [row.text for row in ask(part, rows)] == ours
    finally:
        engine.close()
    plain = Hf(model=folder, dtype="float32", max_new_tokens=16)
    assert [row.text for row in ask(plain, rows)] != ours  # type: ignore[arg-type]


def test_they_are_sent_and_keyed_only_where_they_are_set() -> None:
    plain, asked = part_of("http://h/v1"), part_of("http://h/v1", presence_penalty=0.1)
    row = rows_of(plain, 1, range(1))[0]
    assert "presence_penalty" not in request_body(plain, row)
    assert request_body(asked, row)["presence_penalty"] == 0.1
    assert "presence_penalty" not in Hf(model="m").key()["settings"]
    assert asked.digest() != plain.digest()
    with pytest.raises(ValueError, match="less than or equal to 2"):
        part_of("http://h/v1", frequency_penalty=3)
