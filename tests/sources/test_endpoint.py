"""The source `endpoint` against a scripted server: each row once, whatever the server does."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.sources.asking import ask, part_of, rows_of

from endpoint_stub import Body, Stub, serving, text_of
from fusechat.errors import PartError, SourceError
from fusechat.parts import Where
from fusechat.records import Prompt, Request, Response
from fusechat.sources.endpoint import Endpoint


def seeds_asked(stub: Stub) -> list[int]:
    return [body["seed"] + i for body in stub.seen for i in range(body.get("n", 1))]


def check_texts(rows: list[Request], out: list[Response]) -> None:
    """Each text is the one that the row's own seed gives, so no row has another's."""
    for row, response in zip(rows, out, strict=True):
        assert response.text == text_of({"messages": row.prompt.chat()}, row.seed)
        assert (response.seed, response.finish, response.index) == (row.seed, "stop", row.index)


def test_samples_of_a_prompt_go_in_one_request_and_each_row_has_its_own_seeds_text() -> None:
    stub = Stub()
    with serving(stub) as (url,):
        part = part_of(url)
        rows = rows_of(part, 30, range(5))
        out = ask(part, rows)
    check_texts(rows, out)
    assert len(stub.seen) == 30
    assert all(body["n"] == 5 for body in stub.seen)
    assert len(set(seeds_asked(stub))) == 150


def test_raising_n_from_5_to_8_asks_three_more_with_new_seeds() -> None:
    stub = Stub()
    with serving(stub) as (url,):
        part = part_of(url)
        ask(part, rows_of(part, 4, range(5)))
        first = set(seeds_asked(stub))
        stub.seen.clear()
        ask(part, rows_of(part, 4, range(5, 8)))
    assert [body["n"] for body in stub.seen] == [3] * 4
    assert not first & set(seeds_asked(stub))


def test_the_body_has_what_the_recipe_says_and_nothing_else() -> None:
    part = part_of("http://h", top_k=20, stop=["X"], extra_body={"min_tokens": 1}, logprobs=True)
    (row,) = rows_of(part, 1, range(1))
    from fusechat.sources.endpoint import request_body

    assert request_body(part, row, 2) == {
        "model": "m", "messages": [{"role": "user", "content": "question 0"}], "temperature": 0.8,
        "top_p": 0.95, "max_tokens": 2048, "seed": row.seed, "n": 2, "top_k": 20, "stop": ["X"],
        "logprobs": True, "min_tokens": 1,
    }  # fmt: skip


def test_listed_seeds_are_requests_of_their_own() -> None:
    stub = Stub()
    with serving(stub) as (url,):
        part = part_of(url, seeds=(13, 21, 42))
        rows = rows_of(part, 2, range(3))
        check_texts(rows, ask(part, rows))
    assert sorted(seeds_asked(stub)) == [13, 13, 21, 21, 42, 42]
    assert all("n" not in body for body in stub.seen)
    with pytest.raises(PartError, match="more samples than its 'seeds' list has"):
        part.row_seed(1, rows[0].prompt, 3)


def test_a_longer_list_of_seeds_keeps_the_rows_and_changes_the_units_key() -> None:
    short, longer = part_of("http://h", seeds=(1, 2)), part_of("http://h", seeds=(1, 2, 3))
    assert short.digest() == longer.digest()
    assert short.key() != longer.key()


def test_a_server_that_ignores_n_is_topped_up_and_then_asked_for_one() -> None:
    stub = Stub(lambda number, body: {"n": 1})
    with serving(stub) as (url,):
        part = part_of(url, concurrency=1)
        rows = rows_of(part, 6, range(4))
        check_texts(rows, ask(part, rows))
    assert len(stub.seen) == 24
    assert sum("n" in body for body in stub.seen) == 1


def test_missing_choices_are_asked_again_with_their_own_seeds_and_extras_are_dropped() -> None:
    stub = Stub(lambda number, body: {"n": {1: 2, 2: 9}.get(number, body.get("n", 1))})
    with serving(stub) as (url,):
        part = part_of(url, concurrency=1)
        rows = rows_of(part, 1, range(5))
        with part.open(Where()) as work:
            out = sorted(work(iter(rows)), key=lambda r: r.index)
            notes = work.notes  # type: ignore[attr-defined]
    check_texts(rows, out)
    assert [body.get("n", 1) for body in stub.seen] == [5, 3]
    assert notes["counts"]["extra_choices"] == 6


def test_a_storm_of_429_slows_down_fails_nothing_and_ends() -> None:
    def script(number: int, body: Body) -> Body | None:
        return {"status": 429, "headers": {"Retry-After": "0.05"}} if number <= 60 else None

    stub = Stub(script)
    with serving(stub) as (url,):
        part = part_of(url, concurrency=16, retries=0)
        rows = rows_of(part, 20, range(2))
        check_texts(rows, ask(part, rows))
    assert len(stub.seen) == 60 + 20


def test_a_rate_limit_that_outlasts_the_bound_stops_the_source_and_blames_no_row() -> None:
    stub = Stub(lambda number, body: {"status": 429})
    with serving(stub) as (url,):
        part = part_of(url, wait_for_limits=0.05)
        with pytest.raises(SourceError, match="rate limited for longer than wait_for_limits"):
            ask(part, rows_of(part, 2, range(2)))


def unused_url() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}/v1"


def test_with_half_the_urls_down_the_others_do_all() -> None:
    stubs = (Stub(), Stub())
    with serving(*stubs) as urls:
        part = part_of(unused_url(), urls[0], unused_url(), urls[1], concurrency=8, retries=0)
        rows = rows_of(part, 40, range(2))
        check_texts(rows, ask(part, rows))
    assert sum(len(stub.seen) for stub in stubs) == 40
    assert all(stub.seen for stub in stubs)


def test_with_all_urls_down_the_source_stops_after_give_up_after_and_blames_no_row() -> None:
    part = part_of(unused_url(), give_up_after=0.1, retries=0)
    begun = time.monotonic()
    with pytest.raises(SourceError, match="give_up_after: no connection to the server"):
        ask(part, rows_of(part, 3, range(2)))
    assert time.monotonic() - begun >= 0.1


def test_a_server_that_comes_back_is_asked_again() -> None:
    stub = Stub(lambda number, body: {"status": 502} if number <= 5 else None)
    with serving(stub) as (url,):
        part = part_of(url, retries=0)
        rows = rows_of(part, 5, range(2))
        check_texts(rows, ask(part, rows))


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ({"status": 500}, "the server answers with 500"),
        ({"raw": '{"choices": [{'}, "the server's answer is not JSON (application/json)"),
        ({"raw": "<html>", "type": "text/html"}, "the server's answer is not JSON (text/html)"),
        ({"raw": '{"ok": true}'}, "the server's answer has no choices"),
        ({"raw": '{"model": "m", "choices": []}'}, "the server's answer has no choices"),
        ({"cut": True}, "the server's answer was cut"),
        ({"wait": 5}, "no answer within request_timeout"),
        ({"finish": "abort"}, "the server ended an answer with finish_reason 'abort'"),
        ({"raw": '{"error": {"message": "busy"}}'}, "the server answers with an error: busy"),
    ],
)
def test_a_failed_answer_is_repeated_and_fails_its_rows_when_it_stays(
    act: Body, reason: str
) -> None:
    stub = Stub(lambda number, body: act if number == 1 else None)
    with serving(stub) as (url,):
        part = part_of(url, concurrency=1, request_timeout=0.3)
        rows = rows_of(part, 3, range(2))
        check_texts(rows, ask(part, rows))
    assert len(stub.seen) == 4
    stub = Stub(lambda number, body: act)
    with serving(stub) as (url,):
        part = part_of(url, concurrency=1, request_timeout=0.3, retries=2)
        out = ask(part, rows_of(part, 1, range(2)))
    assert len(stub.seen) == 3
    assert [r.error for r in out] == [reason] * 2


def test_a_refused_request_is_not_repeated_and_a_long_prompt_has_its_own_reason() -> None:
    words = "This model's maximum context length is 4096 tokens. However, you requested 5000"
    for said, reason in [
        (words, "the prompt and max_new_tokens do not fit into the context of the server's model"),
        ("no such field", "the server refuses the request (400): no such field"),
    ]:
        raw = json.dumps({"error": {"message": said, "code": 400}})
        stub = Stub(lambda number, body, raw=raw: {"status": 400, "raw": raw})  # type: ignore[misc]
        with serving(stub) as (url,):
            out = ask(part_of(url), rows_of(part_of(url), 1, range(2)))
        assert len(stub.seen) == 1
        assert [r.error for r in out] == [reason] * 2


def test_a_missing_model_is_named_with_what_is_served() -> None:
    stub = Stub(lambda n, b: {"status": 404}, models={"data": [{"id": "other"}, {"id": "third"}]})
    with serving(stub) as (url,), pytest.raises(SourceError, match="no model 'm'") as told:
        ask(part_of(url), rows_of(part_of(url), 2, range(2)))
    assert "other, third" in str(told.value)


def test_a_server_replaced_by_another_model_in_mid_run_gives_no_row() -> None:
    stub = Stub(lambda number, body: {"model": "impostor"} if number > 3 else None)
    with serving(stub) as (url,):
        part = part_of(url, concurrency=1)
        got: list[Response] = []
        with part.open(Where()) as work, pytest.raises(SourceError, match="answered as 'impostor'"):
            got.extend(work(iter(rows_of(part, 6, range(2)))))
    assert {row.finish for row in got} <= {"stop"}


def test_rows_that_another_model_answered_are_asked_at_another_url() -> None:
    wrong, right = Stub(lambda number, body: {"model": "impostor"}), Stub()
    with serving(wrong, right) as urls:
        part = part_of(*urls, concurrency=2)
        rows = rows_of(part, 6, range(2))
        check_texts(rows, ask(part, rows))
    assert len(wrong.seen) <= 2


@pytest.mark.parametrize(("served", "ok"), [
    ("m", True), ("M", True), ("m-2026-01-31", True), ("m@main", True), ("alias", True),
    ("m-large", False), ("other", False),
])  # fmt: skip
def test_a_dated_or_named_snapshot_is_the_same_model(served: str, ok: bool) -> None:
    from fusechat.sources._endpoint_wire import same_model

    assert same_model(part_of("http://h", served_as="alias"), served) is ok


def test_greedy_answers_where_sampling_was_asked_for_stop_before_one_is_kept() -> None:
    stub = Stub(lambda number, body: {"text": "always the very same long text, " * 3})
    with serving(stub) as (url,):
        part = part_of(url)
        with part.open(Where()) as work:
            got: list[Response] = []
            with pytest.raises(SourceError, match="do_sample"):
                got.extend(work(iter(rows_of(part, 40, range(3)))))
            assert got == []
            with pytest.raises(SourceError, match="do_sample"):
                list(work(iter(rows_of(part, 1, range(1)))))
        assert len(ask(part_of(url, temperature=0.0), rows_of(part, 20, range(3)))) == 60


def test_one_prompt_with_two_answers_lets_all_identical_ones_pass() -> None:
    same = "the same long text every time, for all but one of them."
    stub = Stub(lambda n, b: None if "7" in b["messages"][0]["content"] else {"text": same})
    with serving(stub) as (url,):
        part = part_of(url, concurrency=1)
        out = ask(part, rows_of(part, 8, range(3)))
    assert [r.finish for r in out] == ["stop"] * 24


def test_log_probabilities_are_summed_and_give_each_row_its_own_tokens() -> None:
    stub = Stub()
    with serving(stub) as (url,):
        part = part_of(url, logprobs=True)
        out = ask(part, rows_of(part, 1, range(2)))
    assert [(r.tokens, r.logprob, r.prompt_tokens) for r in out] == [(4, -2.0, 7), (4, -6.0, 7)]
    assert json.loads(out[1].details or "")["logprobs"] == [-1.5] * 4


def test_tokens_of_several_samples_together_are_not_divided() -> None:
    with serving(Stub()) as (url,):
        part = part_of(url)
        two = ask(part, rows_of(part, 1, range(2)))
        (one,) = ask(part, rows_of(part, 1, range(1)))
    assert [r.tokens for r in two] == [None, None]
    assert json.loads(two[0].details or "") == {"shared_tokens": 8, "shared_by": [0, 1]}
    assert one.tokens == 4


def test_a_context_without_room_ends_before_the_first_row() -> None:
    stub = Stub(models={"data": [{"id": "m", "max_model_len": 2048}]})
    with serving(stub) as (url,), pytest.raises(PartError, match="context of 2048 tokens"):
        ask(part_of(url), [])
    assert not stub.seen


def test_the_cluster_files_servers_and_limits_win() -> None:
    stub = Stub(lambda number, body: {"wait": 0.02})
    with serving(stub) as (url,):
        part = part_of("http://127.0.0.1:1/v1", concurrency=50)
        where = Where(base_urls=(url,), concurrency=3, request_timeout=5)
        rows = rows_of(part, 12, range(1))
        check_texts(rows, ask(part, rows, where))
    assert stub.most_flying <= 3
    with pytest.raises(PartError, match="no server is named for 'm'"):
        ask(part_of(), [])


def test_rows_are_pulled_only_a_little_ahead_and_answers_come_before_the_last_pull() -> None:
    pulled = 0

    def endless(part: Endpoint) -> Iterator[Request]:
        nonlocal pulled
        for at in itertools.count():
            prompt = Prompt.of(f"q {at}", domain="d")
            pulled += 1
            yield Request(prompt=prompt, source="s", index=0, seed=at, model="m", made_from=str(at))

    with serving(Stub()) as (url,):
        part = part_of(url, concurrency=4)
        with part.open(Where()) as work:
            answers = work(endless(part))
            first = list(itertools.islice(answers, 10))
            answers.close()  # type: ignore[attr-defined]
    assert len(first) == 10
    assert pulled < 2000


def test_several_turns_are_sent_as_they_are() -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    stub = Stub()
    with serving(stub) as (url,):
        prompt = Prompt.of(turns, domain="d")
        row = Request(prompt=prompt, source="s", index=0, seed=1, model="m", made_from="x")
        ask(part_of(url), [row])
    assert stub.seen[0]["messages"] == turns


def test_faults_are_told_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    part = Endpoint(
        model="m", base_urls=("ftp://x", "http://a/v1", "http://a/v1/", "http://u:p@b/v1"),
        api_key_env="NO_SUCH_KEY", seeds=(1, 2, 2, -1), top_k=3, extra_body={"n": 2, "top_k": 4},
    )  # fmt: skip
    names = Counter(name for name, _ in part.faults())
    assert names == {"base_urls": 3, "seeds": 2, "extra_body": 2}
    assert not any(":p@" in message for _, message in part.faults())
    assert Endpoint(model="m", base_url="http://h:1").base_urls == ("http://h:1",)  # type: ignore[call-arg]
