"""What `hf` draws depends on the request and the model, and on nothing beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.tiny_models import FAMILIES, strip_template, tiny_model

from fusechat import chat, local_models
from fusechat.errors import PartError
from fusechat.parts import Where
from fusechat.records import Prompt, Request, Response
from fusechat.sources import hf
from fusechat.sources._drawing import Batch, Warp, streams
from fusechat.sources.hf import Hf

WORDS = (
    "Tom",
    "has",
    "apples",
    "and",
    "gives",
    "five",
    "of",
    "them",
    "to",
    "Ann",
    "so",
    "how",
    "many",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    window = {"gemma2": {"sliding_window": 16}, "mistral": {"sliding_window": 16}}
    return {
        family: tiny_model(root / family, family, **window.get(family, {})) for family in FAMILIES
    }


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, models: dict[str, Path]) -> str:
    return str(models[request.param])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def part(model: str | Path, **changes: Any) -> Hf:
    return Hf(model=str(model), **{"dtype": "float32", "max_new_tokens": 12, **changes})


def request(prompt: Prompt | str, index: int = 0) -> Request:
    asked = Prompt.of(prompt, domain="chat") if isinstance(prompt, str) else prompt
    seed = int(asked.id, 16) // 4 + index
    made_from = f"{asked.id}-{index}"
    return Request(prompt=asked, source="s", index=index, seed=seed, model="m", made_from=made_from)


def requests(prompts: int, samples: int) -> list[Request]:
    return [
        request(" ".join(WORDS[: 3 + 4 * number]) + "?", index)
        for number in range(prompts)
        for index in range(samples)
    ]


def answered(source: Hf, rows: list[Request]) -> dict[str, Response]:
    with source.open(Where()) as work:
        out = [response for batch in source.cut(rows) for response in work(iter(batch))]
    assert len(out) == len(rows)
    return {response.made_from: response for response in out}


def test_a_request_alone_gives_the_text_that_it_gives_in_a_batch(model: str) -> None:
    rows = requests(4, 3)
    together = answered(part(model, max_new_tokens=20), rows)
    alone = answered(part(model, max_new_tokens=20, batch_rows=1), rows)
    for made_from, response in together.items():
        assert response.text == alone[made_from].text
        assert response.finish == alone[made_from].finish
        assert response.logprob == pytest.approx(alone[made_from].logprob, abs=1e-3)
    assert len({response.text for response in together.values()}) > 6, "samples differ"


def test_greedy_answers_are_those_of_transformers_generate(model: str) -> None:
    from transformers import AutoModelForCausalLM

    stock = AutoModelForCausalLM.from_pretrained(model)
    tokenizer = chat.load_tokenizer(model)
    ends = [chat.turn_end_id(tokenizer), tokenizer.eos_token_id]
    rows = requests(3, 1)
    found = answered(part(model, temperature=0, repetition_penalty=1.3), rows)
    for row in rows:
        ids = torch.tensor([chat.render_prompt(tokenizer, row.prompt.chat())])
        out = stock.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            repetition_penalty=1.3,
            max_new_tokens=12,
            eos_token_id=ends,
            pad_token_id=0,
        )[0, ids.shape[1] :].tolist()
        expected = tokenizer.decode(out, skip_special_tokens=True).strip()
        assert found[row.made_from].text == expected
        assert found[row.made_from].tokens == len(out)
        assert found[row.made_from].finish == ("stop" if out[-1] in ends else "length")


def test_the_logprob_is_the_models_own_whatever_the_sampling_settings(model: str) -> None:
    rows = requests(2, 2)
    source = part(model, temperature=0.5, top_k=7, top_p=0.9)
    sampler = hf._open_sampler(source, torch.device("cpu"))
    prompts = [chat.render_prompt(sampler.tokenizer, row.prompt.chat()) for row in rows]
    with torch.inference_mode():
        batch = Batch(sampler.model, prompts, Warp(0.5, 0.9, 7))
        drawn, sums = batch.run(streams([row.seed for row in rows], 12), [12] * 4, sampler.ends)
        for prompt, tokens, total in zip(prompts, drawn.tolist(), sums.tolist(), strict=True):
            ids = [token for token in tokens if token >= 0]
            logits = sampler.model(input_ids=torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
            expected = sum(float(logits[len(prompt) - 1 + at, ids[at]]) for at in range(len(ids)))
            assert total == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "penalty"),
    [
        (0.8, None, 0.95, 1.0),
        (0.7, 20, 0.8, 1.05),
        (1.0, None, 1.0, 1.0),
        (1.5, 5, 1.0, 1.3),
        (1.0, 1000, 0.999, 0.7),
        (3.0, None, 0.99, 1.0),
    ],
)
def test_the_distribution_is_that_of_transformers_logits_processors(
    temperature: float, top_k: int | None, top_p: float, penalty: float
) -> None:
    from transformers.generation import logits_process as stock

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 900, generator=generator) * 4
    context = torch.randint(0, 900, (50, 30), generator=generator)
    expected = stock.RepetitionPenaltyLogitsProcessor(penalty)(context, logits)
    expected = stock.TemperatureLogitsWarper(temperature)(context, expected)
    if top_k is not None:
        expected = stock.TopKLogitsWarper(top_k)(context, expected)
    if top_p < 1:
        expected = stock.TopPLogitsWarper(top_p)(context, expected)
    seen = torch.zeros(50, 900, dtype=torch.bool).scatter_(1, context, value=True)
    odds = Warp(temperature, top_p, top_k, penalty).probabilities(logits, seen)
    ours = odds / odds.sum(-1, keepdim=True)
    torch.testing.assert_close(ours, expected.softmax(-1), atol=1e-6, rtol=1e-4)


def test_a_uniform_number_picks_the_token_whose_share_of_the_distribution_it_falls_into() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.0, 0.5]]).log().repeat(6, 1)
    uniform = torch.tensor([0.0, 0.09, 0.11, 0.49, 0.51, 1 - 2**-53], dtype=torch.float64)
    assert Warp().pick(logits, None, uniform).tolist() == [0, 0, 1, 1, 3, 3]
    # The nucleus of 0.85 is {1, 3} with shares 4/9 and 5/9.
    nucleus = Warp(top_p=0.85).pick(logits, None, uniform)
    assert nucleus.tolist() == [1, 1, 1, 3, 3, 3]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-20, 20, width=16), min_size=2, max_size=200),
    uniform=st.floats(0, 1, exclude_max=True),
    top_p=st.floats(0.01, 1),
    top_k=st.none() | st.integers(1, 10),
)
def test_a_pick_is_never_a_dropped_token_and_ignores_the_other_rows(
    values: list[float], uniform: float, top_p: float, top_k: int | None
) -> None:
    logits = torch.tensor([values, values[::-1]])
    draw = torch.tensor([uniform, 0.5], dtype=torch.float64)
    warp = Warp(0.8, top_p, top_k)
    both = warp.pick(logits, None, draw)
    assert warp.probabilities(logits, None)[0, both[0]] > 0
    assert int(warp.pick(logits[:1], None, draw[:1])[0]) == int(both[0])


def test_a_rows_stream_is_its_seeds_alone_and_a_longer_one_begins_with_the_shorter() -> None:
    both = streams([3, 2**63 - 1], 5)
    np.testing.assert_array_equal(both[1], streams([2**63 - 1], 9)[0, :5])
    assert both[0].tolist() != both[1].tolist()


def test_an_answer_at_the_token_limit_is_cut_and_one_that_ends_is_whole(model: str) -> None:
    found = answered(part(model, max_new_tokens=6, temperature=50, top_p=1.0), requests(4, 40))
    assert {response.finish for response in found.values()} == {"stop", "length"}
    for response in found.values():
        assert response.tokens is not None
        assert (response.tokens == 6) or response.finish == "stop"


def test_a_stop_token_is_counted_but_not_in_the_text(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", "qwen2")
    sampler = hf._open_sampler(part(folder), torch.device("cpu"))
    ids = [*sampler.tokenizer(" seven ")["input_ids"], chat.turn_end_id(sampler.tokenizer)]
    response = sampler._response(request("a"), ids, -1.0)
    assert (response.text, response.finish, response.tokens) == ("seven", "stop", len(ids))
    empty = sampler._response(request("a"), ids[-1:], -1.0)
    assert (empty.text, empty.finish, empty.tokens, empty.whole) == ("", "stop", 1, False)


def test_every_eos_of_the_generation_config_ends_an_answer(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    folder = tiny_model(tmp_path / "m", "gemma2")
    GenerationConfig(eos_token_id=[7, 9]).save_pretrained(folder)
    sampler = hf._open_sampler(part(folder), torch.device("cpu"))
    assert {7, 9, chat.turn_end_id(sampler.tokenizer)} <= set(sampler.ends)


def test_an_answer_goes_on_to_the_end_of_the_context_and_no_further(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", "qwen2", max_position_embeddings=64)
    tokenizer = chat.load_tokenizer(folder)
    prompt = Prompt.of("Why?", domain="chat")
    room = 64 - len(chat.render_prompt(tokenizer, prompt.chat()))
    source = part(folder, max_new_tokens=500)
    found = answered(source, [request(prompt, index) for index in range(4)])
    assert {r.tokens for r in found.values() if r.finish == "length"} <= {room}
    assert all(r.tokens is not None and r.tokens <= room for r in found.values())


def test_a_prompt_beyond_the_context_is_a_failure_that_says_both_lengths(
    models: dict[str, Path],
) -> None:
    rows = [request("x" * 900), request("Why?")]
    found = answered(part(models["llama"]), rows)
    failed = found[rows[0].made_from]
    assert failed.finish == "error"
    assert "tokens; the context of llama is 256" in str(failed.error)
    assert found[rows[1].made_from].finish in ("stop", "length")


def test_a_system_role_that_the_template_refuses_fails_only_its_own_rows(
    models: dict[str, Path],
) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    rows = [request(Prompt.of(turns, domain="chat")), request("Why?")]
    found = answered(part(models["gemma2"]), rows)
    assert "has no system role. Put the system text" in str(found[rows[0].made_from].error)
    assert found[rows[1].made_from].error is None


def test_batches_are_a_function_of_the_rows_and_keep_a_prompts_samples_together() -> None:
    source = part("/nowhere", batch_rows=6)
    rows = requests(4, 3)
    assert source.cut(rows) == source.cut(rows[::-1])
    assert [len({row.prompt.id for row in batch}) for batch in source.cut(rows)] == [2, 2]
    assert source.cut([]) == []


def test_bfloat16_works_and_repeats_itself(models: dict[str, Path]) -> None:
    source = part(models["mistral"], dtype="bfloat16")
    rows = requests(2, 2)
    assert answered(source, rows) == answered(source, rows)


def test_dtype_auto_becomes_what_this_machine_computes_in_and_enters_the_key() -> None:
    source = Hf(model="a/b")
    assert source.dtype == local_models.fast_dtype()
    assert source.key()["settings"]["dtype"] == source.dtype
    assert Hf(model="a/b", dtype="float32").digest() != Hf(model="a/b", dtype="bfloat16").digest()


def test_the_batch_size_is_in_no_key_and_the_folders_name_is_not_either(
    models: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    moved = shutil.copytree(models["llama"], tmp_path / "elsewhere")
    assert part(moved, batch_rows=7).digest() == part(models["llama"]).digest()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("google/gemma-2-27b-it", "google/gemma-2-27b-it"),
        ("/models/mini-gemma", "mini-gemma"),
        ("/workspace/train/sft-1a2b/model", "sft-1a2b"),
    ],
)
def test_the_served_model_is_a_short_name(model: str, name: str) -> None:
    assert part(model).served_model() == name


def test_faults_of_the_folder_are_seen_before_anything_is_loaded(tmp_path: Path) -> None:
    assert [key for key, _ in part(tmp_path / "none").faults()] == ["model"]
    folder = strip_template(tiny_model(tmp_path / "m", "llama"))
    (folder / "config.json").unlink()
    messages = [message for _, message in part(folder).faults()]
    assert len(messages) == 2
    assert "no config.json" in messages[0]
    assert "no chat template" in messages[1]
    assert list(part("train.sft").faults()) == []


def test_weights_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", "llama")
    (folder / "model.safetensors").unlink()
    with pytest.raises(PartError, match=f"the model {folder} cannot be loaded"):
        answered(part(folder), [])


def test_a_gpu_that_is_not_there_is_an_error_with_the_mend(models: dict[str, Path]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    where = Where(device="cuda")
    with (
        pytest.raises(PartError, match="device: cpu in the cluster file"),
        part(models["llama"]).open(where),
    ):
        pass


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"top_k": 0}, {"topp": 1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        part("a/b", **wrong)
