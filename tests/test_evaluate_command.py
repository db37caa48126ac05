"""`fusechat evaluate` as a user meets it: with a recipe, without one, and as a gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusechat.cli import main
from fusechat.files import read_json
from fusechat.stages.evaluate_settings import FOURTEEN
from tiny_models import tiny_model

TINY = Path(__file__).resolve().parent.parent / "recipes" / "tiny.yaml"


def voice(text: str, **settings: Any) -> dict[str, Any]:
    return {"use": "benchmark_parts:Voice", "model": text, **settings}


def recipe_in(folder: Path, **evaluate: Any) -> Path:
    path = folder / "recipe.yaml"
    base = {
        "models": {"base": voice("a a"), "fused": voice("a a a a a a")},
        "benchmarks": [{"use": "benchmark_parts:Short", "name": "gsm8k"}],
    }
    path.write_text(yaml.safe_dump({"name": "bench", "evaluate": base | evaluate}))
    return path


def run(folder: Path, *arguments: object) -> int:
    last = ["--workspace", str(folder / "workspace"), "--quiet"]
    return main(["evaluate", *map(str, arguments), *last])


def only_run(folder: Path) -> Path:
    (found,) = (folder / "workspace" / "runs").iterdir()
    return found


def test_a_recipe_gives_the_table_and_writes_it_beside_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    assert run(tmp_path, recipe_in(tmp_path), "--markdown", page) == 0
    out = capsys.readouterr().out
    place = only_run(tmp_path)
    assert "GSM8K" in out
    assert "average (1/14)" in out
    assert f"table: {place / 'comparison.md'}\nreport: {place / 'report.html'}" in out
    assert page.read_text() == (place / "comparison.md").read_text()
    assert "| GSM8K | 8 |" in page.read_text()
    found = read_json(place / "comparison.json")
    assert found["recipe"] == "bench"
    assert found["tasks"] is None
    assert found["benchmarks"]["average"]["over"] == ["GSM8K"]
    assert found["costs"]["gsm8k"]["base"]["responses"] == 8
    assert "The benchmarks of FuseChat-3.0" in (place / "report.html").read_text()


def test_prices_of_the_cluster_file_are_kept_for_the_report(tmp_path: Path) -> None:
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(
        "units:\n  evaluate/gsm8k/base/sample:\n    price: {prompt: 1, response: 2}\n"
    )
    assert run(tmp_path, recipe_in(tmp_path), "--cluster", cluster) == 0
    prices = read_json(only_run(tmp_path) / "prices.json")
    assert prices == {"evaluate/gsm8k/base/sample": {"prompt": 1.0, "response": 2.0}}
    costs = read_json(only_run(tmp_path) / "comparison.json")["costs"]["gsm8k"]["base"]
    assert costs["cost"] is None, "this source does not tell its prompt tokens"


def test_json_is_comparison_json_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, recipe_in(tmp_path), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == read_json(only_run(tmp_path) / "comparison.json")


def test_arguments_change_what_the_recipe_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, recipe_in(tmp_path), "--take", 3, "--profile", "robust") == 0
    assert "robust profile" in capsys.readouterr().out
    found = read_json(only_run(tmp_path) / "comparison.json")["benchmarks"]
    row = next(row for row in found["rows"] if row["name"] == "gsm8k")
    assert (row["asked"], row["sampled"]) == (3, True)
    kept = yaml.safe_load((only_run(tmp_path) / "recipe.yaml").read_text())
    assert kept["evaluate"]["take"] == 3


def test_tasks_without_benchmarks_are_shown_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [{"use": "mini_math", "take": 4}]
    path = recipe_in(tmp_path, tasks=tasks, benchmarks=[])
    assert run(tmp_path, path) == 0
    out = capsys.readouterr().out
    assert "mini_math" in out
    assert "AlpacaEval-2" not in out
    assert "mini_math" in (only_run(tmp_path) / "comparison.md").read_text()


WORSE = {"base": voice("a " * 40), "fused": voice("a")}


@pytest.mark.parametrize(
    ("models", "flags", "code", "words"),
    [
        (None, ["--fail-if-worse"], 0, "no row fell by more than its noise: fused against base"),
        (WORSE, ["--fail-if-worse"], 3, "  GSM8K: ▼ −"),
        (WORSE, ["--fail-if-worse=base:fused"], 3, "over 8 items"),
        (WORSE, [], 0, ""),
        (WORSE, ["--fail-if-worse", "--require-all"], 3, "worse by more than its noise"),
    ],
)
def test_the_gate_is_an_exit_code_with_the_rows_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    models: dict[str, Any] | None,
    flags: list[str],
    code: int,
    words: str,
) -> None:
    path = recipe_in(tmp_path, **({"models": models} if models else {}))
    assert run(tmp_path, path, *flags) == code
    assert words in capsys.readouterr().err


def test_what_is_not_complete_fails_only_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [
        {"use": "benchmark_parts:Short", "name": "gsm8k"},
        {"use": "judged_parts:Away", "name": "away"},
    ]
    path = recipe_in(tmp_path, benchmarks=parts)
    assert run(tmp_path, path) == 0
    assert run(tmp_path, path, "--require-all") == 4
    assert "  Away: skipped: away.jsonl is not" in capsys.readouterr().err
    alone = recipe_in(tmp_path, benchmarks=parts[1:])
    assert run(tmp_path, alone, "--fail-if-worse") == 4
    assert "no row could be compared" in capsys.readouterr().err
    complete = recipe_in(tmp_path, benchmarks=parts[:1])
    assert run(tmp_path, complete, "--require-all", "--fail-if-worse") == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("base", "write BASE:FUSED"),
        ("base:fusd", "fusd  is no model of the evaluation. There are: base, fused."),
        ("fused:base", "these two are not compared. There are: base:fused."),
        ("base:base", "these two are not compared"),
    ],
)
def test_a_gate_that_cannot_be_is_a_fault_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str, words: str
) -> None:
    assert run(tmp_path, recipe_in(tmp_path), f"--fail-if-worse={value}") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "workspace").exists()


def test_a_gate_needs_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe_in(tmp_path, models={"base": voice("a")})
    assert run(tmp_path, path, "--fail-if-worse") == 2
    assert "there is one model only" in capsys.readouterr().err


def test_without_a_recipe_models_are_given_by_name_and_all_faults_come_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == 2
    assert "give a recipe, or models" in capsys.readouterr().err
    wrong = ["--models", "base=a/b,x,base=c/d,far=http://h:1/v1", "--judge-url", "http://j/v1",
             "--data-dir", tmp_path / "none", "--benchmarks", ","]  # fmt: skip
    assert run(tmp_path, *wrong) == 2
    err = capsys.readouterr().err
    for words in (
        "--models  x  write NAME=MODEL", "--models  base  is there twice",
        "--models  far=http://h:1/v1  say which of the server's models is meant",
        "--judge-url  http://j/v1  needs --judge MODEL", "--data-dir", "is no folder.",
        "--benchmarks  ,  name benchmarks", "6 faults; nothing was run.",
    ):  # fmt: skip
        assert words in err
    key = ["--models", "a=b/c", "--judge", "m", "--judge-key-env", "K", "--method", "x"]
    assert run(tmp_path, *key) == 2
    err = capsys.readouterr().err
    assert "--judge-key-env  K  needs --judge-url" in err
    assert "--method  x  needs a recipe" in err


def test_faults_of_the_recipe_made_of_arguments_are_told_at_the_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["--models", "base=no-such-folder", "--benchmarks", "mini_math,gsm9k", "--take", 0]
    assert run(tmp_path, *wrong) == 2
    err = capsys.readouterr().err
    assert "--take  Input should be greater than or equal to 1 (it is 0)." in err
    assert err.count("greater than or equal") == 1
    assert "--benchmarks  gsm9k  there is no part 'gsm9k' in tasks." in err
    assert run(tmp_path, "--models", "base=./no-such-folder", "--benchmarks", "mmlu") == 2
    err = capsys.readouterr().err
    assert err.startswith("--models  base.model")
    assert "no-such-folder" in err


def test_a_recipe_that_evaluates_nothing_is_asked_all_14(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, TINY, "--take", 0) == 2
    assert "--take" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "names"),
    [("all", "all"), ("gsm8k, math", ["gsm8k", "math"]), ("all,ifeval", [*FOURTEEN, "ifeval"]),
     ("math,all", ["math", *(name for name in FOURTEEN if name != "math")])],
)  # fmt: skip
def test_benchmarks_are_named_or_all_of_them_and_more(text: str, names: str | list[str]) -> None:
    from fusechat.evaluate_asked import _benchmarks

    assert _benchmarks(text, []) == names


def test_a_run_of_tasks_and_benchmarks_shows_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, recipe_in(tmp_path, tasks=[{"use": "mini_math", "take": 2}])) == 0
    out = capsys.readouterr().out
    assert out.index("mini_math") < out.index("paper profile")
    page = (only_run(tmp_path) / "report.html").read_text()
    assert 'id="result"' in page
    assert 'id="benchmarks"' in page


def test_models_of_this_machine_and_of_servers_become_a_recipe(tmp_path: Path) -> None:
    import argparse

    from fusechat.evaluate_asked import asked_recipe

    model = tiny_model(tmp_path / "base")
    options = argparse.Namespace(
        recipe=None, models=[f"base={model},far=http://h:1/v1#m"], data_dir=tmp_path,
        benchmarks="mmlu", take=2, judge="j", judge_url="http://j/v1", judge_key_env="KEY",
        profile="robust", name="mine", method=None,
    )  # fmt: skip
    recipe, text = asked_recipe(options, {"seed": 7})
    tree = yaml.safe_load(text)
    assert (tree["name"], tree["seed"]) == ("mine", 7)
    found = tree["evaluate"]
    assert found["models"]["base"] == str(model)
    assert found["models"]["far"] == {"use": "endpoint", "model": "m", "base_url": "http://h:1/v1"}
    assert found["judge"]["api_key_env"] == "KEY"
    assert found["data_dir"] == str(tmp_path)
    assert recipe.evaluate is not None
    assert (recipe.evaluate.take, recipe.evaluate.profile) == (2, "robust")
    assert tuple(recipe.evaluate.own_models()) == ("base", "far")


def test_benchmarks_of_a_recipe_are_asked_of_base_sft_and_fused(tmp_path: Path) -> None:
    """The recipe's sources answer its own tasks; who wants them in the table names them."""
    import argparse

    from fusechat.evaluate_asked import asked_recipe

    asked = {
        "recipe": TINY.parent / "mini.yaml", "models": None, "data_dir": tmp_path, "take": 2,
        "benchmarks": "mmlu", "judge": "fusechat.miniature.judge:ScriptedJudge",
        "judge_url": None, "judge_key_env": None, "profile": None, "name": None, "method": None,
    }  # fmt: skip
    recipe, _ = asked_recipe(argparse.Namespace(**asked), {})
    assert recipe.evaluate is not None
    assert recipe.evaluate.models == ("target", "train.sft", "train.dpo")
    assert recipe.evaluate.judge is not None
    assert recipe.evaluate.judge.part_name() == "fusechat.miniature.judge:ScriptedJudge"
    named = {"evaluate.models": ["target", "gemma"]}
    recipe, _ = asked_recipe(argparse.Namespace(**asked), named)
    assert recipe.evaluate is not None
    assert recipe.evaluate.models == ("target", "gemma")
