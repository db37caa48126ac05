"""What a request may say, by the reader alone: no server, no model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.serving.contract import Ask, Refused, check_room, read_ask
from fusechat.serving.engine import seeds_of

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def refused(**fields: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        read_ask(BODY | fields, "m")
    return caught.value


def test_what_is_not_said_is_the_models_own_setting_and_else_neutral() -> None:
    plain = read_ask(BODY, "m")
    assert plain == Ask(messages=({"role": "user", "content": "hi"},))
    defaults = {"temperature": 0.6, "top_k": 20}
    own = read_ask(BODY | {"top_k": 5}, "m", defaults)
    assert (own.temperature, own.top_k) == (0.6, 5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0), ("n", True), ("n", 1.0), ("seed", "7"), ("seed", 2**63), ("temperature", -0.1),
        ("temperature", "hot"), ("top_p", 0), ("top_p", 1.01), ("top_k", -2), ("max_tokens", 0),
        ("repetition_penalty", 0), ("stop", ""), ("stop", [1]), ("logprobs", 1), ("stream", "yes"),
        ("stream_options", {"include_usage": True}), ("messages", []), ("messages", "hi"),
        ("presence_penalty", 2.5), ("frequency_penalty", "x"), ("min_p", 0.1),
        ("tools", [{}]), ("temprature", 1.0),
        ("response_format", {"type": "json_object"}), ("temperature", float("nan")),
    ],
)  # fmt: skip
def test_a_wrong_or_unsupported_value_is_refused_and_named(field: str, value: Any) -> None:
    fault = refused(**{field: value})
    assert fault.status == 400
    assert fault.param == field
    assert field in fault.message


def test_all_faults_of_a_request_are_said_at_once() -> None:
    message = refused(n=0, top_p=2, typo=1).message
    assert all(name in message for name in ("n must", "top_p must", "typo is no field"))


@pytest.mark.parametrize(
    "message",
    ["hi", {"role": "tool", "content": "hi"}, {"role": "user"},
     {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]},
     {"role": "user", "content": "hi", "name": "ann"}],
)  # fmt: skip
def test_a_message_that_cannot_be_rendered_is_refused_with_its_place(message: Any) -> None:
    assert "messages[0]" in refused(messages=[message]).message


def test_text_parts_are_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    ask = read_ask(BODY | {"messages": [{"role": "user", "content": parts}]}, "m")
    assert ask.messages[0]["content"] == "a\nb"


def test_neutral_values_of_unsupported_fields_change_nothing() -> None:
    neutral = {"presence_penalty": 0.0, "min_p": 0, "tools": [], "logit_bias": None, "user": "ann"}
    assert read_ask(BODY | neutral, "m") == read_ask(BODY, "m")


def test_greedy_requests_have_one_choice() -> None:
    assert "n must be 1 when using greedy sampling, got 2" in refused(temperature=0, n=2).message
    assert read_ask(BODY | {"temperature": 1e-6}, "m").temperature == 0


def test_another_model_is_not_found() -> None:
    fault = refused(model="other")
    assert (fault.status, fault.message) == (404, "The model `other` does not exist.")


@given(seed=st.integers(-(2**63), 2**63 - 1), n=st.integers(1, 20))
def test_choice_i_has_the_seed_of_a_request_for_one_with_seed_plus_i(seed: int, n: int) -> None:
    seeds = seeds_of(Ask(messages=(), n=n, seed=seed))
    assert len(set(seeds)) == n
    assert all(s >= 0 for s in seeds)
    ones = [seeds_of(Ask(messages=(), n=1, seed=seed + i)) for i in range(n)]
    assert [[s] for s in seeds] == ones


def test_without_a_seed_choices_differ() -> None:
    assert len(set(seeds_of(Ask(messages=(), n=50)))) == 50


@given(prompt=st.integers(1, 40), most=st.integers(1, 40), context=st.integers(1, 40))
def test_what_does_not_fit_into_the_context_is_refused(
    prompt: int, most: int, context: int
) -> None:
    ask = Ask(messages=(), max_tokens=most)
    if prompt + most <= context:
        check_room(ask, prompt, context)
        return
    with pytest.raises(Refused) as caught:
        check_room(ask, prompt, context)
    assert caught.value.status == 400
    assert f"maximum context length is {context} tokens" in caught.value.message
