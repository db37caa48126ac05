"""Who is held against whom, on which items they differ, and when the gate closes."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark_made import items
from fusechat.metrics.benchmark_gate import gate, tasks_gate
from fusechat.metrics.benchmark_pairs import (
    examples,
    headline_pair,
    outcomes,
    pairs_to_compare,
    role,
)


@pytest.mark.parametrize(
    ("models", "pairs", "headline"),
    [
        (
            ["target", "train.sft", "train.dpo"],
            [("train.sft", "target"), ("train.dpo", "train.sft"), ("train.dpo", "target")],
            ("train.dpo", "target"),
        ),
        (["base", "sft"], [("sft", "base")], ("sft", "base")),
        (
            ["fused", "base", "other"],
            [("fused", "base"), ("other", "base")],
            ("fused", "base"),
        ),
        (["a", "b", "c"], [("b", "a"), ("c", "a")], ("c", "a")),
        (["alone"], [], None),
        ([], [], None),
    ],
)
def test_models_are_held_against_the_base_or_else_the_first(
    models: list[str], pairs: list[tuple[str, str]], headline: tuple[str, str] | None
) -> None:
    assert pairs_to_compare(models) == pairs
    assert headline_pair(models) == headline


def test_only_known_names_have_a_published_column() -> None:
    assert [role(name) for name in ("target", "sft", "train.dpo", "gemma")] == [
        "base", "sft", "fused", None,
    ]  # fmt: skip


def test_items_are_counted_where_both_have_a_value() -> None:
    assert outcomes(items([1.0, 0.0, 0.5, None]), items([0.0, 1.0, 0.5, 1.0])) == {
        "wins": 1, "ties": 1, "losses": 1,
    }  # fmt: skip


def test_examples_are_two_of_each_kind_and_the_same_for_any_order() -> None:
    better = items([1.0] * 5 + [0.0] * 4)
    worse = items([0.0] * 5 + [0.5] * 3 + [0.0])
    found = examples({"base": worse, "fused": better}, ["base", "fused"])
    assert found is not None
    assert (found["model"], found["against"]) == ("fused", "base")
    assert [len(found[kind]) for kind in ("wins", "losses")] == [2, 2]
    assert all(one["value"] > one["against"] for one in found["wins"])
    turned = [7, 6, 5, 4, 3, 2, 1, 0, 8]
    again = examples({"base": worse.take(turned), "fused": better.take(turned)}, ["base", "fused"])
    assert again == found
    assert examples({"fused": better}, ["fused"]) is None


def row(status: str, high: float | None, reason: str = "") -> dict[str, Any]:
    told = {
        "model": "fused", "against": "base", "difference": -2.0, "low": -3.0, "high": high, "n": 7,
    }  # fmt: skip
    return {
        "title": f"{status} {high}", "status": status, "reason": reason, "scale": 100.0,
        "differences": [told],
    }  # fmt: skip


def test_the_gate_closes_only_where_the_whole_interval_is_below_zero() -> None:
    rows = [
        row("ok", -0.1), row("ok", 0.0), row("ok", 0.5), row("partial", -1.0, "no verdict"),
        row("ok", None), {"title": "x", "status": "skipped", "reason": "no file"},
        {"title": "y", "status": "skipped", "reason": "not asked for"},
    ]  # fmt: skip
    found = gate({"rows": rows}, ("fused", "base"))
    assert found.worse == ("ok -0.1: ▼ −2.0 [−3.0, −0.1] over 7 items",)
    assert found.incomplete == ("partial -1.0: partial: no verdict", "x: skipped: no file")
    assert found.compared == 3
    assert gate({"rows": rows}, None).worse == ()


def test_tasks_are_gated_by_their_strict_differences_in_points() -> None:
    told = {
        "model": "train.dpo", "against": "target", "difference": -0.2, "low": -0.3, "high": -0.1,
        "n": 50,
    }  # fmt: skip
    metrics = {"tasks": {"math": {"differences": [told]}, "code": {"differences": []}}}
    found = tasks_gate(metrics, ("train.dpo", "target"))
    assert found.worse == ("math: ▼ −20.0 [−30.0, −10.0] over 50 items",)
    assert found.compared == 1
