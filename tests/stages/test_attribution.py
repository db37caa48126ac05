"""Whose responses win, what the scores know, other windows, other sources: by hand, exactly."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stages.pools import CHAT, MATH, Pool, columns

from fusechat.records import Message, Pair
from fusechat.stages.attribution_numbers import Comparisons, Sample, auc, quantiles, spearman
from fusechat.stages.attribution_parity import read_styles
from fusechat.tables import write_table

_value = st.integers(0, 6).map(lambda n: n / 10)
_values = st.lists(_value, max_size=12)


@given(_values, _values)
def test_auc_is_the_share_of_pairs_in_which_the_right_one_is_higher(
    right: list[float], wrong: list[float]
) -> None:
    pairs = list(product(right, wrong))
    found = auc(np.array(right), np.array(wrong))
    if not pairs:
        assert found is None
        return
    assert found == pytest.approx(sum((r > w) + (r == w) / 2 for r, w in pairs) / len(pairs))


def test_rank_correlation_by_hand() -> None:
    # Ranks 1, 2, 3 against 2, 1, 3: 1 - 6 x (1 + 1 + 0) / (3 x 8) = 0.5.
    assert spearman(np.array([5.0, 6.0, 9.0]), np.array([20.0, 10.0, 30.0])) == pytest.approx(0.5)
    # Ties at their mean rank: 1.5, 1.5, 3 against 1, 2, 3 has the cosine 1.5 / sqrt(1.5 x 2).
    assert spearman(np.array([0.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(
        1.5 / np.sqrt(3.0)
    )
    assert spearman(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None
    assert spearman(np.array([1.0]), np.array([1.0])) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), _value), max_size=20))
def test_comparisons_inside_a_cell_are_those_of_all_its_pairs(
    rows: list[tuple[int, int, float]],
) -> None:
    rows.sort(key=lambda row: row[0])
    found = Comparisons()
    found.add(*(np.array([row[i] for row in rows]) for i in range(3)))
    pairs = [
        (low, high) for low, high in product(rows, rows) if low[0] == high[0] and low[1] < high[1]
    ]
    assert found.pairs == len(pairs)
    assert found.higher == sum(high[2] > low[2] for low, high in pairs)
    assert found.ties == sum(high[2] == low[2] for low, high in pairs)


@given(st.lists(st.lists(_value, max_size=9), max_size=6), st.integers(1, 8))
def test_a_sample_is_even_counts_all_and_does_not_see_the_blocks(
    blocks: list[list[float]], most: int
) -> None:
    stream = [value for block in blocks for value in block]
    pieces, whole = Sample(most=most), Sample(most=most)
    for block in blocks:
        pieces.add(np.array(block))
    whole.add(np.array(stream))
    assert pieces.n == len(stream)
    assert pieces.total[0] == pytest.approx(sum(stream))
    kept = pieces.column()
    assert kept.tolist() == whole.column().tolist()
    assert len(kept) <= most
    step = 1
    while len(stream[::step]) > most:
        step *= 2
    assert kept.tolist() == stream[::step]
    assert pieces.sampled == (step > 1)


def test_pooled_samples_weigh_every_row_the_same() -> None:
    few, many = Sample(most=4), Sample(most=4)
    few.add(np.arange(4.0))
    many.add(np.arange(100.0, 108.0))
    together = Sample.pooled([few, many])
    assert sorted(together.column()) == [0, 2, 100, 102, 104, 106]
    assert (together.n, together.mean()) == (12, pytest.approx((6 + 828) / 12))
    assert quantiles([]) == {}
    assert quantiles([3.0, 1.0, 2.0])["0.5"] == 2.0


def domain(pool: Pool, rule: dict[str, Any]) -> dict[str, Any]:
    found, _ = pool.analysed({"math": rule})
    json.dumps(found, allow_nan=False)
    part: dict[str, Any] = found["domains"]["math"]
    return part


def test_wins_and_duels_by_hand() -> None:
    pool = Pool("gemma", "qwen", "llama")
    pool.add(
        "math", gemma=[{"rm": 0.3, "ok": 1}, {"rm": 0.25, "ok": 0}], qwen=[{"rm": 0.2, "ok": 1}]
    )
    pool.add(
        "math", gemma=[{"rm": 0.1, "ok": 1}], qwen=[{"rm": 0.4, "ok": 1}, {"rm": 0.35, "ok": 0}]
    )
    pool.add("math", gemma=[{"rm": 0.2, "ok": 1}], qwen=[{"rm": 0.2, "ok": 1}])
    pool.add("math", gemma=[{"rm": 0.9, "ok": 0}], qwen=[{"rm": 0.2, "ok": 1, "finish": "length"}])
    found = domain(pool, MATH)["attribution"]
    # The third prompt is a tie, which the source named first wins; the fourth gives nothing.
    assert found["picks"] == {
        "sft": {"gemma": 2, "qwen": 1, "llama": 0}, "dpo": {"gemma": 1, "qwen": 1, "llama": 0},
    }  # fmt: skip
    assert found["rows"] == {"sft": {"gemma": 1}, "dpo": {"gemma": 1, "qwen": 1}}
    assert found["only"]["sft"] == {"gemma": 0, "qwen": 0, "llama": 0}
    assert found["only"]["dpo"] == {"gemma": 1, "qwen": 1, "llama": 0}
    duels = found["duels"]
    assert duels["measure"] == "best score"
    assert duels["pairs"][0] == {
        "a": "gemma", "b": "qwen", "n": 3, "a_wins": 1, "b_wins": 1, "ties": 1,
    }  # fmt: skip
    assert [pair["n"] for pair in duels["pairs"]] == [3, 0, 0]
    gemma = found["sources"]["gemma"]
    assert (gemma["responses"], gemma["whole"], gemma["cut"]) == (5, 5, 0)
    assert gemma["right"] == {"ok": {"judged": 5, "right": 3}}
    assert gemma["mean_best"] == pytest.approx(0.2)
    assert found["sources"]["qwen"]["cut"] == 1


def test_without_scores_sources_are_compared_by_how_often_they_are_right() -> None:
    rule = {
        "split": {"rule": "sft_only"},
        "sft": {"use": "best_of", "by": None, "correct_by": "ok"},
    }
    pool = Pool("gemma", "qwen")
    pool.add("math", gemma=[{"ok": 1}, {"ok": 0}], qwen=[{"ok": 1}])
    pool.add("math", gemma=[{"ok": 1}, {"ok": 1}], qwen=[{"ok": 1}, {"ok": "error"}])
    pool.add("math", gemma=[{"ok": 1}], qwen=[{"ok": "error"}])
    duels = domain(pool, rule)["attribution"]["duels"]
    # 1/2 against 1, 1 against 1; the third prompt compares with nothing.
    assert duels == {
        "measure": "share right",
        "pairs": [{"a": "gemma", "b": "qwen", "n": 2, "a_wins": 0, "b_wins": 1, "ties": 1}],
    }


def test_what_the_reward_model_knows_by_hand() -> None:
    pool = Pool("gemma", "qwen")
    pool.add("math", gemma=[{"rm": 0.3, "ok": 1}, {"rm": 0.1, "ok": 0}, {"rm": 0.5, "ok": 0}])
    pool.add(
        "math", gemma=[{"rm": 0.2, "ok": 1}], qwen=[{"rm": 0.4, "ok": 0}, {"rm": "error", "ok": 1}]
    )
    (judge,) = domain(pool, MATH)["judges"]
    assert (judge["score"], judge["verdict"]) == ("rm", "ok")
    gemma = judge["sources"]["gemma"]
    # Right 0.3, 0.2 against wrong 0.1, 0.5: two of four pairs; inside the first prompt one of two.
    assert gemma["auc"] == 0.5
    assert gemma["same_prompt"] == {"pairs": 2, "higher": 1, "ties": 0, "share": 0.5}
    assert gemma["right"]["mean"] == pytest.approx(0.25)
    assert gemma["wrong"]["quantiles"]["1"] == 0.5
    assert judge["sources"]["qwen"]["auc"] is None
    assert judge["sources"]["qwen"]["wrong"]["n"] == 1
    # All: right 0.3, 0.2; wrong 0.1, 0.5, 0.4: 0.1 is below both.
    assert judge["all"]["auc"] == pytest.approx(2 / 6, abs=1e-6)
    assert not judge["all"]["sampled"]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1, 0, 0.5, 0], True),  # a share of the checks met: right where all are
        ([1, 0, 1, 1], True),
        ([0, 0, 0, 0], True),
        ([0.9, 0.5, 0.1, 0], False),  # nothing is right, so it is a score
        ([1, 5, 10, 0], False),
        ([1, -1, 0, 0], False),
    ],
)
def test_an_annotator_that_no_rule_reads_is_a_verdict_where_it_looks_like_one(
    values: list[float], verdict: bool
) -> None:
    pool = Pool("gemma")
    for one, other in (values[:2], values[2:]):
        pool.add("math", gemma=[{"rm": 0.2, "oracle": one}, {"rm": 0.1, "oracle": other}])
    found, _ = pool.analysed({"math": CHAT}, block=1)
    judges = found["domains"]["math"]["judges"]
    assert [(j["score"], j["verdict"]) for j in judges] == ([("rm", "oracle")] if verdict else [])
    if verdict:
        assert judges[0]["all"]["right"]["n"] == sum(value == 1 for value in values)


def test_a_score_of_many_values_is_no_verdict() -> None:
    pool = Pool("gemma")
    for number in range(20):
        pool.add("math", gemma=[{"rm": 0.2, "other": number / 19}, {"rm": 0.1, "other": 1}])
    assert domain(pool, CHAT)["judges"] == []


def test_shares_of_up_to_sixteen_checks_are_verdicts_however_many_values_there_are() -> None:
    shares = sorted({met / checks for checks in range(1, 17) for met in range(checks + 1)})
    assert len(shares) == 81
    pool = Pool("gemma")
    for value in shares:
        pool.add("math", gemma=[{"rm": 0.2, "other": 1 - value}, {"rm": 0.1, "other": value}])
    (judge,) = domain(pool, CHAT)["judges"]
    assert (judge["score"], judge["verdict"]) == ("rm", "other")
    assert (judge["all"]["right"]["n"], judge["all"]["wrong"]["n"]) == (2, 160)


def test_reward_against_length_by_hand() -> None:
    pool = Pool("gemma")
    rows = [(0.1, 10), (0.2, 30), (0.3, 20), (0.3, 20), (0.9, None)]
    pool.add("math", gemma=[{"rm": rm, "ok": 1, "tokens": tokens} for rm, tokens in rows])
    pool.add("math", gemma=[{"rm": 0.5, "ok": 1, "tokens": 5}])
    (found,) = domain(pool, MATH)["lengths"]
    # Longer against shorter in the first prompt: 30>10 up, 20>10 up twice, 30>20 down twice.
    assert found["all"]["same_prompt"] == {"pairs": 5, "higher": 3, "ties": 0, "share": 0.6}
    assert found["all"]["n"] == 5
    assert found["sources"]["gemma"] == found["all"]


def test_length_parity_of_the_pairs_in_the_table_by_hand() -> None:
    pool = Pool("gemma", "qwen")
    for longer in (34, 10, None):
        pool.add(
            "math",
            gemma=[{"rm": 0.2, "ok": 1, "tokens": longer}, {"rm": 0.15, "ok": 0, "tokens": 20}],
        )
    pool.add("math", qwen=[{"rm": 0.2, "ok": 1, "tokens": 7}, {"rm": 0.15, "ok": 0, "tokens": 7}])
    found = domain(pool, MATH)["parity"]
    gemma = found["sources"]["gemma"]
    assert (gemma["pairs"], gemma["counted"]) == (3, 2)
    assert (gemma["longer"], gemma["equal"], gemma["mean"]) == (0.5, 0, 2)
    assert (gemma["mean_chosen"], gemma["mean_rejected"]) == (22, 20)
    assert (gemma["quantiles"]["0"], gemma["quantiles"]["1"]) == (-10, 14)
    assert found["sources"]["qwen"]["equal"] == 1
    assert found["all"]["pairs"] == 4
    assert found["all"]["longer"] == pytest.approx(1 / 3, abs=1e-6)
    only_sft = {**MATH, "split": {"rule": "pair_else_sft", "dpo_fraction": 0}}
    assert "parity" not in domain(pool, only_sft)


def test_styles_are_read_from_the_pairs_of_the_table(tmp_path: Path) -> None:
    chosen = [
        "- a\n- b",
        "see `x`",
        "```py\n1\n```\n# not a heading?",
        "## Title\n**bold**",
        "1. one",
    ]
    rows = [
        Pair(
            prompt_id=str(n), messages=(Message(role="user", content="q"),), chosen=text,
            rejected="a - b # c ** d", chosen_id="c", rejected_id="r", origin="set",
            source="gemma" if n < 4 else "qwen", domain="chat",
        )
        for n, text in enumerate(chosen)
    ]  # fmt: skip
    write_table(tmp_path / "dpo", rows, Pair)
    found = read_styles(tmp_path / "dpo")["chat"]
    assert found["gemma"]["style_pairs"] == 4
    assert {name: share["chosen"] for name, share in found["gemma"]["style"].items()} == {
        "code fence": 0.25, "list": 0.25, "heading": 0.5, "bold": 0.25,
    }  # fmt: skip
    assert all(share["rejected"] == 0 for share in found[""]["style"].values())
    assert found["qwen"]["style"]["list"]["chosen"] == 1
    assert read_styles(tmp_path / "none") == {}


_score = st.sampled_from([0.1, 0.105, 0.11, 0.15, 0.2, 0.21, 0.3])
_row = st.fixed_dictionaries(
    {"rm": _score, "ok": st.sampled_from([0, 1, "error"]), "text": st.sampled_from("abc")}
)
_pool = st.lists(
    st.fixed_dictionaries(
        {"gemma": st.lists(_row, max_size=3), "qwen": st.lists(_row, max_size=3)}
    ),
    min_size=1,
    max_size=7,
)


def drawn(prompts: list[dict[str, Any]]) -> Pool:
    pool = Pool("gemma", "qwen")
    for number, sources in enumerate(prompts):
        pool.add("math", "ab"[number % 2], **sources)
    return pool


@settings(max_examples=40, deadline=None)
@given(_pool, st.sampled_from(["chat", "math", "loose", "first only"]))
def test_the_window_curves_are_what_the_strategy_gives_under_those_windows(
    prompts: list[dict[str, Any]], kind: str
) -> None:
    changes = {"loose": {"require_higher_score": False}, "first only": {"fallback": False}}
    base = CHAT if kind == "chat" else MATH
    rule = {**base, "dpo": {**base["dpo"], **changes.get(kind, {})}}
    pool = drawn(prompts)
    found = domain(pool, rule)["windows"]
    groups = columns(pool.groups)

    def given_by(low: float | None, high: float | None) -> int:
        from fusechat.parts import load_part

        part = load_part("strategies", {**rule["dpo"], "min_margin": low, "max_margin": high})
        said = part.select_all(groups)  # type: ignore[attr-defined]
        return int((said.refusal == -1).sum())

    assert found["kept"] == given_by(0.01, 0.1)
    assert found["without_min"] == given_by(None, 0.1)
    assert found["without_max"] == given_by(0.01, None)
    assert found["without_window"] == given_by(None, None)
    curve = found["max_curve"]
    assert curve["prompts"] == [given_by(0.01, high) for high in curve["at"]]
    curve = found["min_curve"]
    assert curve["prompts"] == [given_by(low, 0.1) for low in curve["at"]]
    grid = found["grid"]
    for low, row in zip(grid["min"][:3], grid["prompts"], strict=False):
        assert row == [given_by(low, high) for high in grid["max"]]
    for source in found["sources"].values():
        assert source["n"] == source["under"] + source["inside"] + source["over"]
        assert source["n"] == sum(source["counts"])


def test_windows_that_gaps_alone_cannot_tell_say_so() -> None:
    pool = drawn([{"gemma": [{"rm": 0.2, "ok": 1}, {"rm": 0.1, "ok": 0, "text": "b"}], "qwen": []}])
    asked = {"fallback": False, "source_choice": "random"}
    found = domain(pool, {**MATH, "dpo": {**MATH["dpo"], **asked}})
    assert "what-if" in found["windows"]["note"]
    assert found["windows"]["max_curve"] == {}
    assert "what-if" in found["ablation"]["note"]
    assert found["ablation"]["without"] == {}
    lowest = {**MATH["dpo"], "negative_choice": "lowest_within_window"}
    assert "lower bound" in domain(pool, {**MATH, "dpo": lowest})["windows"]["note"]


def test_without_fallback_only_the_gap_of_the_best_source_counts() -> None:
    near, far = [{"rm": 0.2}, {"rm": 0.15, "text": "b"}], [{"rm": 0.9}, {"rm": 0.4, "text": "b"}]
    pool = drawn([{"gemma": near, "qwen": far}])
    found = domain(pool, {**CHAT, "dpo": {**CHAT["dpo"], "fallback": False}})["windows"]
    assert (found["kept"], found["without_max"]) == (0, 1)
    assert found["quantiles"]["0.5"] == pytest.approx(0.5)
    assert (found["sources"]["gemma"]["n"], found["sources"]["qwen"]["n"]) == (0, 1)
    assert domain(pool, CHAT)["windows"]["kept"] == 1


def test_the_best_score_of_pairs_only_is_that_of_sources_that_give_one() -> None:
    near, far = [{"rm": 0.2}, {"rm": 0.15, "text": "b"}], [{"rm": 0.9}, {"rm": 0.4, "text": "b"}]
    pool = drawn([{"gemma": near, "qwen": far}])
    rule = {"split": {"rule": "dpo_only"}, "dpo": CHAT["dpo"]}
    ablation = domain(pool, rule)["ablation"]
    assert ablation["all"]["mean_best"] == pytest.approx(0.2)
    assert ablation["alone"]["qwen"]["mean_best"] is None


SPLITS = [
    {"rule": "filter_then_share", "sft_share": 0.4},
    {"rule": "filter_then_share", "sft_share": 0.5, "no_pair_to_sft": True},
    {"rule": "split_then_filter", "sft_share": 0.5},
    {"rule": "split_then_filter", "sft_share": 0.5, "per": "domain", "no_pair_to_sft": True},
    {"rule": "pair_else_sft", "dpo_fraction": 0.4},
    {"rule": "pair_else_sft", "allow_overlap": True},
]


@settings(max_examples=40, deadline=None)
@given(_pool, st.sampled_from(SPLITS), st.sampled_from([CHAT, MATH]))
def test_builds_with_other_sources_are_those_that_a_rule_of_these_sources_gives(
    prompts: list[dict[str, Any]], split: dict[str, Any], base: dict[str, Any]
) -> None:
    rule, pool = {**base, "split": split}, drawn(prompts)
    ablation = domain(pool, rule)["ablation"]
    assert ablation["all"]["right"] == {
        "ok": sum(any(r["ok"] == 1 for rows in p.values() for r in rows) for p in prompts)
    } or not any(r["ok"] != "error" for p in prompts for rows in p.values() for r in rows)
    for what, name, sources in (
        ("without", "gemma", ["qwen"]),
        ("without", "qwen", ["gemma"]),
        ("alone", "gemma", ["gemma"]),
    ):
        real = domain(pool, {**rule, "sources": sources})
        said = ablation[what][name]
        funnel = real["funnel"]
        assert said == {
            **real["ablation"]["all"],
            **{key: funnel[key] for key in ("sft_prompts", "dpo_prompts", "dropped")},
            "right": said["right"],
        }


def test_a_strategy_that_may_pair_two_sources_is_not_taken_apart_by_source() -> None:
    pool = drawn([{"gemma": [{"rm": 0.2, "ok": 1}], "qwen": [{"rm": 0.1, "ok": 0}]}])
    rule = {"split": {"rule": "dpo_only"}, "dpo": {"use": "outside_parts:Across"}}
    found = domain(pool, rule)
    assert found["funnel"]["dpo_prompts"] == 1
    assert found["ablation"]["without"] == found["ablation"]["alone"] == {}
    assert "what-if --drop-one" in found["ablation"]["note"]


def test_leaving_out_a_source_that_gives_nothing_changes_nothing() -> None:
    rows = [{"rm": 0.2, "ok": 1}, {"rm": 0.15, "ok": 0}]
    pool = drawn([{"gemma": rows, "qwen": []}, {"gemma": rows[:1], "qwen": []}])
    ablation = domain(pool, MATH)["ablation"]
    assert ablation["without"]["qwen"] == ablation["all"] == ablation["alone"]["gemma"]
    assert ablation["without"]["gemma"] == {
        "sft_prompts": 0, "dpo_prompts": 0, "dropped": 2, "mean_best": None, "right": {"ok": 0},
    }  # fmt: skip
