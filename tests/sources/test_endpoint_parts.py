"""The arithmetic of the source `endpoint`: seeds, groups, pace, reasoning, waits."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.records import Prompt, Request, Response
from fusechat.sources._endpoint_pace import LONGEST_WAIT, Lane, choose, retry_after
from fusechat.sources._endpoint_pump import group_size
from fusechat.sources._endpoint_status import TOO_LONG, LimitedError, UnreachableError, meaning
from fusechat.sources._endpoint_watch import Watch
from fusechat.sources._endpoint_wire import UnusableError, read_answer, split_reasoning
from fusechat.sources.endpoint import Endpoint

PART = Endpoint(model="m", base_urls=("http://h/v1",))


def row(question: str = "q", index: int = 0, seed: int = 0) -> Request:
    prompt = Prompt.of(question, domain="d")
    name = f"{question}/{index}/{seed}"
    return Request(prompt=prompt, source="s", index=index, seed=seed, model="m", made_from=name)


@given(st.integers(0, 2**63), st.text(max_size=8), st.sets(st.integers(0, 2**20 - 1), max_size=30))
def test_seeds_of_a_prompt_are_distinct_follow_the_index_and_fit_31_bits(
    seed: int, question: str, indices: set[int]
) -> None:
    prompt = Prompt.of(question, domain="d")
    base = PART.row_seed(seed, prompt, 0)
    assert all(PART.row_seed(seed, prompt, index) == base + index for index in indices)
    assert all(0 <= base + index < 2**31 for index in indices)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6)), max_size=30), st.integers(1, 8)
)
def test_groups_cover_all_rows_in_order_and_hold_adjacent_samples_of_one_prompt(
    named: list[tuple[str, int]], most: int
) -> None:
    left = deque(row(question, index, 100 + index) for question, index in named)
    groups = []
    while left:
        groups.append([left.popleft() for _ in range(group_size(left, most))])
    flat = [(r.prompt.messages[0].content, r.index) for group in groups for r in group]
    assert flat == named
    for group in groups:
        assert 1 <= len(group) <= most
        assert len({r.prompt.id for r in group}) == 1
        assert [r.seed for r in group] == [group[0].seed + i for i in range(len(group))]


@given(st.lists(st.sampled_from(["good", "close", "fail"]), max_size=60), st.integers(1, 64))
def test_a_servers_limit_stays_within_its_bounds(events: list[str], most: int) -> None:
    lane = Lane("u", most)
    for at, event in enumerate(events):
        if event == "good":
            lane.good()
        elif event == "close":
            lane.close(None, float(at), float(at), 1.0, 1.0)
        else:
            lane.fail("down", float(at), 1.0, 1.0)
        assert 1 <= lane.limit <= most
        assert lane.opens() <= at + LONGEST_WAIT + 1


def test_a_storm_halves_once_and_success_adds_one_a_round() -> None:
    lane = Lane("u", 16)
    for _ in range(10):  # all sent before the first answer came
        lane.close(1.0, 0.0, 5.0, 0.0, 1.0)
    assert lane.limit == 8
    lane.close(1.0, 6.0, 7.0, 0.0, 1.0)
    assert lane.limit == 4
    for _ in range(4):
        lane.good()
    assert 4.8 < lane.limit <= 5  # 1/4 + 1/4.25 + 1/4.49 + 1/4.71 = 0.92
    assert not lane.room(7.5)
    assert lane.room(8.0)


def test_a_failed_server_is_tried_with_one_request_later_each_time() -> None:
    lane = Lane("u", 8)
    lane.fail("refused", 0.0, 1.0, 1.0)
    assert lane.down_until == 1.0
    lane.fail("refused", 0.5, 1.0, 1.0)  # sent before it was set aside
    assert lane.down_until == 1.0
    lane.fail("refused", 1.0, 1.0, 1.0)
    assert lane.down_until == 3.0
    lane.flying = 1
    assert not lane.room(3.0)
    lane.good()
    assert lane.room(3.0)


def test_the_server_with_most_room_is_chosen_another_than_the_one_that_failed() -> None:
    one, two = Lane("one", 4), Lane("two", 4)
    one.flying = 1
    assert choose([one, two], 0.0) is two
    assert choose([one, two], 0.0, avoid="two") is one
    one.refuse("key", 0.0)
    assert choose([one, two], 1.0, avoid="two") is two


@pytest.mark.parametrize(("value", "date", "seconds"), [
    ("3", None, 3.0), ("0.5", None, 0.5), ("-1", None, 0.0), ("999999", None, LONGEST_WAIT),
    ("Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 30.0),
    ("Wed, 21 Oct 2026 07:27:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
    ("soon", None, None), (None, None, None), ("nan", None, None),
])  # fmt: skip
def test_retry_after_in_seconds_or_as_a_date_by_the_servers_own_clock(
    value: str | None, date: str | None, seconds: float | None
) -> None:
    assert retry_after(value, date) == seconds


def test_503_is_a_limit_only_where_it_says_how_long() -> None:
    assert isinstance(meaning(503, {"Retry-After": "2"}, "", None), LimitedError)
    assert isinstance(meaning(503, {}, "", None), UnreachableError)
    assert meaning(200, {}, "", None) is None


@pytest.mark.parametrize("said", [
    "This model's maximum context length is 4096 tokens.",
    "The decoder prompt (length 9) is longer than the maximum model length of 8.",
    "`inputs` tokens + `max_new_tokens` must be <= 4096",
    "Requested tokens (9) exceed context window of 8",
])  # fmt: skip
def test_words_of_servers_for_a_context_too_short(said: str) -> None:
    assert str(meaning(400, {}, said, None)) == TOO_LONG


@pytest.mark.parametrize(("text", "out"), [
    ("<think>a</think>b", ("b", "a", False)),
    (" <think>\na\n</think>\n\nb ", ("b", "a", False)),
    ("a</think>b", ("b", "a", False)),
    ("<think>a", ("", "a", True)),
    ("<think>", ("", "", True)),
    ("<think></think>b", ("b", None, False)),
    ("b", ("b", None, False)),
    ("Write <think>x</think> so", ("Write <think>x</think> so", None, False)),
    ("<think>a</think><think>c</think>b", ("b", "a\nc", False)),
])  # fmt: skip
def test_only_what_stands_before_the_answer_is_reasoning(
    text: str, out: tuple[str, str | None, bool]
) -> None:
    assert split_reasoning(text, ("think",)) == out


@given(st.text(max_size=60))
def test_without_tags_a_text_is_kept(text: str) -> None:
    assert split_reasoning(text, ()) == (text.strip(), None, False)


def body(message: dict[str, Any], finish: Any = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"model": "m", "choices": [choice]}


def read(message: dict[str, Any], finish: Any = "stop") -> Response:
    return read_answer(PART, [row()], body(message, finish)).rows[0]


def test_what_servers_call_the_end() -> None:
    assert read({"content": "x"}, "length").finish == "length"
    assert read({"content": "x"}, "eos_token").finish == "stop"
    assert read({"content": "<think>x"}, "stop").finish == "length"
    assert read({"content": "x"}, "content_filter").finish == "error"
    for odd in (None, "abort", 3):
        with pytest.raises(UnusableError, match="finish_reason"):
            read({"content": "x"}, odd)


def test_reasoning_fields_and_empty_answers() -> None:
    assert read({"content": "x", "reasoning_content": "why"}).reasoning == "why"
    assert read({"content": "x", "reasoning": "why"}).reasoning == "why"
    empty = read({"content": None})
    assert (empty.text, empty.finish, empty.whole) == ("", "stop", False)


def test_text_that_is_no_unicode_can_be_kept() -> None:
    assert read({"content": "a\ud83d"}).model_dump_json()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["choices", "message", "content", "index", "usage",
                                         "finish_reason", "logprobs", "model"]), inner),
                    max_leaves=12))  # fmt: skip
def test_no_body_whatever_breaks_the_reader(found: Any) -> None:
    try:
        answer = read_answer(PART, [row(), row(index=1, seed=1)], found)
    except ValueError:
        return
    assert len(answer.rows) + len(answer.due) == 2


def test_the_watch_lets_short_and_single_answers_pass_and_gives_back_what_it_held() -> None:
    watch = Watch(0.8, "m")
    long = "x" * 50
    rows = [row("a", 0), row("a", 1), row("b", 0)]
    watch.expect(rows)
    assert watch.check([rows[0].response("yes", "stop"), rows[1].response("yes", "stop")])
    assert watch.check([rows[0].response(long, "stop")]) == []
    assert watch.check([rows[1].response(long, "stop")]) == []
    assert len(watch.check([rows[2].response(long, "stop")])) == 1
    assert len(watch.release()) == 2
    assert watch.counts["prompts_with_identical_samples"] == 1
