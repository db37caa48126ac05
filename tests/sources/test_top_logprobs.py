"""The likeliest first tokens: kept in details, the same in process and behind a server."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sources.asking import ask, part_of, rows_of

from endpoint_stub import Stub, serving
from fusechat.sources._top_logprobs import first_of, together
from fusechat.sources.endpoint import request_body


def with_tops(*likely: tuple[Any, Any]) -> Any:
    """A script whose answers have these as the likeliest tokens of their first place."""
    first = {"token": "m", "logprob": -0.2,
             "top_logprobs": [{"token": t, "logprob": v} for t, v in likely]}  # fmt: skip
    later = {"token": "x", "logprob": -0.1, "top_logprobs": [{"token": "never", "logprob": 0.0}]}
    choice = {"index": 0, "finish_reason": "length", "logprobs": {"content": [first, later]},
              "message": {"role": "assistant", "content": "m"}}  # fmt: skip
    return lambda number, body: {"fields": {"choices": [choice]}}


def test_a_server_is_asked_for_them_and_those_of_the_first_token_are_kept() -> None:
    with serving(stub := Stub(with_tops(("m", -0.2), ("M", -1.7), ("m", -3.0)))) as (url,):
        part = part_of(url, top_logprobs=5, max_new_tokens=1)
        (found,) = ask(part, rows_of(part, 1, range(1)))
    assert (stub.seen[0]["logprobs"], stub.seen[0]["top_logprobs"]) == (True, 5)
    told = json.loads(found.details or "")
    assert list(told) == ["top_logprobs"]
    # Two tokens that read the same count as one: log(e^-0.2 + e^-3).
    both = math.log(math.exp(-0.2) + math.exp(-3.0))
    assert told["top_logprobs"] == {"m": pytest.approx(both), "M": -1.7}
    assert (found.text, found.logprob) == ("m", None)


def test_without_the_setting_nothing_is_asked_kept_or_keyed() -> None:
    plain = part_of("http://h/v1")
    body = request_body(plain, rows_of(plain, 1, range(1))[0])
    assert not {"logprobs", "top_logprobs"} & set(body)
    assert "top_logprobs" not in plain.key()["settings"]
    assert part_of("http://h/v1", top_logprobs=5).digest() != plain.digest()


@pytest.mark.parametrize(
    "choice",
    [
        {}, {"logprobs": None}, {"logprobs": {"content": []}}, {"logprobs": {"content": ["x"]}},
        {"logprobs": {"content": [{"token": "m", "logprob": 0.0}]}},
        {"logprobs": {"content": [{"top_logprobs": {"m": 0.0}}]}},
        {"logprobs": {"content": [{"top_logprobs": [{"token": 1, "logprob": 0.0}, "m"]}]}},
        {"logprobs": {"content": [{"top_logprobs": [{"token": "m", "logprob": math.nan}]}]}},
    ],
)  # fmt: skip
def test_a_server_that_tells_none_or_nonsense_gives_none(choice: dict[str, Any]) -> None:
    assert first_of(choice) == {}


def test_a_server_without_them_still_gives_its_answer() -> None:
    with serving(Stub()) as (url,):
        part = part_of(url, top_logprobs=2)
        (found,) = ask(part, rows_of(part, 1, range(1)))
    assert found.finish == "stop"
    assert "top_logprobs" not in json.loads(found.details or "{}")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-800, 0)), max_size=8))
def test_adding_up_loses_no_probability(likely: list[tuple[str, float]]) -> None:
    found = together(likely)
    for token in set(dict(likely)):
        values = [value for one, value in likely if one == token]
        high = max(values)
        exact = high + math.log(math.fsum(math.exp(value - high) for value in values))
        assert found[token] == pytest.approx(exact, abs=1e-9)


def test_a_setting_of_more_than_servers_give_is_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to 20"):
        part_of("http://h/v1", top_logprobs=21)
    faults = dict(part_of("http://h/v1", extra_body={"top_logprobs": 3}).faults())
    assert "set it beside 'model'" in faults["extra_body"]


def test_a_model_in_this_process_and_our_own_server_tell_the_same(tmp_path: Path) -> None:
    import torch
    from tests.serving.served import running
    from tests.tiny_models import tiny_model

    from fusechat.parts import Where
    from fusechat.serving.engine import LocalEngine
    from fusechat.sources.hf import Hf

    torch.set_num_threads(1)
    folder = str(tiny_model(tmp_path / "llama", "llama"))
    here = Hf(model=folder, dtype="float32", max_new_tokens=1, top_logprobs=4, temperature=0.3)
    rows = rows_of(part_of("http://h/v1"), 3, range(1))
    ours = ask(here, rows)  # type: ignore[arg-type]
    engine = LocalEngine(folder, "m", "float32", Where(), 8)
    try:
        with running(engine) as client:
            url = f"http://127.0.0.1:{client.port}/v1"
            part = part_of(url, top_logprobs=4, max_new_tokens=1, temperature=0.3)
            theirs = ask(part, rows)
    finally:
        engine.close()
    for one, other in zip(ours, theirs, strict=True):
        left, right = (json.loads(row.details or "")["top_logprobs"] for row in (one, other))
        assert left == pytest.approx(right, abs=1e-4)
        assert 1 <= len(left) <= 4
        assert sum(map(math.exp, left.values())) < 1 + 1e-6
    plain = Hf(model=folder, dtype="float32", max_new_tokens=1, temperature=0.3)
    assert [row.details for row in ask(plain, rows)] == [None] * 3  # type: ignore[arg-type]
    assert [row.text for row in ask(plain, rows)] == [row.text for row in ours]  # type: ignore[arg-type]
