"""The contamination ledger: what it finds, what the build leaves out, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusechat.cli import main
from fusechat.errors import RecipeError
from fusechat.metrics.contamination import HeldOutItems, Item
from fusechat.planner import plan
from fusechat.recipe import load_recipe
from fusechat.report.collect import collect
from fusechat.report.render import render
from fusechat.runner import Options, RunResult, run
from fusechat.tasks._benchmarks import read_items

ITEM = "Janet has sixteen ducks that lay eggs each day and she eats three of them for breakfast"
SOLUTION = "she sells the nine eggs that are left over at the farmers market for two dollars each"
CLEAN = ["Name a colour of the sky.", "Name a fruit that is yellow."]
ROOT = Path(__file__).resolve().parents[2]
RECIPE = """name: ledger
prompts:
  mine: {use: files, path: prompts.jsonl, domain: chat}
sources:
  left: {use: given, path: left.jsonl, prompt: prompt, responses: response}
  right: {use: given, path: right.jsonl, prompt: prompt, responses: response}
decontaminate: {against: {gsm8k: tests.jsonl}}
build:
  chat: {split: {rule: sft_only}, sft: {use: best_of, by: null}}
"""


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    prompts = [*CLEAN, f"A riddle: {ITEM}, why?"]
    write(tmp_path / "tests.jsonl", {"question": ITEM + "?", "answer": SOLUTION + " #### 18"})
    write(tmp_path / "prompts.jsonl", *({"prompt": p} for p in prompts))
    leaking = ["Blue.", f"A banana. By the way, {SOLUTION}.", "Who knows."]
    for name, texts in (("left", leaking), ("right", ["Azure.", "Lemon.", "No idea."])):
        rows = ({"prompt": p, "response": t} for p, t in zip(prompts, texts, strict=True))
        write(tmp_path / f"{name}.jsonl", *rows)
    path = tmp_path / "ledger.yaml"
    path.write_text(RECIPE)
    return path


def ran(recipe: Path, **settings: Any) -> RunResult:
    return run(load_recipe(recipe, set=settings), recipe.parent / "ws")


def test_a_contaminated_prompt_is_dropped_and_a_contaminated_response_is_never_chosen(
    recipe: Path,
) -> None:
    result = ran(recipe)
    rows = list(result["decontaminate"].rows("removed"))
    assert [(r.what, r.source, r.benchmark, r.kind) for r in rows] == [
        ("prompt", "", "gsm8k", "run"),
        ("response", "left", "gsm8k", "run"),
    ]
    assert rows[1].words == " ".join(SOLUTION.split()[:13])
    chosen = {row.messages[-1].content: row.source for row in result["build"].rows("sft")}
    assert chosen == {CLEAN[0]: "left", CLEAN[1]: "right"}
    (gone,) = result["build"].rows("dropped")
    assert (gone.stage, gone.reason) == ("contamination", "has words of a benchmark")
    counts = result["build"].manifest["counts"]["domains"]["chat"]
    assert counts["dropped"] == {"has words of a benchmark": 1}


def test_without_the_section_nothing_is_looked_for_and_the_keys_are_as_before(
    recipe: Path,
) -> None:
    plain = recipe.with_name("plain.yaml")
    plain.write_text(RECIPE.replace("decontaminate: {against: {gsm8k: tests.jsonl}}\n", ""))
    assert "decontaminate" in [unit.name for unit in plan(load_recipe(recipe)).units]
    units = {unit.name: unit.key for unit in plan(load_recipe(plain)).units}
    assert "decontaminate" not in units
    assert units["sample/left"] == plan(load_recipe(recipe))["sample/left"].key


def test_the_counts_name_the_benchmark_the_sources_and_what_was_looked_at(recipe: Path) -> None:
    counts = ran(recipe)["decontaminate"].manifest["counts"]
    assert counts["looked_at"] == 3 + 6
    assert counts["removed_prompts"] == counts["removed_responses"] == 1
    assert counts["by_source"] == {"left": 1}
    assert counts["benchmarks"] == {
        "gsm8k": {"items": 1, "unread": 0, "prompts": 1, "responses": 1}
    }


def test_prompts_alone_are_looked_at_where_the_recipe_says_so(recipe: Path) -> None:
    result = ran(recipe, **{"decontaminate.responses": False})
    assert [row.what for row in result["decontaminate"].rows("removed")] == ["prompt"]


def test_the_recipes_own_tests_are_looked_for_too(recipe: Path) -> None:
    task = {"use": "files", "path": "own.jsonl", "name": "own", "domain": "chat",
            "grade": {"use": "math_answer"}}  # fmt: skip
    write(recipe.parent / "own.jsonl", {"prompt": CLEAN[0], "answer": "1"})
    target = {"model": str(ROOT / "zoo" / "target")}
    changed = {"target": target, "evaluate": {"tasks": [task]}, "decontaminate": None}
    ledger = plan(load_recipe(recipe, set=changed))["decontaminate"]
    assert list(ledger.settings["tasks"]) == ["own"]
    result = run(
        load_recipe(recipe, set=changed),
        recipe.parent / "ws",
        options=Options(only="decontaminate"),
    )
    assert [row.benchmark for row in result["decontaminate"].rows("removed")] == ["own"]


def test_a_benchmark_that_is_nowhere_is_a_fault_with_its_home(recipe: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, set={"decontaminate.against": {"alignbench": {}, "nothing": {}}})
    assert "github.com/THUDM/AlignBench" in str(caught.value)
    assert "decontaminate.against.nothing" in str(caught.value)
    with pytest.raises(RecipeError, match="needs its commit"):
        load_recipe(recipe, set={"decontaminate.against": {"humaneval": {}}})


def test_the_report_and_the_terminal_name_what_was_left_out(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = recipe.parent / "ws"
    assert main(["run", str(recipe), "--workspace", str(workspace), "--quiet"]) == 0
    told = capsys.readouterr().out
    assert "1 prompts and 1 responses have words of 1 benchmarks" in told
    (folder,) = (workspace / "runs").iterdir()
    page = render(collect(folder, workspace))
    assert 'id="ledger"' in page
    assert "she sells the nine eggs" in page
    code = main(["show", "decontaminate", "--workspace", str(workspace)])
    assert code == 0
    assert "gsm8k" in capsys.readouterr().out


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    yield "gsm8k", folder / "math" / "gsm8k_test.jsonl"
    yield "math", folder / "math" / "math_test.jsonl"
    yield "amc23", folder / "math" / "amc23.jsonl"
    yield "humaneval", folder / "code" / "HumanEval.jsonl"
    yield "mbpp", folder / "code" / "MbppPlus-v0.2.0.jsonl.gz"
    yield "livecodebench", folder / "code" / "lcb_v5_prompts_no_tests.jsonl"
    yield "mmlu_pro", folder / "mc" / "mmlu_pro_validation.parquet"
    yield "alpaca_eval", folder / "judge" / "alpaca_eval_gpt4_baseline.json"
    yield "arena_hard", folder / "judge" / "arena_hard_v0.1_question.jsonl"
    yield "mt_bench", folder / "judge" / "mt_bench_question.jsonl"
    yield "alignbench", folder / "judge" / "alignbench_v1.1.jsonl"
    yield "livebench", folder / "livebench"


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, list[Item]]:
    """The items of twelve real benchmarks."""
    return {
        name: [item for item in read_items(name, str(path), None, "test", None)
               if isinstance(item, Item)]
        for name, path in _files(shared_data)
    }  # fmt: skip


def test_every_item_of_the_real_benchmarks_is_read_and_finds_itself(
    real: dict[str, list[Item]],
) -> None:
    sizes = {name: len(items) for name, items in real.items()}
    assert sizes["gsm8k"] == 1319
    assert sizes["math"] == 5000
    assert sizes["humaneval"] == 164
    assert sizes["arena_hard"] == 500
    assert sizes["mt_bench"] == 80
    for name, items in real.items():
        known = HeldOutItems(items)
        some = items[:: max(1, len(items) // 60)]
        missed = [item.name for item in some if not known.matches(f"{item.questions[0]}")]
        assert len(missed) <= len(some) * 0.02, (name, missed)


def test_among_real_instructions_only_those_that_a_benchmark_has_are_found(
    real: dict[str, list[Item]], shared_data: Path
) -> None:
    known = HeldOutItems([item for items in real.values() for item in items])
    rows = json.loads((shared_data / "train" / "alpaca_en_demo.json").read_text())
    texts = [f"{row['instruction']}\n{row['input']}" for row in rows]
    found = [(text, match) for text in texts for match in known.matches(text)]
    assert len(found) <= 10, [(text[:80], match.item.benchmark) for text, match in found]
    leaked = [real["gsm8k"][7].questions[0], "Now: " + real["math"][9].questions[0]]
    named = {m.item.benchmark for text in leaked for m in known.matches(text)}
    assert {"gsm8k", "math"} <= named
