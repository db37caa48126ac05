"""Pilots, forecasts and limits on whole runs of small stub sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusechat.budget import Limits
from fusechat.cli import main
from fusechat.errors import RecipeError
from fusechat.files import read_json
from fusechat.forecast.known import pilot_measures
from fusechat.forecast.pilots import pilot_settings
from fusechat.planner import plan as make_plan
from fusechat.recipe import Cluster, Recipe, load_recipe
from fusechat.results import RunResult
from fusechat.runner import Options, run

PROMPTS = 120
BUILD = {
    "chat": {
        "split": {"rule": "filter_then_share", "sft_share": 0.4},
        "sft": {"use": "best_of", "by": "length"},
        "dpo": {"use": "same_source_margin", "by": "length", "min_margin": 0.01, "max_margin": 1.0},
    }
}
PRICED = {"parrot": {"prompt": 1.0, "response": 10.0}, "herald": {"prompt": 0, "response": 20.0}}


def recipe_path(folder: Path, **changes: Any) -> Path:
    rows = [{"prompt": f"say {n} " + "and again " * (n % 7)} for n in range(PROMPTS)]
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = {
        "name": "small",
        "prompts": {"hello": {"use": "files", "path": "p.jsonl", "domain": "chat"}},
        "sources": {
            "parrot": {"use": "echo", "samples": 4},
            "herald": {"use": "echo", "prefix": "Hear, hear! ", "samples": 4},
        },
        "annotators": {"length": {}},
        "build": BUILD,
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(tree | changes, sort_keys=False))
    return path


def cluster_path(folder: Path) -> Path:
    units = {f"sample/{name}": {"price": price, "gpus": 2} for name, price in PRICED.items()}
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump({"default": {"processes": 1}, "units": units}))
    return path


def limited(recipe: Recipe, workspace: Path, **limits: float) -> RunResult:
    cluster = Cluster.model_validate({"default": {"processes": 1}})
    return run(recipe, workspace, cluster=cluster, options=Options(budget=Limits(**limits)))


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main([str(a) for a in arguments]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, RunResult]:
    """A run that a limit of tokens stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    recipe = load_recipe(recipe_path(folder))
    return recipe, folder / "ws", limited(recipe, folder / "ws", tokens=5000)


def test_a_limit_stops_all_sources_at_about_the_same_prompts(
    stopped: tuple[Recipe, Path, RunResult],
) -> None:
    result = stopped[2]
    order = [prompt.id for prompt in result["prompts"].rows("prompts")]
    for name in ("parrot", "herald"):
        unit = result[f"sample/{name}"]
        rows = list(unit.rows())
        assert unit.manifest["counts"]["stopped"]["missing"] == 4 * PROMPTS - len(rows) > 0
        asked = list(dict.fromkeys(row.prompt_id for row in rows))
        assert asked == order[: len(asked)]
        assert 10 <= len(asked) <= 110


def test_the_sets_of_a_stopped_run_are_valid_and_hold_pairs(
    stopped: tuple[Recipe, Path, RunResult],
) -> None:
    build = stopped[2]["build"]
    sft, pairs = list(build.rows("sft")), list(build.rows("dpo"))
    assert sft
    assert pairs
    assert {row.prompt_id for row in sft}.isdisjoint(row.prompt_id for row in pairs)
    assert all(row.chosen != row.rejected and row.margin >= 0.01 for row in pairs)
    assert build.manifest["counts"]["prompts"] == PROMPTS


def test_the_same_limit_again_samples_nothing_and_a_run_without_it_goes_on(
    stopped: tuple[Recipe, Path, RunResult],
) -> None:
    recipe, workspace, first = stopped
    before = {name: list(first[f"sample/{name}"].rows()) for name in ("parrot", "herald")}
    again = limited(recipe, workspace, tokens=5000)
    assert {name: list(again[f"sample/{name}"].rows()) for name in before} == before
    assert "build" not in again.ran
    spent = read_json(again.folder / "budget.json")
    assert spent["limits"]["tokens"]["spent"] >= 5000
    whole = run(recipe, workspace)
    for name, rows in before.items():
        now = list(whole[f"sample/{name}"].rows())
        assert len(now) == 4 * PROMPTS
        assert [row for row in now if row in rows] == rows
    assert all(state.state == "done" for state in make_plan(recipe, workspace).standings().values())


def test_a_cost_limit_without_prices_is_a_fault_before_anything_runs(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_path(tmp_path))
    with pytest.raises(RecipeError, match="sample/herald") as caught:
        limited(recipe, tmp_path / "ws", cost=1.0)
    assert len(caught.value.faults) == 2
    assert not (tmp_path / "ws" / "prompts").exists()
    with pytest.raises(RecipeError, match="above 0"):
        limited(recipe, tmp_path / "ws", hours=0.0)


def test_the_command_says_what_was_spent_and_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, cluster = recipe_path(tmp_path), cluster_path(tmp_path)
    workspace = ["--workspace", str(tmp_path / "ws")]
    line = ["run", str(path), *workspace, "--quiet", "--cluster", str(cluster)]
    assert main([*line, "--max-cost", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "--max-cost: 0.0" in said
    assert "responses are missing" in said
    assert "a higher limit" in said


def test_without_a_pilot_the_plan_says_that_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, workspace = recipe_path(tmp_path), tmp_path / "ws"
    assert main(["plan", str(path), "--workspace", str(workspace)]) == 0
    said = capsys.readouterr().out
    assert "not measured: sample/parrot, sample/herald, annotate/length, build" in said
    assert "--pilot N" in said
    found = told(capsys, "plan", path, "--workspace", workspace, "--json")
    assert found["total"]["response_tokens"] is None
    assert [unit["to_do"] for unit in found["units"]] == [480, 480, 960, PROMPTS]
    assert not (workspace / "sample").exists()


@pytest.fixture(scope="module")
def piloted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("piloted")
    path, cluster = recipe_path(folder), cluster_path(folder)
    line = ["plan", str(path), "--workspace", str(folder / "ws"), "--cluster", str(cluster)]
    assert main([*line, "--pilot", "30"]) == 0
    return path, cluster


def test_a_pilot_forecasts_the_full_run_within_its_interval(
    piloted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, cluster = piloted
    workspace = path.parent / "ws"
    capsys.readouterr()
    found = told(capsys, "plan", path, "--workspace", workspace, "--cluster", cluster, "--json")
    whole = run(load_recipe(path), tmp_path / "other")
    for unit in found["units"][:2]:
        rows = list(whole[unit["unit"]].rows())
        pilot = read_json(next((workspace / "pilots").glob("*.json")))
        seen = next(one for one in pilot["units"] if one["unit"] == unit["unit"])
        measured = seen["response_tokens"]["chat"]["mean"] * seen["rows"]
        tokens = unit["response_tokens"]
        assert unit["to_do"] == 360
        assert tokens["low"] <= sum(row.tokens for row in rows) - measured <= tokens["high"]
        price = PRICED[unit["unit"].removeprefix("sample/")]["response"]
        assert unit["cost"]["value"] == pytest.approx(tokens["value"] * price / 1e6)
        assert unit["gpu_hours"]["value"] == pytest.approx(2 * unit["hours"]["value"])
    expected = found["yield"]["domains"]["chat"]
    counts = whole["build"].manifest["counts"]
    for table in ("sft", "dpo"):
        assert expected[table]["low"] <= counts[table] <= expected[table]["high"]


def test_nothing_of_a_pilot_is_made_again(piloted: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = load_recipe(piloted[0])
    whole = run(recipe, piloted[0].parent / "ws")
    for name in ("parrot", "herald"):
        assert whole[f"sample/{name}"].manifest["counts"]["adopted"] == 120
    assert whole["annotate/length"].manifest["counts"]["adopted"] == 240
    apart = run(recipe, tmp_path / "apart")
    for name in ("sample/parrot", "sample/herald", "annotate/length"):
        assert list(whole[name].rows()) == list(apart[name].rows())
    assert list(whole["build"].rows("dpo")) == list(apart["build"].rows("dpo"))


def test_when_all_is_done_nothing_is_left_to_pay(
    piloted: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, cluster = piloted
    workspace = path.parent / "ws"
    run(load_recipe(path), workspace)
    capsys.readouterr()
    found = told(capsys, "plan", path, "--workspace", workspace, "--cluster", cluster, "--json")
    assert [unit["to_do"] for unit in found["units"]] == [0, 0, 0, 0]
    assert found["total"]["cost"]["value"] == 0


def test_a_measure_belongs_to_its_source_not_to_the_recipe(
    piloted: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, cluster = piloted
    line = ["plan", path, "--workspace", path.parent / "ws", "--cluster", cluster, "--json"]
    capsys.readouterr()
    changed = "sources.herald.prefix=Oyez "
    found = told(capsys, *line, "--set", changed)
    by_name = {unit["unit"]: unit for unit in found["units"]}
    assert by_name["sample/parrot"]["measured"] == "pilot of 30 prompts"
    assert by_name["sample/herald"]["measured"] == ""
    assert by_name["sample/herald"]["to_do"] == 480
    assert found["yield"]["domains"] == {}


def test_a_pilot_of_one_prompt_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe_path(tmp_path)
    assert main(["plan", str(path), "--workspace", str(tmp_path / "ws"), "--pilot", "1"]) == 2
    assert "2 prompts or more" in capsys.readouterr().err


def test_a_larger_pilot_takes_over_the_rows_of_a_smaller_one(tmp_path: Path) -> None:
    path, workspace = recipe_path(tmp_path), tmp_path / "ws"
    line = ["plan", str(path), "--workspace", str(workspace), "--json", "--pilot"]
    for count in ("4", "10", "10"):  # the third call finds all of it done
        assert main([*line, count]) == 0
    larger = load_recipe(path, pilot_settings(load_recipe(path), 10))
    manifest = run(larger, workspace, options=Options(only="sample/parrot"))["sample/parrot"]
    assert (manifest.manifest["counts"]["adopted"], len(list(manifest.rows()))) == (16, 40)
    found = pilot_measures(workspace).rows(make_plan(larger, workspace)["sample/parrot"])
    assert found is not None
    assert found.rows == 40
    assert found.seconds_per_row == pytest.approx(manifest.manifest["seconds"] / 24)


def test_a_pilot_takes_no_more_than_the_recipe_and_reads_any_way_of_writing_a_set(
    tmp_path: Path,
) -> None:
    written = {"mini_math": None, "talk": "mini_chat", "p.q": {"use": "mini_code", "take": 5}}
    path = recipe_path(tmp_path, prompts=written, build=None)
    recipe = load_recipe(path)
    pilot = load_recipe(path, pilot_settings(recipe, 7))
    assert {name: entry.take for name, entry in pilot.prompts.items()} == {
        "mini_math": 7, "talk": 7, "p.q": 5,
    }  # fmt: skip
    assert [e.part for e in pilot.prompts.values()] == [e.part for e in recipe.prompts.values()]
