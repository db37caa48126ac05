"""The comparison of methods: means over seeds, differences paired by seed, tables."""

from __future__ import annotations

from typing import Any

import pytest

from fusechat.metrics.method_table import as_markdown, as_text, numbers_of, summarize


def run_of(method: str, seed: int, math: float | None, advice: float = 0.5) -> dict[str, Any]:
    average = None if math is None else (math + advice) / 2
    tasks = {
        "math": {"value": math, "tokens": 20.0},
        "advice": {"value": advice, "tokens": 50.0 + seed, "length_controlled": advice - 0.1},
    }
    return {"method": method, "seed": seed, "numbers": {"average": average, "tasks": tasks}}


def found_of(runs: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    names = list(dict.fromkeys(run["method"] for run in runs))
    base = {"average": 0.3, "tasks": {"math": {"value": 0.1, "tokens": 12.5}}}
    return {
        "recipe": "mini", "methods": {name: {"about": f"{name} | it", "set": {}} for name in names},
        "seeds": [1, 2, 3], "others": {"base": base}, "runs": runs, "failed": [],
        "summary": summarize(runs, names),
    } | changes  # fmt: skip


RUNS = [
    run_of("plain", 1, 0.40), run_of("plain", 2, 0.50), run_of("plain", 3, 0.60),
    run_of("other", 1, 0.43), run_of("other", 2, 0.52), run_of("other", 3, 0.64),
]  # fmt: skip


def test_means_are_over_seeds_and_differences_are_paired() -> None:
    found = summarize(RUNS, ["plain", "other"])
    math = found["methods"]["plain"]["math"]
    # Standard deviation 0.1: 0.5 ± 4.303 * 0.1 / sqrt(3) = 0.5 ± 0.2484.
    assert math["mean"] == pytest.approx(0.5)
    assert math["high"] == pytest.approx(0.7484, abs=1e-4)
    gap = found["differences"]["other"]["math"]
    # 0.03, 0.02, 0.04: mean 0.03, standard deviation 0.01: far narrower than each by itself.
    assert gap["values"] == pytest.approx([0.03, 0.02, 0.04])
    assert (gap["mean"], gap["low"]) == (pytest.approx(0.03), pytest.approx(0.00516, abs=1e-4))
    assert "plain" not in found["differences"]
    assert found["differences"]["other"]["average"]["mean"] == pytest.approx(0.015)


def test_differences_use_only_seeds_that_both_have_whatever_the_order_of_runs() -> None:
    runs = [run for run in RUNS if (run["method"], run["seed"]) != ("plain", 2)]
    found = summarize(reversed(runs), ["plain", "other"])
    assert found["differences"]["other"]["math"]["values"] == pytest.approx([0.03, 0.04])
    assert found["methods"]["other"]["math"]["n"] == 3


def test_a_value_that_is_missing_is_left_out_and_never_0() -> None:
    found = summarize([*RUNS[:2], run_of("plain", 3, None)], ["plain"])
    entry = found["methods"]["plain"]
    assert (entry["math"]["n"], entry["math"]["mean"]) == (2, pytest.approx(0.45))
    assert entry["average"]["n"] == 2
    assert entry["advice"]["n"] == 3


def test_seeds_that_all_agree_give_no_interval_of_no_width() -> None:
    runs = [
        run_of(name, seed, value) for name, value in [("a", 0.1), ("b", 0.3)] for seed in (1, 2)
    ]
    gap = summarize(runs, ["a", "b"])["differences"]["b"]["math"]
    assert (gap["mean"], gap["low"], gap["n"]) == (pytest.approx(0.2), None, 2)
    assert "▲" not in as_text(found_of(runs))


def test_a_number_that_some_seeds_lack_says_on_how_many_it_rests() -> None:
    runs = [RUNS[0], RUNS[1], run_of("plain", 3, None)]
    row = next(line for line in as_text(found_of(runs)).splitlines() if line.startswith("plain"))
    assert "(2 of 3)" in row


def test_methods_without_any_run_have_no_numbers_and_the_table_a_dash() -> None:
    runs = RUNS[:3]
    found = found_of(runs, methods={n: {"about": "", "set": {}} for n in ("plain", "lost")})
    found["summary"] = summarize(runs, ["plain", "lost"])
    found["failed"] = [{"method": "lost", "seed": 1, "why": "the loss of step 3\nmore"}]
    text = as_text(found)
    assert "3 of 6 runs; training seeds 1, 2, 3." in text
    assert "failed: lost, seed 1: the loss of step 3" in text
    row = next(line for line in text.splitlines() if line.startswith("lost"))
    assert row.split() == ["lost", *["–"] * 4]


def test_tables_show_bases_methods_differences_and_lengths() -> None:
    text = as_text(found_of(RUNS))
    lines = [line.split() for line in text.splitlines()]
    assert ["method", "average", "math", "advice", "advice,", "equal", "lengths"] in lines
    assert ["base", "30.0", "10.0", "–", "–"] in lines
    assert ["plain", "50.0", "±", "12.4", "50.0", "±", "24.8", "50.0", "40.0"] in lines
    gaps = next(line for line in lines if line[:2] == ["other", "▲"])
    assert gaps == ["other", "▲", "+1.5", "±", "1.2", "▲", "+3.0", "±", "2.5", "0.0", "0.0"]
    assert ["other", "20.0", "52.0"] in lines


def test_what_preference_learning_adds_is_to_the_methods_own_sft() -> None:
    sft = {seed: run_of("plain", seed, 0.30)["numbers"] for seed in (1, 2, 3)}
    runs = [{**run, "sft": sft[run["seed"]]} if run["method"] == "plain" else run for run in RUNS]
    found = found_of(runs)
    assert found["summary"]["added"]["plain"]["math"]["values"] == pytest.approx([0.1, 0.2, 0.3])
    assert list(found["summary"]["added"]) == ["plain"]
    text = as_text(found)
    assert "minus its SFT" in text
    assert "minus its SFT" not in as_text(found_of(RUNS))


def test_one_seed_gives_values_without_intervals() -> None:
    text = as_text(found_of([RUNS[0], RUNS[3]], seeds=[1]))
    assert "±" not in text
    assert "+3.0" in text


def test_the_page_has_the_same_tables_and_what_each_method_is() -> None:
    page = as_markdown(found_of(RUNS))
    assert "| minus plain | average | math | advice | advice, equal lengths |" in page
    assert "| plain | plain \\| it |" in page  # a bar would end the cell
    widths = {line.count("|") - line.count("\\|") for line in page.splitlines() if line[:1] == "|"}
    assert widths == {6, 4, 3}


def test_numbers_are_strict_and_lengths_tokens() -> None:
    entry = {"accuracy": 0.9, "accuracy_strict": 0.8, "mean_tokens": 7.5}
    graded = {**entry, "length_controlled": {"value": 0.6}}
    metrics = {
        "tasks": {
            "math": {"models": {"train.dpo": entry}}, "zh": {"models": {"target": entry}},
            "advice": {"models": {"train.dpo": graded}},
        },
        "average": {"models": {"train.dpo": {"accuracy": 0.5, "accuracy_strict": 0.4}}},
    }  # fmt: skip
    assert numbers_of(metrics, "train.dpo") == {
        "average": 0.4,
        "tasks": {
            "math": {"value": 0.8, "tokens": 7.5},
            "advice": {"value": 0.8, "tokens": 7.5, "length_controlled": 0.6},
        },
    }
    assert numbers_of(metrics, "train.sft") == {"average": None, "tasks": {}}
