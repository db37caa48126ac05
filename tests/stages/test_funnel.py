"""The funnel: what every prompt gave or why nothing, by prompt set, domain and source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.stages.pools import CHAT, MATH, Pool, columns, one_response

from fusechat.groups import PICKED, Selection, select_each
from fusechat.parts import Strategy, load_part, part_names
from fusechat.stages.funnel import CAUSES, REASONS, TARGET, WORDS, words_of

NAMES = [word.word for word in WORDS]

OPEN = {"min_margin": None, "max_margin": None}

_row = st.fixed_dictionaries(
    {
        "rm": st.one_of(st.sampled_from([0.1, 0.105, 0.15, 0.3]), st.just("error")),
        "ok": st.sampled_from([0, 1, "unscorable", "error"]),
        "text": st.sampled_from(["a", "b", ""]),
        "finish": st.sampled_from(["stop", "stop", "stop", "length", "error"]),
    }
)
_rows = st.lists(_row, max_size=3)
_prompts = st.lists(st.fixed_dictionaries({"gemma": _rows, "qwen": _rows}), min_size=1, max_size=8)


def pool_of(prompts: list[dict[str, Any]], domain: str = "math") -> Pool:
    pool = Pool("gemma", "qwen")
    for number, sources in enumerate(prompts):
        pool.add(domain, "ab"[number % 2], **sources)
    return pool


def parts() -> list[Strategy]:
    """Every strategy of the package, in the ways that change its reasons."""
    scored = {"by": "rm", "correct_by": "ok"}
    ways: dict[str, list[dict[str, Any]]] = {
        "best_of": [{"by": "rm"}, {"by": None}, scored, {"by": None, "correct_by": "ok"}],
        "same_source_margin": [{"by": "rm"}, {"by": "rm", **OPEN}],
        "correct_over_incorrect": [
            scored, {**scored, **OPEN}, {**scored, "require_higher_score": False},
            {"by": None, "correct_by": "ok", **OPEN},
        ],
        "cross_source_margin": [{"by": "rm"}, {"by": "rm", "on_same_source_prompts": False}],
        "cross_source_correct": [scored, {"by": None, "correct_by": "ok", **OPEN}],
        "all_sources": [{"by": "rm"}, scored],
        "each_source_margin": [{"by": "rm"}, {**scored, **OPEN}],
        "source_over_target": [
            {"by": "rm", "target": "qwen", "min_margin": 0.1}, {**scored, "target": "qwen"},
        ],
    }  # fmt: skip
    assert set(ways) == set(part_names("strategies")), "say here how the new strategy is used"
    made = [load_part("strategies", {"use": n, **way}) for n in ways for way in ways[n]]
    return [part for part in made if isinstance(part, Strategy)]


RIGHT, WRONG = {"rm": 0.2, "ok": 1}, {"rm": 0.15, "ok": 0}
CASES: list[tuple[list[dict[str, Any]], str]] = [
    ([], "no response"),
    ([{**RIGHT, "finish": "length"}, {"finish": "error", "text": ""}], "truncated"),
    ([{"finish": "error", "text": ""}, {"text": ""}], "failed"),
    ([{"text": ""}], "empty"),
    ([{"rm": 0.2, "ok": "error"}, {"rm": 0.1, "ok": "unscorable"}], "unscorable"),
    ([{"rm": 0.2, "ok": "error"}, {"rm": 0.1}], "judge failed"),
    ([{"rm": 0.2}], "no score"),
    ([{"rm": "error"}], "no score"),
    ([{"rm": "unscorable", "ok": 1}, WRONG], "unscorable"),
    ([RIGHT, {"ok": 0, "rm": "error"}], "judge failed"),
    ([WRONG, WRONG, {"rm": 0.2, "ok": "unscorable"}], "all wrong"),
    ([RIGHT, RIGHT], "all right"),
    ([{**RIGHT, "text": "same"}, {**WRONG, "text": "same"}], "identical"),
    ([RIGHT, {"rm": 0.3, "ok": 0}], "negative margin"),
    ([RIGHT, {"rm": 0.195, "ok": 0}], "margin under"),
    ([RIGHT, {"rm": 0.05, "ok": 0}], "margin over"),
]
"""Responses of one source -> the word for its prompt."""
EQUAL = [RIGHT, {"rm": 0.2, "ok": 0}]


def test_every_reason_of_every_strategy_has_a_word_and_every_word_is_used() -> None:
    seen: set[str] = set()

    @settings(max_examples=60, deadline=None)
    @given(_prompts)
    @example([{"gemma": rows} for rows in (*(rows for rows, _ in CASES), EQUAL)])
    @example(
        [{"gemma": [{"rm": 0.4, "text": "x"}], "qwen": [{"rm": 0.3}, {"rm": 0.1, "text": "x"}]}]
    )
    def look(prompts: list[dict[str, Any]]) -> None:
        groups = columns(pool_of(prompts).groups)
        for part in parts():
            seen.update(plain(select_each(part, groups)))
            assert plain(part.select_all(groups)) <= set(REASONS)

    look()
    assert seen <= set(REASONS), "the funnel's table lacks a word for these"
    assert seen == set(REASONS), "no strategy gives these reasons any more"
    named = {*REASONS.values()} - set(CAUSES) | {w for words in CAUSES.values() for w in words}
    assert named | {"no rule", "other"} == set(NAMES)


def plain(said: Selection) -> set[str]:
    """The reasons without the mark that they are of the target's own responses."""
    return {reason.removeprefix(TARGET) for reason in said.refusals}


def test_what_the_target_lacks_is_not_laid_to_the_sources() -> None:
    triple = {"use": "source_over_target", "by": "rm", "target": "own"}
    pool = Pool("gemma", "own")
    pool.add("any", gemma=[{"rm": 0.1}], own=[{"finish": "length"}])
    pool.add("any", gemma=[{"finish": "length"}], own=[{"rm": 0.1}, {"rm": 0.2}])
    pool.add("any", gemma=[{"rm": 0.1}, {"rm": "error"}], own=[{"rm": "unscorable"}])
    found, _ = pool.analysed({"any": {"split": {"rule": "dpo_only"}, "dpo": triple}})
    words = found["domains"]["any"]["funnel"]["tables"]["dpo"]["words"]
    assert words == {"truncated": 2, "unscorable": 1}


def one_word(rows: list[dict[str, Any]], rule: dict[str, Any] = MATH, table: str = "dpo") -> str:
    """The word for a prompt whose only source has these responses."""
    pool = Pool("gemma")
    pool.add("any", gemma=rows)
    found, _ = pool.analysed({"any": rule})
    said = found["domains"]["any"]["funnel"]
    words = said["tables"][table]["words"]
    assert said["sources"][table]["gemma"] == said["tables"][table]
    assert sum(words.values()) == 1
    return str(next(iter(words)))


@pytest.mark.parametrize(("rows", "word"), CASES)
def test_a_prompt_without_a_pair_is_counted_under_the_word_for_its_cause(
    rows: list[dict[str, Any]], word: str
) -> None:
    assert one_word(rows) == word


def test_equal_scores_are_told_apart_from_small_margins_where_there_is_no_least_one() -> None:
    assert one_word(EQUAL) == "margin under"
    assert one_word(EQUAL, {**MATH, "dpo": {**MATH["dpo"], **OPEN}}) == "equal scores"


def test_one_scored_response_is_no_pair() -> None:
    assert one_word([{"rm": 0.2}, {"rm": "error"}], CHAT) == "one usable"


def test_the_unscored_wrong_response_is_the_cause_and_not_an_unscored_right_one() -> None:
    rows = [{"rm": 0.2, "ok": 1}, {"rm": "unscorable", "ok": 1}, {"rm": "error", "ok": 0}]
    assert one_word(rows) == "judge failed"


def test_a_reason_that_is_not_ours_is_counted_as_other() -> None:
    class Moody(Strategy):
        """Refuses in its own words."""

        emits = "Pair"

        def select(self, group: Any) -> Any:
            from fusechat.parts import Refusal

            return Refusal("not in the mood")

    groups = columns(pool_of([{"gemma": [RIGHT]}]).groups)
    said = words_of(Moody(), groups, select_each(Moody(), groups))
    assert [NAMES[code] for code in said.prompt] == ["other"]
    assert [NAMES[code] for code in said.by_source[0]] == ["other", "no response"]


@settings(max_examples=40, deadline=None)
@given(_prompts, st.sampled_from(["pair_else_sft", "filter_then_share", "split_then_filter"]))
def test_every_count_of_the_funnel_sums_to_the_prompts(
    prompts: list[dict[str, Any]], rule: str
) -> None:
    found, decisions = pool_of(prompts).analysed({"math": {**MATH, "split": {"rule": rule}}})
    funnel = found["domains"]["math"]["funnel"]
    assert funnel["prompts"] == len(prompts)
    for part in (funnel, *funnel["origins"].values()):
        placed = part["sft_prompts"] + part["dpo_prompts"] - part["in_both"]
        assert part["prompts"] == placed + part["dropped"]
        assert part["dropped"] == sum(part["dropped_words"].values())
        tables = [*part["tables"].values(), *part["sources"]["sft"].values()]
        for said in (*tables, *part["sources"]["dpo"].values()):
            assert said["gives"] + sum(said["words"].values()) == part["prompts"]
        assert set(part["dropped_words"]) <= set(NAMES)
    for name in ("prompts", "dropped", "sft_prompts", "dpo_prompts"):
        assert funnel[name] == sum(part[name] for part in funnel["origins"].values())
    assert funnel["dropped"] == len(decisions.dropped())


def test_a_dropped_prompt_that_had_something_is_seen_to_have_had_it() -> None:
    # All to DPO, none has a pair; one of the two has a response to imitate.
    pool = pool_of([{"gemma": [RIGHT]}, {"gemma": [WRONG]}])
    split = {"rule": "split_then_filter", "sft_share": 0}
    found, _ = pool.analysed({"math": {**MATH, "split": split}})
    funnel = found["domains"]["math"]["funnel"]
    assert (funnel["dropped"], funnel["dropped_with_response"]) == (2, 1)
    assert funnel["dropped_with_pair"] == 0
    assert funnel["dropped_words"] == {"all wrong": 1, "all right": 1}


def test_a_pair_that_no_table_takes_is_counted_beside_the_reason() -> None:
    # No annotator `none` has judged anything, so SFT has no response; DPO may take no prompt.
    split = {"rule": "pair_else_sft", "dpo_fraction": 0}
    sft = {"use": "best_of", "by": "none"}
    pool = pool_of([{"gemma": [RIGHT, WRONG]}])
    found, _ = pool.analysed({"math": {**MATH, "sft": sft, "split": split}})
    funnel = found["domains"]["math"]["funnel"]
    assert (funnel["dropped"], funnel["dropped_with_response"]) == (1, 0)
    assert funnel["dropped_with_pair"] == 1
    assert funnel["dropped_words"] == {"no score": 1}


def test_prompts_of_a_domain_without_a_rule_are_counted_as_such() -> None:
    found, _ = pool_of([{"gemma": [RIGHT]}] * 3).analysed({})
    funnel = found["domains"]["math"]["funnel"]
    assert funnel["dropped_words"] == {"no rule": 3}
    assert {name: part["prompts"] for name, part in funnel["origins"].items()} == {"a": 2, "b": 1}


def test_the_blocks_in_which_a_pool_is_read_change_nothing() -> None:
    rng = np.random.default_rng(0)
    draw = [
        {
            name: [
                {"rm": int(rng.integers(20)) / 100, "ok": int(rng.integers(2)), "tokens": int(t)}
                for t in rng.integers(5, 50, 3)
            ]
            for name in ("gemma", "qwen")
        }
        for _ in range(40)
    ]
    whole, _ = pool_of(draw).analysed({"math": MATH})
    pieces, _ = pool_of(draw).analysed({"math": MATH}, block=7)
    assert whole == pieces


def test_a_source_that_gives_is_counted_as_giving_also_where_another_gave_the_pair() -> None:
    both = {"gemma": [RIGHT, WRONG], "qwen": [RIGHT, {"rm": 0.05, "ok": 0}]}
    found, _ = pool_of([both]).analysed({"math": MATH})
    alone = found["domains"]["math"]["funnel"]["sources"]["dpo"]
    assert alone["gemma"] == {"gives": 1, "words": {}}
    assert alone["qwen"] == {"gives": 0, "words": {"margin over": 1}}


def test_picked_is_no_word() -> None:
    assert PICKED < 0
    one = one_response("p", "gemma", 0, RIGHT)
    assert one.whole
