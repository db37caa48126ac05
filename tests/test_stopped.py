"""A run whose sampling a limit stopped: valid sets from what is there, and the rest later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusechat import runner
from fusechat.files import read_json, write_json
from fusechat.planner import Plan, Unit, plan, standing
from fusechat.recipe import Recipe, read_recipe
from fusechat.stages.context import UnitContext
from fusechat.tables import read_dicts
from kill_lab import RECIPE
from running import results
from stub_parts import Inline


class Limit:
    """Stops after so many rows over all units."""

    def __init__(self, rows: int) -> None:
        self.left = rows

    def __call__(self, group: Sequence[Any]) -> str | None:
        self.left -= len(group)
        return "the limit is used up" if self.left <= 0 else None


def load(folder: Path) -> Recipe:
    """Two sources, 60 prompts, 4 samples each."""
    lines = [json.dumps({"prompt": f"question {i}"}) + "\n" for i in range(60)]
    (folder / "prompts.jsonl").write_text("".join(lines))
    path = folder / "r.yaml"
    path.write_text(RECIPE)
    recipe, faults, _ = read_recipe(path, {})
    assert recipe is not None, faults
    return recipe


def test_a_stopped_run_builds_from_what_is_there_and_a_later_one_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, place = load(tmp_path), tmp_path / "ws"
    plain, limit = runner.unit_context, Limit(300)

    def limited(planned: Plan, unit: Unit, *rest: Any) -> UnitContext:
        context = plain(planned, unit, *rest)
        return replace(context, stop=limit) if unit.kind == "sample" else context

    monkeypatch.setattr(runner, "open_executor", lambda *_: Inline())
    with monkeypatch.context() as patched:
        patched.setattr(runner, "unit_context", limited)
        result = runner.run(recipe, place)
    assert "stopped" not in result["sample/one"].manifest["counts"]
    counts = result["sample/two"].manifest["counts"]
    assert counts["stopped"]["reason"] == "the limit is used up"
    missing = counts["stopped"]["missing"]
    assert counts["responses"] == 240 - missing
    assert 0 < counts["responses"] < 240
    assert result["annotate/length"].manifest["counts"]["scores"] == 480 - missing
    pairs = list(read_dicts(result["build"].folder / "dpo", ["source"]))
    assert {row["source"] for row in pairs} == {"one", "two"}

    planned = plan(recipe, place)
    assert standing(planned, planned["sample/two"]).why == (
        f"stopped at its limit: {missing} rows missing"
    )
    found = planned.standings()
    assert found["sample/one"].state == "done"
    assert found["sample/two"].state == "partial"
    assert found["build"].why == "sample/two runs first"

    monkeypatch.setenv("FUSECHAT_TEST_TALLY", str(tmp_path / "tally"))
    again = runner.run(recipe, place)
    assert "stopped" not in again["sample/two"].manifest["counts"]
    assert len((tmp_path / "tally").read_text().split()) == 2 * missing, "asked, and then judged"
    monkeypatch.delenv("FUSECHAT_TEST_TALLY")
    runner.run(recipe, tmp_path / "alone")
    assert results(place) == results(tmp_path / "alone")


def test_rows_of_an_unfinished_unit_whose_shards_were_cut_otherwise_are_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, place = load(tmp_path), tmp_path / "ws"
    monkeypatch.setattr(runner, "open_executor", lambda *_: Inline())
    folder = runner.run(recipe, place)["sample/one"].folder
    before = results(place)
    said = read_json(folder / "unit.json")
    write_json(folder / "unit.json", {k: v for k, v in said.items() if k != "shards"})
    (folder / "manifest.json").unlink()
    monkeypatch.setenv("FUSECHAT_TEST_TALLY", str(tmp_path / "tally"))
    counts = runner.run(recipe, place)["sample/one"].manifest["counts"]
    assert counts["adopted"] == counts["responses"] == 240
    assert not (tmp_path / "tally").exists(), "no row is asked again"
    assert results(place) == before
