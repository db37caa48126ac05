from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusechat.digests import digest
from fusechat.records import Score
from fusechat.report import judged, judges_view
from fusechat.report.collect import Findings, collect
from fusechat.report.judged import Judge
from fusechat.report.render import render
from fusechat.tables import write_table


@pytest.fixture(scope="module")
def findings(whole: tuple[Path, Path]) -> Findings:
    return collect(*whole)


def scores(details: list[str | None]) -> list[Score]:
    return [
        Score(response_id=f"r{n}", annotator="code", status="ok", value=1.0, details=text,
              made_from=digest(n))
        for n, text in enumerate(details)
    ]  # fmt: skip


def test_each_annotator_has_its_statuses_with_the_reason_of_each(findings: Findings) -> None:
    found = {step["annotator"]: step for step in judges_view.scored(findings)}
    assert set(found) == {"reward", "math", "code"}
    step, judge = found["math"], findings.judges["math"]
    assert sum(count for _, count, _ in step["parts"]) == step["total"] == 4 * 4 * 90
    assert sum(count for _, count in step["reasons"]) == step["total"] - judge.statuses["ok"]
    reasons = dict(step["reasons"])
    assert reasons["failed: time-out after 5 s"] == judge.statuses["error"] > 0
    assert "unscorable: the response is not whole (length)" in reasons


def test_sandbox_levels_are_counted_and_said_in_words(findings: Findings) -> None:
    step = next(s for s in judges_view.scored(findings) if s["annotator"] == "code")
    levels = findings.judges["code"].sandbox
    assert levels.total() == findings.judges["code"].statuses["ok"]
    assert levels["full"] > levels["weak"] > 0
    assert step["conditions"][0].startswith(f"Sandbox level full: {levels['full']:,} programs (no")
    assert "the network was open" in step["conditions"][1]
    assert findings.judges["reward"].sandbox == {}


def test_the_self_test_of_the_reward_model_is_said_with_its_spread(findings: Findings) -> None:
    step = next(s for s in judges_view.scored(findings) if s["annotator"] == "reward")
    assert step["conditions"] == [
        "Self-test at start: 9 conversations, in bfloat16, a prompt computed once for all its "
        "responses, scores differ by at "
        "most 4e−4 from those one by one, the smallest margin of the recipe is 0.01."
    ]
    assert "Self-test at start: 9 conversations" in render(findings)


def test_a_self_test_with_other_words_is_still_shown_and_escaped() -> None:
    judge = Judge(self_tests=[{"spread": None, "gate": "<b>fine</b>"}])
    judge.statuses["ok"] = 1
    found = Findings("", "", "", {}, {}, (), judges={"armorm": judge})
    (step,) = judges_view.scored(found)
    assert step["conditions"] == ["Self-test at start: gate <b>fine</b>."]
    assert "<b>fine" not in render(found)


def test_levels_are_read_from_details_of_every_shard(tmp_path: Path) -> None:
    levels = ["full"] * 1500 + ["network"] * 700
    rows = scores([None, *(json.dumps({"sandbox": level, "message": "x"}) for level in levels)])
    write_table(tmp_path, rows, Score)
    assert judged.sandbox_levels(tmp_path) == {"full": 1500, "network": 700}


def test_a_message_that_looks_like_a_level_is_none(tmp_path: Path) -> None:
    lie = json.dumps({"sandbox": "full", "message": '"sandbox": "strict"'})
    write_table(tmp_path, scores([lie, json.dumps({"message": '{"sandbox": "strict"}'})]), Score)
    assert judged.sandbox_levels(tmp_path) == {"full": 1}


def test_details_without_a_level_give_none(tmp_path: Path) -> None:
    write_table(tmp_path, scores([json.dumps({"objectives": [0.1]})] * 3), Score)
    assert judged.sandbox_levels(tmp_path) == {}
    write_table(tmp_path / "empty", scores([None, None]), Score)
    assert judged.sandbox_levels(tmp_path / "empty") == {}
