"""Rows of the benchmarks' table: none is dropped, each says what it is worth, the average too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark_made import (
    Kept,
    Rules,
    Secret,
    Sums,
    Talk,
    answered,
    base_and_fused,
    entry,
    items,
    sums,
)
from fusechat.metrics.published import ROWS, figures
from fusechat.stages.benchmark_average import average
from fusechat.stages.benchmark_items import Answered, Benchmarked
from fusechat.stages.benchmark_rows import Served, benchmark_rows

LLAMA = Served({"target": ["meta-llama/Llama-3.1-8B-Instruct"]}, {})
HALF, MORE = [1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]


def row_of(found: dict[str, Any], title: str) -> dict[str, Any]:
    (row,) = (row for row in found["rows"] if row["title"] == title)
    return dict(row)


def test_all_14_rows_are_there_in_the_papers_order_whatever_was_asked(tmp_path: Path) -> None:
    found = benchmark_rows([entry(sums(tmp_path), base_and_fused(HALF, MORE))])
    assert [row["title"] for row in found["rows"]] == list(ROWS)
    asked = row_of(found, "GSM8K")
    assert (asked["status"], asked["reason"], asked["name"]) == ("ok", "", "sums")
    others = [row for row in found["rows"] if row is not asked and row["title"] != "GSM8K"]
    assert {(row["status"], row["reason"]) for row in others} == {("skipped", "not asked for")}
    assert row_of(found, "MT-Bench")["scale"] == 10.0
    assert row_of(found, "LiveCodeBench 2408-2411")["name"] == "live_code_bench"


def test_scores_differences_and_lengths_of_a_row_worked_by_hand(tmp_path: Path) -> None:
    found = benchmark_rows([entry(sums(tmp_path), base_and_fused(HALF, MORE))])
    row = row_of(found, "GSM8K")
    base, fused = row["models"]["target"], row["models"]["train.dpo"]
    assert (base["score"], fused["score"]) == (50.0, 75.0)
    assert (fused["n"], fused["expected"]) == (4, 4)
    assert (fused["mean_characters"], fused["mean_tokens"]) == (100.0, 20.0)
    assert fused["extras"] == {"by_category": {"all": 0.75}, "odd": None, "n": 3}
    (gap,) = row["differences"]
    assert (gap["model"], gap["against"]) == ("train.dpo", "target")
    assert (gap["difference"], gap["wins"], gap["ties"], gap["losses"]) == (25.0, 1, 3, 0)
    assert gap["low"] <= 25.0 <= gap["high"]
    assert row["comparable"]
    assert row["why_not"] == []
    assert row["settings"] == "a1"
    json.dumps(found, allow_nan=False)


def test_an_item_without_a_verdict_makes_a_row_partial_and_is_no_zero(tmp_path: Path) -> None:
    results = {
        "paper": {
            "target": answered(HALF),
            "train.dpo": answered([1.0, None, 1.0, None], judge_failed=1, errors=1),
        }
    }
    row = row_of(benchmark_rows([entry(sums(tmp_path), results)]), "GSM8K")
    assert row["status"] == "partial"
    assert row["reason"] == (
        "fused: 2 of 4 items have no verdict (1 × the judge gave no verdict, 1 × the request or "
        "the grader failed)."
    )
    assert row["models"]["train.dpo"]["score"] == 100.0
    assert (row["models"]["train.dpo"]["n"], row["models"]["train.dpo"]["expected"]) == (2, 4)
    assert not row["comparable"]
    assert "the row is partial" in row["why_not"]


def test_fewer_items_than_the_benchmark_has_are_partial_but_a_take_is_a_choice(
    tmp_path: Path,
) -> None:
    two = base_and_fused([1.0, 0.0], [1.0, 1.0])
    short = row_of(benchmark_rows([entry(sums(tmp_path), two)]), "GSM8K")
    assert (short["status"], short["reason"]) == ("partial", "2 of 4 items are in the data.")
    taken = row_of(benchmark_rows([entry(sums(tmp_path), two, take=2)]), "GSM8K")
    assert (taken["status"], taken["sampled"], taken["comparable"]) == ("ok", True, False)
    assert taken["why_not"] == ["2 of 4 items were asked"]
    both = row_of(benchmark_rows([entry(sums(tmp_path), two, take=3)]), "GSM8K")
    assert (both["status"], both["sampled"]) == ("partial", False)
    more = row_of(
        benchmark_rows([entry(sums(tmp_path), base_and_fused(HALF, MORE), take=9)]), "GSM8K"
    )
    assert (more["status"], more["sampled"], more["comparable"]) == ("ok", False, True)


def test_a_skipped_benchmark_keeps_its_place_and_its_reason() -> None:
    skipped = entry(Talk(), {}, skipped="no judge is given. Add 'judge'.", models=("target",))
    found = benchmark_rows([skipped])
    row = row_of(found, "MT-Bench")
    assert (row["status"], row["reason"]) == ("skipped", "no judge is given. Add 'judge'.")
    assert found["rows"][2] == row
    left_out = {one["title"]: one["reason"] for one in found["average"]["left_out"]}
    assert left_out["MT-Bench"] == "skipped: no judge is given. Add 'judge'."


def test_both_profiles_are_there_and_the_one_asked_for_heads() -> None:
    results = {
        "paper": {"target": answered(HALF), "train.dpo": answered(MORE)},
        "robust": {"target": answered(HALF), "train.dpo": answered(HALF)},
    }
    row = row_of(benchmark_rows([entry(Secret(), results)]), "GPQA-Diamond")
    assert (row["profile"], row["models"]["train.dpo"]["score"]) == ("paper", 75.0)
    other = row["other"]["models"]
    assert (row["other"]["profile"], other["train.dpo"]["score"]) == ("robust", 50.0)
    assert [other[m]["minus_headline"] for m in ("target", "train.dpo")] == [0.0, -25.0]
    turned = row_of(benchmark_rows([entry(Secret(), results)], "robust"), "GPQA-Diamond")
    assert (turned["profile"], turned["other"]["profile"]) == ("robust", "paper")
    assert turned["why_not"] == ["graded in the profile 'robust', not as the paper does"]
    alike = benchmark_rows([entry(Secret(), base_and_fused(HALF, MORE))], "robust")
    assert row_of(alike, "GPQA-Diamond")["comparable"]


@pytest.mark.parametrize(
    ("asked", "served", "reason"),
    [
        ("gpt-4", [], None),
        ("gpt-4", ["gpt-4-0613"], None),
        ("mine", [], "judged by mine; the paper's judge is gpt-4 or gpt-4-0613"),
        ("gpt-4", ["gpt-4o"], "judged by gpt-4o; the paper's judge is gpt-4 or gpt-4-0613"),
    ],
)
def test_another_judge_makes_a_row_not_comparable(
    asked: str, served: list[str], reason: str | None
) -> None:
    one = entry(Talk(), base_and_fused(HALF, MORE), judge=asked)
    row = row_of(benchmark_rows([one], served=Served({}, {"talk": served})), "MT-Bench")
    assert row["why_not"] == ([] if reason is None else [reason])
    assert (row["judge"], row["judge_served"]) == (asked, served)


def test_changed_data_other_sampling_and_what_the_task_says_are_told(tmp_path: Path) -> None:
    class Other(Kept):
        differs: ClassVar[str] = "the paper's own data are not published"

    one = entry(
        sums(tmp_path, Other), base_and_fused(HALF, MORE), unlike=("no top_k is sent.",),
        settings={"target": "a", "train.dpo": "b"},
    )  # fmt: skip
    row = row_of(benchmark_rows([one]), "MATH")
    assert row["why_not"] == [
        "the paper's own data are not published", "sums.jsonl is none of the known files",
        "the models were not asked alike", "no top_k is sent.",
    ]  # fmt: skip
    (file,) = row["data"]
    assert (file["file"], file["changed"], file["known"]) == ("sums.jsonl", True, None)
    assert len(file["sha256"]) == 64
    assert row["settings"] == {"target": "a", "train.dpo": "b"}


def test_published_columns_stand_beside_ours_by_the_name_of_the_base(tmp_path: Path) -> None:
    entries = [entry(sums(tmp_path), base_and_fused(HALF, MORE))]
    found = benchmark_rows(entries, served=LLAMA)
    row = row_of(found, "GSM8K")
    assert row["published"] == {"base": 85.9, "tulu3_8b": 88.6, "sft": 87.0, "fused": 88.0}
    assert row["minus_published"] == pytest.approx({"target": 50 - 85.9, "train.dpo": 75 - 88.0})
    assert found["published"]["target"] == "Llama-3.1-8B-Instruct"
    assert found["published"]["average"]["fused"] == 47.3
    assert benchmark_rows(entries)["published"] is None


def test_the_smallest_target_has_13_rows_of_its_own_and_the_others_below() -> None:
    served = Served({"target": ["Llama-3.2-1B-Instruct"]}, {})
    one = entry(Rules(), base_and_fused(HALF, MORE))
    found = benchmark_rows([one], served=served)
    titles = [row["title"] for row in found["rows"]]
    assert titles == [*figures()["Llama-3.2-1B-Instruct"].rows, "IFEval", "MMLU-redux", ROWS[-1]]
    assert [row["title"] for row in found["rows"] if not row["counted"]] == titles[13:]
    assert found["average"]["of"] == 13


def test_a_row_that_the_paper_has_not_stands_below_and_is_not_averaged(tmp_path: Path) -> None:
    both = base_and_fused(HALF, MORE)
    entries = [entry(Rules(), both), entry(sums(tmp_path), both), entry(sums(tmp_path), both)]
    found = benchmark_rows([*entries[:2], entries[2]])
    assert found["rows"][-1]["title"] == "IFEval"
    assert found["average"]["over"] == ["GSM8K"], "the same benchmark twice counts once"


def test_the_average_is_the_plain_mean_of_ok_rows_with_ratings_on_their_scale(
    tmp_path: Path,
) -> None:
    entries = [
        entry(sums(tmp_path), base_and_fused(HALF, MORE)),
        entry(Talk(), base_and_fused([0.8, 0.6], [0.9, 0.9]), judge="gpt-4"),
        entry(Secret(), base_and_fused([1.0, None], [1.0, 1.0])),
    ]
    found = benchmark_rows(entries, served=LLAMA)["average"]
    assert (found["rows"], found["of"], found["over"]) == (2, 14, ["MT-Bench", "GSM8K"])
    # base (7.0 + 50) / 2, fused (9.0 + 75) / 2; the paper over the same rows (8.4 + 85.9) / 2.
    assert found["models"]["target"]["score"] == pytest.approx(28.5)
    assert found["models"]["train.dpo"]["score"] == pytest.approx(42.0)
    assert found["published"]["base"] == pytest.approx((8.4 + 85.9) / 2)
    (gap,) = found["differences"]
    assert gap["difference"] == pytest.approx(13.5)
    assert gap["low"] < 13.5 < gap["high"]


def test_models_that_were_not_asked_alike_are_not_averaged(tmp_path: Path) -> None:
    one = entry(
        sums(tmp_path), base_and_fused(HALF, MORE), settings={"target": "a", "train.dpo": "b"}
    )
    found = benchmark_rows([one])["average"]
    assert found["rows"] == 0
    assert found["models"]["target"]["score"] is None
    assert found["left_out"][4]["reason"] == "the models were not asked alike"


def test_each_run_of_a_sampled_benchmark_has_its_own_number(tmp_path: Path) -> None:
    runs = (items([1.0, 0.0, 1.0, 1.0]), items([0.0, 0.0, 1.0, 1.0]))
    both = {"target": Answered((), items([0.5, 0.0, 1.0, 1.0]), {}, runs)}
    row = row_of(benchmark_rows([entry(sums(tmp_path), {"paper": both})]), "GSM8K")
    assert (row["models"]["target"]["score"], row["models"]["target"]["runs"]) == (62.5, [75, 50])


def test_what_the_data_lack_makes_a_row_partial_however_few_are_asked(tmp_path: Path) -> None:
    class Part(Sums):
        def lacks(self) -> list[str]:
            return ["Two of three tasks are not there."]

    one = entry(sums(tmp_path, Part), base_and_fused([1.0], [1.0]), take=1)
    row = row_of(benchmark_rows([one]), "GSM8K")
    assert (row["status"], row["reason"]) == ("partial", "Two of three tasks are not there.")


def test_a_private_benchmark_is_marked() -> None:
    found = benchmark_rows([entry(Secret(), base_and_fused(HALF, MORE))])
    assert row_of(found, "GPQA-Diamond")["private"]
    assert not row_of(found, "MBPP")["private"]


def test_a_model_that_was_not_asked_makes_a_row_partial(tmp_path: Path) -> None:
    one = {"paper": {"target": answered(HALF)}}
    other = entry(Secret(), base_and_fused(HALF, MORE))
    row = row_of(benchmark_rows([entry(sums(tmp_path), one), other]), "GSM8K")
    assert (row["status"], row["reason"]) == ("partial", "fused was not asked.")


cells = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["ok", "ok", "partial", "skipped"]),
        "counted": st.booleans(),
        "value": st.floats(0, 100),
        "gap": st.floats(-50, 50),
        "settings": st.sampled_from(["one", {"a": "1", "b": "2"}]),
    }
)


def _as_row(cell: dict[str, Any], number: int) -> dict[str, Any]:
    low, high = cell["value"] - 1, cell["value"] + 1
    gap = {"model": "fused", "against": "base", "difference": cell["gap"], "low": cell["gap"] - 1,
           "high": cell["gap"] + 1}  # fmt: skip
    models = {
        "base": {"score": cell["value"], "low": low, "high": high},
        "fused": {"score": cell["value"] + cell["gap"], "low": low, "high": high + 100},
    }
    return cell | {
        "title": str(number), "reason": "why", "sampled": False, "models": models,
        "differences": [gap], "published": None,
    }  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(found=st.lists(cells, max_size=14))
def test_the_average_rule_holds_for_any_table(found: list[dict[str, Any]]) -> None:
    rows = [_as_row(cell, number) for number, cell in enumerate(found)]
    told = average(rows, ["base", "fused"], None, 14)
    used = [
        r for r in rows if r["counted"] and r["status"] == "ok" and isinstance(r["settings"], str)
    ]
    assert told["rows"] == len(used)
    assert told["rows"] + len(told["left_out"]) == sum(row["counted"] for row in rows)
    base, fused = told["models"]["base"], told["models"]["fused"]
    if not used:
        assert base["score"] is None
        assert told["differences"] == []
        return
    assert base["score"] == pytest.approx(sum(r["value"] for r in used) / len(used))
    assert base["low"] <= base["score"] <= base["high"]
    (gap,) = told["differences"]
    assert gap["difference"] == pytest.approx(fused["score"] - base["score"], abs=1e-9)
    assert gap["high"] - gap["low"] == pytest.approx(2 / len(used) ** 0.5)


def test_entries_are_not_changed_by_being_shown(tmp_path: Path) -> None:
    one: Benchmarked = entry(sums(tmp_path), base_and_fused(HALF, MORE), notes=("a",))
    assert benchmark_rows([one]) == benchmark_rows([one])
    assert isinstance(one.part, Sums)
    assert one.notes == ("a",)
