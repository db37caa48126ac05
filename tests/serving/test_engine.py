"""The engine with tiny models: what a row says depends on its seed and prompt alone."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving.served import Client, running
from tests.tiny_models import tiny_model

from fusechat import chat
from fusechat.parts import Where
from fusechat.records import Prompt, Request
from fusechat.serving.contract import Ask, Job, Piece, Refused
from fusechat.serving.engine import LocalEngine, seeds_of
from fusechat.sources.hf import Hf

WORDS = ["Tom has apples", "What is the sum of two numbers?", "def add(a, b):", "Once upon a time"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "llama", "llama")


def opened(folder: Path, max_batch: int = 64) -> LocalEngine:
    return LocalEngine(str(folder), "tiny", "float32", Where(device="cpu"), max_batch)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LocalEngine]:
    made = opened(folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(engine: LocalEngine) -> Iterator[Client]:
    with running(engine) as found:
        yield found


def message(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


def drawn(engine: LocalEngine, *asks: Ask) -> list[list[str]]:
    """The texts of each request's choices; all requests wait at the engine at once."""
    said: list[queue.SimpleQueue[Any]] = []
    for ask in asks:
        said.append(queue.SimpleQueue())
        engine.submit(Job(ask, engine.encode(ask.messages), seeds_of(ask), said[-1].put))
    texts = [[""] * ask.n for ask in asks]
    for place, ask in enumerate(asks):
        left = ask.n
        while left:
            piece = said[place].get(timeout=60)
            assert isinstance(piece, Piece), piece
            texts[place][piece.index] += piece.text
            left -= piece.finish is not None
    return texts


def test_the_server_draws_what_the_source_hf_draws_with_the_same_seed(
    folder: Path, client: Client
) -> None:
    part = Hf(model=str(folder), max_new_tokens=24, dtype="float32", top_p=0.9, top_k=50)
    settings = {"temperature": 0.8, "top_p": 0.9, "top_k": 50, "max_tokens": 24}
    asked = [
        Request(
            prompt=Prompt.of(text, domain="math"), source="s", index=seed, seed=seed, model="m",
            made_from=f"{text}{seed}",
        )
        for text in WORDS for seed in (7, 8, 9)
    ]  # fmt: skip
    with part.open(Where(device="cpu")) as work:
        own = {row.made_from: row for row in work(iter(asked))}
    for text in WORDS:
        answer = client.ask(text, n=3, seed=7, logprobs=True, **settings)
        for choice, served in zip(answer.json()["choices"], answer.texts(), strict=True):
            row = own[f"{text}{7 + choice['index']}"]
            assert served.strip() == row.text
            assert choice["finish_reason"] == row.finish
            chances = [one["logprob"] for one in choice["logprobs"]["content"]]
            assert len(chances) == row.tokens
            assert row.logprob is not None
            assert math.fsum(chances) == pytest.approx(row.logprob, rel=1e-4, abs=1e-4)


def test_neighbours_and_settings_beside_it_change_no_answer(engine: LocalEngine) -> None:
    asks = [
        Ask(message(text), n=3, seed=seed, temperature=temperature, max_tokens=16)
        for text in WORDS for seed in (1, 50) for temperature in (0.7, 1.3)
    ]  # fmt: skip
    together = drawn(engine, *asks)
    alone = [drawn(engine, ask)[0] for ask in asks]
    assert together == alone
    assert len({text for texts in together for text in texts}) > 40


def test_more_rows_than_a_batch_holds_are_all_answered(folder: Path) -> None:
    small = opened(folder, max_batch=4)
    try:
        ask = Ask(message("hi"), n=11, seed=3, max_tokens=5)
        (eleven,) = drawn(small, ask)
    finally:
        small.close()
    ones = [Ask(message("hi"), n=1, seed=3 + i, max_tokens=5) for i in range(11)]
    big = opened(folder)
    try:
        assert [[text] for text in eleven] == drawn(big, *ones)
    finally:
        big.close()


def test_64_clients_at_once_are_not_served_one_by_one(
    engine: LocalEngine, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    draw = engine._draw

    def counting(rows: Any) -> None:
        sizes.append(len(rows))
        draw(rows)

    monkeypatch.setattr(engine, "_draw", counting)
    got: dict[int, Any] = {}

    def ask(seed: int) -> None:
        got[seed] = client.ask("Tom", seed=seed, max_tokens=8)

    clients = [threading.Thread(target=ask, args=(seed,)) for seed in range(64)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert all(got[seed].status == 200 for seed in range(64))
    assert sum(sizes) == 64
    assert len(sizes) < 32


def test_a_stop_string_ends_the_text_before_it(client: Client) -> None:
    settings: dict[str, Any] = {"n": 4, "seed": 11, "max_tokens": 30, "ignore_eos": True}
    whole = client.ask(**settings).texts()
    stop = whole[0][5:7]
    stopped = client.ask(stop=[stop, "never said"], **settings)
    for choice, text in zip(stopped.json()["choices"], whole, strict=True):
        assert choice["message"]["content"] == text.partition(stop)[0]
        ended = stop in text
        assert choice["finish_reason"] == ("stop" if ended else "length")
        assert choice["stop_reason"] == (stop if ended else None)
    assert stopped.json()["choices"][0]["finish_reason"] == "stop"


def test_a_stream_says_what_the_whole_answer_says_also_with_stop_strings(client: Client) -> None:
    settings: dict[str, Any] = {"n": 6, "seed": 21, "max_tokens": 40, "logprobs": True}
    stops = [text[8:11] for text in client.ask(**settings).texts()[:2]]
    for stop in (None, stops):
        whole = client.ask(stop=stop, **settings).json()["choices"]
        texts, chances = [""] * 6, [0] * 6
        for event in client.ask(stop=stop, stream=True, **settings).events():
            (choice,) = event["choices"]
            texts[choice["index"]] += choice["delta"].get("content", "")
            chances[choice["index"]] += len((choice["logprobs"] or {"content": []})["content"])
        assert texts == [choice["message"]["content"] for choice in whole]
        assert chances == [len(choice["logprobs"]["content"]) for choice in whole]


def test_the_likeliest_tokens_stand_at_each_place(client: Client) -> None:
    answer = client.ask(temperature=0, max_tokens=6, logprobs=True, top_logprobs=3).json()
    for one in answer["choices"][0]["logprobs"]["content"]:
        top = one["top_logprobs"]
        assert len(top) == 3
        assert [t["logprob"] for t in top] == sorted((t["logprob"] for t in top), reverse=True)
        assert one["token"] == top[0]["token"]
        assert one["logprob"] == pytest.approx(top[0]["logprob"], abs=1e-5)


def test_usage_counts_the_prompt_with_its_template_and_every_drawn_token(
    engine: LocalEngine, client: Client
) -> None:
    answer = client.ask("Tom", n=3, max_tokens=7, ignore_eos=True).json()
    prompt = len(chat.render_prompt(engine._tokenizer, message("Tom")))
    assert answer["usage"]["prompt_tokens"] == prompt
    assert answer["usage"]["completion_tokens"] == 21
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"length"}


def test_a_prompt_over_the_model_s_context_is_refused(client: Client) -> None:
    answer = client.ask("Tom has apples. " * 100)
    assert answer.status == 400
    assert "maximum context length is 256 tokens" in answer.json()["error"]["message"]


def test_a_conversation_that_the_template_refuses_is_a_bad_request(tmp_path: Path) -> None:
    gemma = opened(tiny_model(tmp_path / "gemma", "gemma2"))
    try:
        with pytest.raises(Refused, match="no system role"):
            gemma.encode([{"role": "system", "content": "x"}, {"role": "user", "content": "y"}])
    finally:
        gemma.close()


def test_an_engine_that_is_closed_answers_what_still_comes(folder: Path) -> None:
    closed = opened(folder)
    closed.close()
    said: list[Any] = []
    closed.submit(Job(Ask(message("hi")), [1], [1], said.append))
    assert isinstance(said[0], Refused)
    assert said[0].status == 503


def test_a_job_that_was_cancelled_is_not_computed(engine: LocalEngine) -> None:
    said: list[Any] = []
    ask = Ask(message("Tom"), n=2, seed=1, max_tokens=5)
    engine.submit(Job(ask, engine.encode(ask.messages), [1, 2], said.append, cancelled=True))
    drawn(engine, ask)
    assert said == []


def test_a_model_that_fails_is_said_to_its_clients_and_the_next_is_answered(
    engine: LocalEngine, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(rows: Any) -> None:
        raise RuntimeError("no memory left")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_draw", broken)
        answer = client.ask(n=3)
        assert answer.status == 500
        assert "no memory left" in answer.json()["error"]["message"]
    assert client.ask(max_tokens=2).status == 200
