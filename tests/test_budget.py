"""Budgets: what counts, how it is shared, and that no limit is passed by more than one group."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.budget import Budget, Demand, Limits, Tally, shares, spent_lines
from fusechat.records import Response
from fusechat.settings import Price
from running import results


def response(
    tokens: int | None = 10, text: str = "x", prompt_tokens: int | None = None
) -> Response:
    return Response(
        id="i", prompt_id="p", source="s", index=0, text=text, finish="stop", tokens=tokens,
        prompt_tokens=prompt_tokens, model="m", made_from="f",
    )  # fmt: skip


def tally(rows: int, tokens: int = 10, prompt: int = 0) -> Tally:
    return Tally(rows=rows, known_tokens=rows * tokens, prompt_tokens=rows * prompt)


def asked(budget: Budget, unit: str, tokens: int = 10, rows: int = 1000) -> int:
    """Rows that a source is asked for, one at a time, until its rule ends it."""
    rule, count = budget.begin(unit), 0
    if rule([]) is not None:
        return 0
    while count < rows:
        count += 1
        if rule([response(tokens)]) is not None:
            break
    budget.end(unit)
    return count


def test_a_limit_is_shared_by_rows_where_nothing_is_known_of_the_sources() -> None:
    budget = Budget(Limits(tokens=400), {"a": Demand(100), "b": Demand(300)})
    # 400 tokens, a quarter of the rows is a's: 100 tokens, 10 rows of 10.
    assert asked(budget, "a") == 10
    assert asked(budget, "b") == 30
    assert budget.spent("tokens") == 400


def test_sources_with_longer_rows_get_more_tokens_so_that_all_cover_the_same_prompts() -> None:
    demands = {
        "short": Demand(100, expected=(0.0, 10.0)),
        "long": Demand(100, expected=(0.0, 30.0)),
    }
    budget = Budget(Limits(tokens=1000), demands)
    # 1,000 tokens are 25 prompts of 10 + 30 tokens.
    assert asked(budget, "short", tokens=10) == 25
    assert asked(budget, "long", tokens=30) == 25


def test_what_a_source_leaves_over_goes_to_those_after_it() -> None:
    budget = Budget(Limits(tokens=400), {"a": Demand(100), "b": Demand(100)})
    assert asked(budget, "a", rows=3) == 3  # ended by itself: 30 tokens of its 200
    assert asked(budget, "b") == 37


def test_a_second_call_with_the_same_limit_asks_for_nothing() -> None:
    first = Budget(Limits(tokens=400), {"a": Demand(100), "b": Demand(100)})
    got = {name: asked(first, name) for name in ("a", "b")}
    held = {name: Demand(100, held=tally(rows)) for name, rows in got.items()}
    second = Budget(Limits(tokens=400), held)
    assert second.begin("a")([]) == "--max-tokens 400 is used up"
    assert second.begin("b")([]) == "--max-tokens 400 is used up"


def test_a_resumed_call_ends_where_an_unbroken_one_does() -> None:
    killed = {"a": Demand(100, held=tally(7)), "b": Demand(100)}
    budget = Budget(Limits(tokens=400), killed)
    assert 7 + asked(budget, "a") == 20
    assert asked(budget, "b") == 20


def test_a_source_that_is_ahead_waits_for_the_others() -> None:
    budget = Budget(Limits(tokens=400), {"a": Demand(100, held=tally(30)), "b": Demand(100)})
    reason = budget.begin("a")([])
    assert reason == "--max-tokens 400: it has its share, the sources after it do not"
    budget.end("a")
    assert asked(budget, "b") == 10


def test_a_source_that_has_all_its_rows_is_never_stopped() -> None:
    budget = Budget(Limits(tokens=1), {"a": Demand(10, held=tally(10))})
    assert budget.begin("a")([]) is None


def test_cost_counts_prompt_and_response_tokens_by_each_sources_price() -> None:
    prices = Price(prompt=1.0, response=2.0)
    budget = Budget(Limits(cost=0.01), {"a": Demand(1000, price=prices)})
    rule = budget.begin("a")
    # A row of 100 prompt and 200 response tokens costs 0.0001 + 0.0004 = 0.0005: 20 rows.
    told = [rule([response(200, prompt_tokens=100)]) for _ in range(20)]
    assert told[:19] == [None] * 19
    assert told[19] is not None
    assert budget.spent("cost") == pytest.approx(0.01)


def test_a_free_source_is_not_stopped_by_a_cost_limit() -> None:
    demands = {
        "paid": Demand(10, price=Price(prompt=0, response=1e6), held=tally(1)),
        "free": Demand(10, price=Price(prompt=0, response=0)),
    }
    budget = Budget(Limits(cost=1.0), demands)
    assert budget.begin("free")([response()] * 5) is None
    assert budget.begin("paid")([]) is not None  # ten tokens at 1 each are held


def test_hours_are_shared_too_and_count_only_while_a_source_runs() -> None:
    now = [0.0]
    budget = Budget(Limits(hours=2), {"a": Demand(100), "b": Demand(100)}, clock=lambda: now[0])
    now[0] = 5000.0  # reading prompts
    rule = budget.begin("a")
    now[0] += 3599
    assert rule([response()]) is None
    now[0] += 1
    assert rule([response()]) is not None
    budget.end("a")
    now[0] += 9999  # annotating
    assert budget.spent("hours") == 1
    rule = budget.begin("b")
    now[0] += 3600
    assert rule([]) is not None


def test_tokens_that_are_not_told_are_estimated_from_the_text_and_said_so() -> None:
    seen = Tally()
    seen.add(response(None, "x" * 40))
    assert seen.response_tokens == 10  # 4 bytes a token
    seen.add(response(2000, "x" * 4000))  # now 2 bytes a token are measured
    assert seen.response_tokens == 2000 + 20
    budget = Budget(Limits(tokens=5000), {"a": Demand(9, held=seen)})
    assert "(1 rows by estimate)" in "\n".join(spent_lines(budget.report()))


def test_failed_responses_cost_nothing_and_are_no_estimate() -> None:
    failed = response(None, "").model_copy(update={"finish": "error", "error": "dead"})
    seen = Tally()
    seen.add(failed)
    assert (seen.tokens, seen.guessed_rows, seen.rows) == (0, 0, 1)


def test_the_report_says_what_is_missing_and_how_to_go_on() -> None:
    budget = Budget(Limits(tokens=100), {"a": Demand(100), "b": Demand(20, held=tally(20))})
    asked(budget, "a")
    text = "\n".join(spent_lines(budget.report()))
    assert "100 responses are missing" in text  # 200 tokens were held before: nothing was asked
    assert "a higher limit" in text


needs = st.lists(st.tuples(st.floats(0, 1e6), st.floats(1, 1e6)), min_size=1, max_size=8)


@given(st.floats(0.001, 1e6), needs)
def test_shares_use_up_the_amount_and_end_at_one_level(
    amount: float, wanted: list[tuple[float, float]]
) -> None:
    found = shares(amount, wanted)
    assert math.fsum(found) == pytest.approx(amount, rel=1e-6)
    levels = [
        (held + share) / whole
        for (held, whole), share in zip(wanted, found, strict=True)
        if share > 1e-6 * amount
    ]
    assert max(levels) <= min(levels) * (1 + 1e-3) + 1e-6
    waiting = [
        held / whole for (held, whole), share in zip(wanted, found, strict=True) if share == 0
    ]
    assert all(level >= min(levels) * (1 - 1e-6) for level in waiting)


@given(st.integers(1, 500), st.lists(st.integers(0, 60), min_size=1, max_size=4), st.data())
def test_a_limit_is_passed_by_less_than_one_row_a_source(
    limit: int, rows: list[int], data: st.DataObject
) -> None:
    budget = Budget(Limits(tokens=limit), {str(i): Demand(n) for i, n in enumerate(rows)})
    largest = 0
    for i, n in enumerate(rows):
        size = data.draw(st.integers(1, 20))
        largest = max(largest, size)
        asked(budget, str(i), size, n)
    assert budget.spent("tokens") <= limit + largest * len(rows)


def test_a_limited_run_killed_again_and_again_keeps_to_its_limit_and_later_ends_whole(
    tmp_path: Path,
) -> None:
    root = Path(__file__).resolve().parent.parent
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)

    def call(workspace: str, *flags: str, **environment: str) -> tuple[int, str]:
        more = [f"--set=sources.{name}.samples=64" for name in ("parrot", "herald")]
        command = [sys.executable, "-m", "fusechat", "run", "recipes/tiny.yaml", "--quiet", *more]
        done = subprocess.run(
            [*command, "--workspace", str(tmp_path / workspace), *flags],
            cwd=root, env=os.environ | {"PYTHONPATH": paths} | environment,
            capture_output=True, text=True, start_new_session=True, timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    for moment in ("5", "14", "23"):
        killed, _ = call("ws", "--max-tokens", "2000", FUSECHAT_KILL_AT=f"*:{moment}")
        assert killed in (0, -signal.SIGKILL)
    code, out = call("ws", "--max-tokens", "2000")
    assert code == 0, out
    (budget,) = (tmp_path / "ws").glob("runs/*/budget.json")
    spent = json.loads(budget.read_text(encoding="utf-8"))
    assert sum(source["missing"] for source in spent["sources"].values()) > 0
    code, out = call("ws")
    assert code == 0, out
    assert call("whole")[0] == 0
    assert results(tmp_path / "ws") == results(tmp_path / "whole")
