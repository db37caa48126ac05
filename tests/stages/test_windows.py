"""Windows over a whole domain: worked out by the build, and refused where they make no sense."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.errors import PartError
from fusechat.parts import Group, Groups, Judged, Seen
from fusechat.records import Pair
from fusechat.stages.build import build
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.context import UnitContext
from fusechat.stages.explain import explain_prompt
from fusechat.stages.windows import Measured, resolve, senseless
from fusechat.strategies.same_source_margin import SameSourceMargin
from fusechat.tables import read_table


def rule(**settings: Any) -> dict[str, Any]:
    dpo = {"use": "same_source_margin", "by": "rm", **settings}
    return {"chat": {"split": {"rule": "dpo_only"}, "dpo": dpo}}


def fill(workspace: Any, gaps: list[float]) -> None:
    for number, gap in enumerate(gaps):
        workspace.add(f"q{number}", "chat", gemma=[{"rm": 1 + gap}, {"rm": 1.0}])


def margins(context: UnitContext) -> list[float]:
    found = [pair.margin for pair in read_table(context.folder / "dpo", Pair)]
    return sorted(round(margin or 0.0, 6) for margin in found)


TENTHS = [n / 10 for n in range(1, 12)]  # 0.1 to 1.1, 11 gaps: a tenth between neighbours


def test_a_window_of_quantiles_keeps_the_gaps_between_them(build_workspace: Any) -> None:
    fill(build_workspace, TENTHS)
    context = build_workspace.context(rule(window="quantiles", min_margin=0.2, max_margin=0.5))
    counts = build(context)
    assert margins(context) == [0.3, 0.4, 0.5, 0.6]
    told = counts["window"]["chat"]
    assert told["window"] == "quantiles"
    assert (told["given_min_margin"], told["given_max_margin"]) == (0.2, 0.5)
    assert (told["min_margin"], told["max_margin"]) == (pytest.approx(0.3), pytest.approx(0.6))


def test_a_text_beside_itself_makes_no_gap_for_a_quantile(build_workspace: Any) -> None:
    fill(build_workspace, TENTHS)
    for number in range(30):
        same = {"rm": 1.0, "text": "the same"}
        build_workspace.add(f"same{number}", "chat", gemma=[same, same])
    context = build_workspace.context(rule(window="quantiles", min_margin=0.2, max_margin=0.5))
    build(context)
    assert margins(context) == [0.3, 0.4, 0.5, 0.6]


def test_a_window_of_z_scores_is_in_deviations_of_the_scores(build_workspace: Any) -> None:
    # Scores 1, 1, 2, 3: mean 1.75, deviation sqrt(0.6875) = 0.829; gaps 1 and 2 of it: 1.2, 2.4.
    fill(build_workspace, [1.0, 2.0])
    context = build_workspace.context(rule(window="z_scores", min_margin=2, max_margin=3))
    told = build(context)["window"]["chat"]
    assert told["min_margin"] == pytest.approx(2 * 0.6875**0.5)
    assert margins(context) == [2.0]


def test_cut_and_unjudged_responses_do_not_enter_the_deviation(build_workspace: Any) -> None:
    fill(build_workspace, [1.0, 2.0])
    odd = [{"rm": 100, "finish": "length"}, {"rm": "error"}]
    build_workspace.add("odd", "chat", gemma=odd)
    context = build_workspace.context(rule(window="z_scores", min_margin=2, max_margin=3))
    dpo = resolve(context.inputs, context.settings).domains["chat"].strategies()["dpo"]
    assert getattr(dpo, "min_margin") == pytest.approx(2 * 0.6875**0.5)  # noqa: B009


def test_only_the_sources_of_the_rule_enter_the_window(build_workspace: Any) -> None:
    fill(build_workspace, TENTHS)
    build_workspace.add("far", "chat", qwen=[{"rm": 100.0}, {"rm": 1.0}])
    rules = rule(window="quantiles", min_margin=0, max_margin=1)
    rules["chat"]["sources"] = ["gemma"]
    told = build(build_workspace.context(rules))["window"]["chat"]
    assert told["max_margin"] == pytest.approx(1.1)


def test_a_domain_without_any_gap_has_no_pair_and_no_error(build_workspace: Any) -> None:
    build_workspace.add("one", "chat", gemma=[{"rm": 1.0}])
    build_workspace.add("same", "chat", gemma=[{"rm": 1.0, "text": "t"}, {"rm": 0.0, "text": "t"}])
    for window in ("quantiles", "z_scores"):
        context = build_workspace.context(rule(window=window, min_margin=0.1, max_margin=0.9))
        counts = build(context)
        assert (counts["dpo"], counts["dropped"]) == (0, 2)
        told = counts["window"]["chat"]
        assert (told["given_min_margin"], told["min_margin"], told["max_margin"]) == (
            0.1,
            None,
            None,
        )


def test_a_prompt_is_explained_with_the_ends_that_the_build_used(build_workspace: Any) -> None:
    fill(build_workspace, TENTHS)
    context = build_workspace.context(rule(window="quantiles", min_margin=0.2, max_margin=0.5))
    prompt = build_workspace.prompts[10]
    before = explain_prompt(prompt.id, context.inputs, context.settings)
    counts = build(context)
    (context.folder / "manifest.json").write_text(json.dumps({"counts": counts}))
    after = explain_prompt(prompt.id, context.inputs, context.settings, context.folder)
    for found in (before, after):
        dpo = found["strategies"]["dpo"]
        assert dpo["settings"]["max_margin"] == pytest.approx(0.6)
        assert dpo["refused"] == "gap above max_margin"


def test_a_raw_window_that_nothing_of_this_model_fits_is_refused_with_the_numbers(
    build_workspace: Any,
) -> None:
    fill(build_workspace, [5 + n / 100 for n in range(60)])
    context = build_workspace.context(rule())
    with pytest.raises(PartError) as caught:
        build(context)
    words = str(caught.value)
    assert "build.chat.dpo" in words
    assert "of 60 gaps 0.0% lie inside 0.01 to 0.1, 0.0% below and 100.0% above" in words
    assert "0% 5, " in words
    assert "window: quantiles" in words
    assert not list(context.folder.glob("dpo/*.parquet"))
    build(build_workspace.context(rule(allow_narrow_window=True)))
    offered = rule(window="quantiles", min_margin=0.1, max_margin=0.9)
    assert build(build_workspace.context(offered))["dpo"] == 48  # 0.1 x 59 to 0.9 x 59: 6 to 53


def test_noise_above_a_tenth_of_the_window_is_refused(build_workspace: Any) -> None:
    fill(build_workspace, [0.05, 0.06])
    context = build_workspace.context(rule())
    manifest = context.inputs["annotate/rm"] / "manifest.json"

    def noise(spread: float) -> None:
        test = {"self_test": {"dtype": "bfloat16", "spread": spread}}
        manifest.write_text(json.dumps({"counts": test}))

    noise(0.0009)
    build(context)
    noise(0.002)
    with pytest.raises(PartError, match=r"vary by 0.002 .* raise min_margin to 0.02"):
        build(context)
    build(build_workspace.context(rule(min_margin=0.02)))
    # In other units the raw end counts: half of the range 0.05 to 0.06 is 0.055.
    build(build_workspace.context(rule(window="quantiles", min_margin=0.5, max_margin=1)))
    manifest.write_text(json.dumps({"counts": {}}))
    build(context)


many = st.lists(st.floats(-10, 10), min_size=50, max_size=80).map(np.array)


@pytest.mark.parametrize(
    ("gaps", "low", "high", "sense"),
    [
        ([0.05] * 49, 1.0, 2.0, True),  # too few to judge by
        ([0.05] * 50, 1.0, 2.0, False),
        ([0.05] * 50, 0.01, 0.1, True),
        ([0.05] * 50, None, 0.01, False),  # all above
        ([0.05] * 49 + [0.001], None, 0.01, True),  # one end only: one gap is enough
        ([0.05] * 49 + [0.001], 0.0, 0.01, True),  # 1 of 50 is 2%
        ([0.05] * 50 + [0.001], 0.0, 0.01, False),  # 1 of 51 is less
        ([0.001] * 30 + [0.9] * 30, 0.01, 0.1, False),  # on both sides of it
        ([0.05] * 50, None, None, True),
        ([np.nan] * 100, 0.01, 0.1, True),
    ],
)
def test_a_window_makes_sense_or_not(
    gaps: list[float], low: float | None, high: float | None, sense: bool
) -> None:
    assert (senseless(np.array(gaps), low, high) == "") == sense


@settings(max_examples=60, deadline=None)
@given(many, st.floats(0.1, 0.4), st.floats(0.6, 0.9))
def test_a_window_of_quantiles_always_makes_sense(gaps: Any, low: float, high: float) -> None:
    assert senseless(gaps, float(np.quantile(gaps, low)), float(np.quantile(gaps, high))) == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.integers(1, 5))
def test_the_deviation_of_parts_is_that_of_the_whole(scores: list[float], size: int) -> None:
    measured = Measured(SameSourceMargin(by="rm"))
    far = np.array(scores) + 1e6  # far from 0, where a sum of squares would lose all digits
    for start in range(0, len(far), size):
        rows = [
            Seen(str(n), "a", n, "stop", True, "", None, {"rm": Judged("ok", float(value))})
            for n, value in enumerate(far[start : start + size])
        ]
        measured.see(Groups.of([Group("p", "any", ("a",), tuple(rows))]))
    assert measured.deviation == pytest.approx(float(np.std(far)), abs=1e-6)


def test_settings_without_windows_of_other_units_are_left_as_they_are() -> None:
    settings = BuildSettings.model_validate(rule())
    assert resolve({}, settings) is settings
