"""Prompts whose answer is begun: each source goes on from there, or refuses; none starts anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.endpoint_stub import Stub, serving
from tests.serving.served import running
from tests.sources.asking import ask, part_of
from tests.tiny_models import tiny_model

from fusechat import chat
from fusechat.errors import SourceError
from fusechat.parts import Where
from fusechat.records import LogpRequest, Prompt, Request, Response
from fusechat.serving.engine import LocalEngine
from fusechat.sources._stops import StopWatch, cut_at
from fusechat.sources.echo import Echo
from fusechat.sources.endpoint import Endpoint, request_body
from fusechat.sources.hf import Hf
from fusechat.sources.vllm import Vllm

TURNS = [{"role": "user", "content": "How many apples?"}]
BEGUN = [*TURNS, {"role": "assistant", "content": "Tom has 12\n"}]


def row(messages: list[dict[str, str]]) -> Request:
    prompt = Prompt.of(messages, domain="d")
    names = {"source": "s", "model": "m", "made_from": prompt.id}
    return Request(prompt=prompt, index=0, seed=11, **names)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("models") / "llama", "llama"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(model: str, rows: list[Request], **settings: Any) -> list[Response]:
    part = Hf(model=model, dtype="float32", **{"temperature": 0.0, "max_new_tokens": 8} | settings)
    with part.open(Where()) as work:
        found = {response.made_from: response for response in work(iter(rows))}
    return [found[one.made_from] for one in rows]


def test_hf_goes_on_from_the_beginning_and_gives_only_what_comes_after(llama: str) -> None:
    from transformers import AutoModelForCausalLM

    tokenizer, stock = chat.load_tokenizer(llama), AutoModelForCausalLM.from_pretrained(llama)
    ids = torch.tensor([chat.render_prompt(tokenizer, BEGUN)])
    out = stock.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8,
        eos_token_id=[chat.turn_end_id(tokenizer), tokenizer.eos_token_id], pad_token_id=0,
    )[0, ids.shape[1] :]  # fmt: skip
    [found] = drawn(llama, [row(BEGUN)])
    assert found.text == tokenizer.decode(out, skip_special_tokens=True).rstrip()
    assert found.text != drawn(llama, [row(TURNS)])[0].text


def test_white_space_at_the_head_of_a_continuation_is_kept(
    llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedTokenizerFast

    monkeypatch.setattr(PreTrainedTokenizerFast, "decode", lambda *_, **__: "    return 1\n")
    [begun, plain] = drawn(llama, [row(BEGUN), row(TURNS)])
    assert begun.text == "    return 1"
    assert plain.text == "return 1"


def test_an_answer_ends_before_a_stop_text_and_is_whole(llama: str) -> None:
    [free] = drawn(llama, [row(TURNS)], max_new_tokens=12)
    stop = free.text[3:6]
    [found] = drawn(llama, [row(TURNS)], max_new_tokens=12, stop=[stop])
    assert found.text == free.text.partition(stop)[0].strip()
    assert found.finish == "stop"
    assert (found.tokens or 0) <= (free.tokens or 0)


def test_a_row_that_meets_its_stop_text_ends_without_the_others(llama: str) -> None:
    rows = [row(TURNS), row([{"role": "user", "content": "What is the sum of two numbers?"}])]
    free = drawn(llama, rows, max_new_tokens=12)
    stop = next(
        free[0].text[at : at + 4]
        for at in range(1, len(free[0].text) - 4)
        if free[0].text[at : at + 4] not in free[1].text
    )
    found = drawn(llama, rows, max_new_tokens=12, stop=stop)
    assert [one.text for one in found] == [
        free[0].text.partition(stop)[0].strip(),
        free[1].text,
    ]


def test_a_stop_text_over_several_tokens_is_seen(llama: str) -> None:
    tokenizer = chat.load_tokenizer(llama)
    ids = tokenizer("the answer\n```\nis", add_special_tokens=False)["input_ids"]
    watch = StopWatch(tokenizer, ["\n```"], 1)
    said = [watch([0], [token], [0.0], None)[0] for token in ids]
    upto = tokenizer.decode(ids[: said.index(True) + 1])
    assert "\n```" in upto
    assert "\n```" not in tokenizer.decode(ids[: said.index(True)])


def test_the_stop_text_that_comes_first_ends_an_answer() -> None:
    assert cut_at("abcd", ["d", "b"]) == ("a", True)
    assert cut_at("abcd", ["x"]) == ("abcd", False)
    assert cut_at("abcd", []) == ("abcd", False)


def test_an_empty_stop_text_is_a_fault(llama: str) -> None:
    assert [key for key, _ in Hf(model=llama, stop=[""]).faults()] == ["stop"]


def test_an_endpoint_asks_for_the_continuation_with_vllms_two_fields() -> None:
    with serving(stub := Stub(lambda *_: {"text": "  7 left.\n"})) as urls:
        part = part_of(*urls, prefill=True)
        [begun, plain] = ask(part, [row(BEGUN), row(TURNS)])
    fields = {body["messages"][-1]["role"]: body for body in stub.seen}
    assert fields["assistant"]["continue_final_message"] is True
    assert fields["assistant"]["add_generation_prompt"] is False
    assert "continue_final_message" not in fields["user"]
    assert begun.text == "  7 left."
    assert plain.text == "7 left."


def test_an_endpoint_that_is_not_known_to_go_on_is_never_asked_to() -> None:
    with serving(stub := Stub()) as urls:
        with pytest.raises(SourceError, match=r"begins its answer.*prefill: true"):
            ask(part_of(*urls), [row(BEGUN)])
        assert stub.seen == []


def test_a_batch_file_holds_no_begun_answer_for_such_an_endpoint() -> None:
    with pytest.raises(SourceError, match="begins its answer"):
        request_body(part_of("http://h/v1"), row(BEGUN))


def test_who_can_go_on_with_an_answer_says_so(llama: str) -> None:
    assert Hf(model=llama).prefills()
    assert Vllm(model="some/model").prefills()
    assert not part_of("http://h/v1").prefills()
    assert part_of("http://h/v1", prefill=True).prefills()
    assert not Echo().prefills()


def test_vllms_own_server_is_asked_to_go_on() -> None:
    own = Endpoint(**Vllm(model="some/model")._sampling(1))
    assert request_body(own, row(BEGUN))["continue_final_message"] is True


def test_the_new_settings_leave_all_keys_as_they_were(llama: str) -> None:
    assert {"stop", "prefill"}.isdisjoint(Hf(model=llama).key()["settings"])
    assert "prefill" not in part_of("http://h/v1").key()["settings"]


def test_fusechat_serve_goes_on_as_hf_does(llama: str) -> None:
    engine = LocalEngine(llama, "tiny", "float32", Where(), 8)
    try:
        with running(engine) as client:
            part = part_of(
                f"http://127.0.0.1:{client.port}/v1", model="tiny", prefill=True,
                temperature=0.0, max_new_tokens=8,
            )  # fmt: skip
            found = ask(part, [row(BEGUN), row(TURNS)])
    finally:
        engine.close()
    assert [one.text for one in found] == [
        one.text for one in drawn(llama, [row(BEGUN), row(TURNS)])
    ]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"continue_final_message": True}, "needs add_generation_prompt: false"),
    ({"continue_final_message": True, "add_generation_prompt": True}, "needs add_generation"),
    ({"add_generation_prompt": False}, "with continue_final_message only"),
    ({"continue_final_message": "yes"}, "must be true or false"),
    ({"continue_final_message": True, "add_generation_prompt": False}, "message of the assistant"),
]


@pytest.mark.parametrize(("fields", "words"), REFUSED)
def test_fusechat_serve_refuses_fields_that_do_not_go_together(
    fields: dict[str, Any], words: str
) -> None:
    from tests.serving.served import SayingEngine

    with running(SayingEngine()) as client:
        answer = client.ask(**fields)
    assert answer.status == 400
    assert words in answer.json()["error"]["message"]


def test_without_the_fields_an_assistants_last_message_is_a_turn_that_is_over(llama: str) -> None:
    engine = LocalEngine(llama, "tiny", "float32", Where(), 8)
    try:
        assert engine.encode(BEGUN) != engine.encode(BEGUN, goes_on=True)
        with running(engine) as client:
            body = {"model": "tiny", "messages": BEGUN, "max_tokens": 2, "temperature": 0}
            answer = client.post(json.dumps(body).encode())
        used = answer.json()["usage"]["prompt_tokens"]
        assert used == len(engine.encode(BEGUN))
    finally:
        engine.close()


def test_log_probabilities_of_a_continuation_are_those_of_its_own_tokens(llama: str) -> None:
    text = "5 are left."
    own = chat.load_tokenizer(llama)(text, add_special_tokens=False)["input_ids"]
    asked = LogpRequest(
        prompt=row(BEGUN).prompt, response_id="r", text=text, source="s", made_from="x"
    )
    with Hf(model=llama, dtype="float32").logps().open(Where()) as work:
        [said] = list(work(iter([asked])))
    assert (said.status, said.tokens) == ("ok", len(own) + 1)  # and the end of the turn
