"""The server over HTTP, with an engine that answers at once: forms, streams, faults, counts."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving.served import Client, SayingEngine, running

from fusechat.errors import PartError
from fusechat.serving.contract import Job, Piece
from fusechat.serving.faults import FaultRule, Faults, written


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running(SayingEngine()) as found:
        yield found


def faulty(*rules: FaultRule, seed: int = 0) -> Any:
    return running(SayingEngine(), Faults(*rules, seed=seed))


def test_an_answer_has_n_choices_with_seeds_counted_up_and_the_usage_of_all(client: Client) -> None:
    answer = client.ask("two words", n=3, seed=40)
    assert answer.status == 200
    assert answer.texts() == ["seed 40 at 1", "seed 41 at 1", "seed 42 at 1"]
    said = answer.json()
    assert said["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert (said["object"], said["model"]) == ("chat.completion", "saying")
    assert {choice["finish_reason"] for choice in said["choices"]} == {"stop"}


def test_a_stream_gives_the_texts_of_the_whole_answer_and_its_usage(client: Client) -> None:
    events = client.ask(n=2, seed=4, stream=True, stream_options={"include_usage": True}).events()
    texts = ["", ""]
    finishes = []
    for event in events[:-1]:
        (choice,) = event["choices"]
        assert event["usage"] is None
        texts[choice["index"]] += choice["delta"].get("content", "")
        finishes += [choice["finish_reason"]] if choice["finish_reason"] else []
    assert texts == client.ask(n=2, seed=4).texts()
    assert finishes == ["stop", "stop"]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 8


def test_the_served_model_says_its_name_and_context(client: Client) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["max_model_len"]) == ("saying", 100)
    assert client.get("/health").status == 200


def test_errors_have_openai_s_form(client: Client) -> None:
    asked = {
        400: [client.post(b"{"), client.post(b"[]"), client.ask(n=-1), client.ask("w " * 100)],
        404: [client.ask(model="other"), client.get("/v2/models"), client.get("/faults/counts")],
        405: [client.get("/v1/chat/completions")],
    }
    for status, answers in asked.items():
        for answer in answers:
            error = answer.json()["error"]
            assert answer.status == error["code"] == status
            assert set(error) == {"message", "type", "param", "code"}


def test_a_request_over_the_context_is_refused_in_vllm_s_words(client: Client) -> None:
    message = client.ask("w " * 90, max_tokens=11).json()["error"]["message"]
    assert message == (
        "'max_tokens' or 'max_completion_tokens' is too large: 11. This model's maximum context "
        "length is 100 tokens and your request has 90 input tokens (11 > 100 - 90)."
    )
    assert client.ask("w " * 90, max_tokens=10).status == 200


def test_the_key_is_asked_for_below_v1_and_never_said() -> None:
    with running(SayingEngine(), api_key="secret") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            for answer in (client.ask(headers=headers), client.get("/v1/models", **headers)):
                assert answer.status == 401
                assert b"secret" not in answer.body
        assert client.ask(headers={"Authorization": "Bearer secret"}).status == 200
        assert client.get("/health").status == 200


def test_faults_by_request_number_act_on_those_requests_alone() -> None:
    rules = (
        FaultRule(kind="rate_limit", requests="1-2", retry_after=0.25),
        FaultRule(kind="error", requests="3", status=503, retry_after=None),
        FaultRule(kind="error", requests="2-4"),
    )
    with faulty(*rules) as client:
        answers = [client.ask(n=2, seed=1) for _ in range(5)]
        assert [answer.status for answer in answers] == [429, 429, 503, 500, 200]
        assert answers[0].headers["Retry-After"] == "0.25"
        assert "Retry-After" not in answers[2].headers
        counts = client.counts()
    assert counts["requests"] == 5
    assert counts["answers"] == {"429": 2, "503": 1, "500": 1, "200": 1}
    assert (counts["choices"], counts["rows"], counts["rows_again"]) == (2, 2, 0)


def test_rows_asked_again_are_counted_apart() -> None:
    with faulty() as client:
        client.ask(n=5, seed=1)
        client.ask(n=3, seed=6)
        assert client.counts()["rows_again"] == 0
        client.ask(n=2, seed=5)
        client.ask("another", n=2, seed=5)
        counts = client.counts()
    assert (counts["rows"], counts["rows_again"], counts["choices"]) == (10, 2, 12)


def test_a_cut_body_is_shorter_than_it_said() -> None:
    with faulty(FaultRule(kind="cut", times=1)) as client:
        with pytest.raises(http.client.IncompleteRead):
            client.ask()
        assert client.ask().status == 200
        assert client.counts()["answers"] == {"cut": 1, "200": 1}


def test_a_cut_stream_ends_without_its_last_line() -> None:
    with faulty(FaultRule(kind="cut")) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        message = {"role": "user", "content": "hi"}
        body = {"model": "saying", "messages": [message], "n": 4, "stream": True}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        with pytest.raises(http.client.IncompleteRead) as caught:
            connection.getresponse().read()
        connection.close()
    assert b'"finish_reason":"stop"' in caught.value.partial
    assert b"[DONE]" not in caught.value.partial


def test_wrong_answers_of_each_kind() -> None:
    rules = [
        FaultRule(kind=kind, contains=kind)  # type: ignore[arg-type]
        for kind in ("ignore_n", "wrong_model", "malformed", "empty", "greedy")
    ]
    with faulty(*rules) as client:
        assert len(client.ask("ignore_n", n=3).texts()) == 1
        assert client.ask("wrong_model").json()["model"] == "another-model"
        with pytest.raises(json.JSONDecodeError):
            client.ask("malformed").json()
        assert client.ask("empty", n=2).texts() == ["", ""]
        assert client.ask("greedy", seed=1).texts() == ["seed 1 at 0"]
        assert client.ask("none of them", seed=1).texts() == ["seed 1 at 1"]
        assert client.counts()["faults"] == {rule.kind: 1 for rule in rules}


def test_the_same_seed_gives_the_same_faults_and_a_share_near_the_probability() -> None:
    from fusechat.serving.contract import Ask

    def met(seed: int) -> list[bool]:
        faults = Faults(FaultRule(kind="error", probability=0.3), seed=seed)
        return [bool(faults.meet(number, Ask(messages=()))) for number in range(1, 1001)]

    assert met(1) == met(1) != met(2)
    assert 240 <= sum(met(1)) <= 360  # 300, and 4 standard deviations of 14.5


class WaitingEngine(SayingEngine):
    """Answers when told to."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.came = threading.Semaphore(0)

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        self.came.release()


def test_a_client_that_goes_away_ends_its_job() -> None:
    engine = WaitingEngine()
    faults = Faults()
    with running(engine, faults) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        message = {"role": "user", "content": "hi"}
        connection.request(
            "POST", "/v1/chat/completions", json.dumps({"model": "saying", "messages": [message]})
        )
        assert engine.came.acquire(timeout=30)
        assert not engine.jobs[0].cancelled
        connection.close()
        while faults.counts()["in_flight"]:
            threading.Event().wait(0.01)
    assert engine.jobs[0].cancelled
    assert faults.counts()["answers"] == {"gone": 1}


def test_a_failing_model_is_an_answer_with_500() -> None:
    class Broken(SayingEngine):
        def submit(self, job: Job) -> None:
            job.say(Piece(0, "a", tokens=1))
            job.say(ValueError("out of memory"))

    with running(Broken()) as client:
        answer = client.ask(n=2)
        assert answer.status == 500
        assert "out of memory" in answer.json()["error"]["message"]


def test_a_faults_file_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    rule = {"kind": "rate_limit", "requests": "3-", "retry_after": None}
    good = Faults.read(written(tmp_path / "good.json", rule, seed=5))
    assert good.counts()["requests"] == 0
    for wrong, said in (
        ({"kind": "sleepy"}, "kind"),
        ({"kind": "error", "requests": "a-b"}, "requests"),
        ({"kind": "error", "chance": 1}, "chance"),
    ):
        with pytest.raises(PartError, match=said):
            Faults.read(written(tmp_path / "bad.json", wrong))
    with pytest.raises(PartError, match="cannot be read"):
        Faults.read(tmp_path / "none.json")
