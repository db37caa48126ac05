from __future__ import annotations

from typing import Any

import pytest

from fusechat.metrics.text import direction, format_table, percent, points


def entry(value: float | None, scored: int = 100) -> dict[str, Any]:
    return {
        "accuracy": value, "low": None if value is None else value - 0.05,
        "high": None if value is None else value + 0.05, "accuracy_strict": value,
        "scored": scored, "expected": 100, "reasons": {"cut at the limit": 100 - scored},
    }  # fmt: skip


def difference(model: str, against: str, value: float) -> dict[str, Any]:
    return {
        "model": model, "against": against, "difference": value, "low": value - 0.06,
        "high": value + 0.06, "n": 100,
    }  # fmt: skip


def metrics(scored: int = 100) -> dict[str, Any]:
    models = {
        "target": entry(0.3), "train.sft": entry(0.5), "train.dpo": entry(0.42, scored),
        "llama": entry(0.4), "通义": entry(0.35),
    }  # fmt: skip
    found = [
        difference("train.sft", "target", 0.2), difference("train.dpo", "train.sft", -0.08),
        difference("train.dpo", "llama", 0.02),
    ]  # fmt: skip
    task = {"n": 100, "models": models, "differences": found}
    return {
        "tasks": {"math": task, "code": task},
        "average": {"models": models, "differences": found},
        "best_source": "llama",
        "method": "",
    }


def test_gains_losses_and_unclear_differences_have_marks_of_their_own() -> None:
    lines = format_table(metrics(), 200).splitlines()
    marks = {line.split("  ")[0]: line for line in lines}
    assert "▲ +20.0 [+14.0, +26.0]" in marks["SFT − base"]
    assert "▼ −8.0 [−14.0, −2.0]" in marks["fused − SFT"]
    assert "· +2.0 [−4.0, +8.0]" in marks["fused − llama"]


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, format_table(metrics(97), width).splitlines())) <= width


@pytest.mark.parametrize("width", [80, 200])
def test_columns_are_aligned_with_wide_characters_among_them(width: int) -> None:
    lines = format_table(metrics(), width).splitlines()
    rows = [line for line in lines[:5] if not line.startswith("─")]
    wide = {sum(2 if ch in "通义" else 1 for ch in line) for line in rows}
    assert len(wide) == 1


def test_a_wide_terminal_shows_every_source_and_a_narrow_one_the_best() -> None:
    assert "通义" in format_table(metrics(), 200)
    narrow = format_table(metrics(), 80)
    assert "通义" not in narrow
    assert "llama*" in narrow
    assert "* best source: llama" in narrow


def test_items_that_were_not_scored_are_named_with_their_reason() -> None:
    text = format_table(metrics(97), 120)
    assert "math, fused: 3 not scored (3 × cut at the limit); strict 42.0" in text
    assert "not scored" not in format_table(metrics(), 120)


def test_a_model_without_accuracy_shows_a_dash_and_no_zero() -> None:
    made = metrics()
    made["tasks"]["math"]["models"]["target"] = entry(None, 0)
    row = next(line for line in format_table(made, 80).splitlines() if line.startswith("math"))
    assert row.split()[2] == "–"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123, "+12.3"), (-0.05, "−5.0"), (-0.0001, "0.0"), (0.0, "0.0"), (None, "–")],
)
def test_points_are_always_signed_but_for_zero(value: float | None, text: str) -> None:
    assert points(value) == text


def test_percent_has_one_decimal() -> None:
    assert percent(0.6667) == "66.7"
    assert percent(None) == "–"


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [(0.01, 0.2, "gain"), (-0.2, -0.01, "loss"), (-0.1, 0.1, "unclear"), (0.0, 0.1, "unclear"),
     (None, None, "unclear")],
)  # fmt: skip
def test_a_direction_needs_the_whole_interval_on_one_side(low, high, kind) -> None:
    assert direction({"low": low, "high": high}) == kind
