"""The demo itself: four real small models fused into one that beats what it was, with a report.

Runs `recipes/mini.yaml` whole, as `make demo` does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from browser_page import chromium, numbers_on, open_everything, printed
from fusechat.files import read_json
from fusechat.miniature.specs import MODELS, SOURCES
from fusechat.planner import plan
from fusechat.recipe import load_recipe
from fusechat.tables import read_table

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "mini.yaml"
LEAST_GAIN_OF_SFT = 0.10
"""What SFT must add to base, on the mean of the tasks, with the lower end of its interval."""
LEAST_LEAD_OF_FUSED = 0.04
"""The same of the fused model over the best single source."""
GRADED = "mini_advice"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[Path, str]:
    """The demo's workspace and what it printed; run once for all workers of a test run."""
    shared = tmp_path_factory.getbasetemp()
    shared = (shared if worker_id == "master" else shared.parent) / "demo"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "out").exists():
            (shared / "out").write_text(run_demo(shared / "ws"), encoding="utf-8")
    return shared / "ws", (shared / "out").read_text(encoding="utf-8")


def run_demo(workspace: Path) -> str:
    """Run the recipe as `make demo` does; returns what it printed."""
    command = [sys.executable, "-m", "fusechat", "run", "recipes/mini.yaml"]
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)
    done = subprocess.run(
        [*command, "--workspace", str(workspace)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def metrics(demo: tuple[Path, str]) -> dict[str, Any]:
    (path,) = demo[0].glob("evaluate/compare-*/metrics.json")
    found: dict[str, Any] = read_json(path)
    return found


def recipe() -> dict[str, Any]:
    """The recipe as it is written."""
    found: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    return found


def difference(metrics: dict[str, Any], model: str, against: str) -> dict[str, Any]:
    rows = metrics["average"]["differences"]
    (row,) = [r for r in rows if (r["model"], r["against"]) == (model, against)]
    return dict(row)


def test_sft_is_above_base_with_its_whole_interval(metrics: dict[str, Any]) -> None:
    assert difference(metrics, "train.sft", "target")["low"] > LEAST_GAIN_OF_SFT


def test_fused_is_above_the_best_single_source_with_its_whole_interval(
    metrics: dict[str, Any],
) -> None:
    best = metrics["best_source"]
    assert best in SOURCES
    assert difference(metrics, "train.dpo", best)["low"] > LEAST_LEAD_OF_FUSED


def test_each_source_is_the_best_of_all_sources_in_a_domain_of_its_own(
    metrics: dict[str, Any],
) -> None:
    experts = {f"mini_{MODELS[name].best}": name for name in SOURCES}
    assert set(experts) == set(metrics["tasks"]) - {GRADED}
    for task, expert in experts.items():
        models = metrics["tasks"][task]["models"]
        others = [models[name]["accuracy"] for name in experts.values() if name != expert]
        assert models[expert]["accuracy"] > max(others), task


def test_every_test_item_is_counted_for_every_model(metrics: dict[str, Any]) -> None:
    asked = {task["use"]: task["take"] for task in recipe()["evaluate"]["tasks"]}
    assert set(metrics["tasks"]) == set(asked)
    for name, task in metrics["tasks"].items():
        assert set(task["models"]) == {"target", "train.sft", "train.dpo", *SOURCES}
        for model in task["models"].values():
            kinds = ("scored", "unscorable", "errors")
            assert sum(model[kind] for kind in kinds) == model["expected"] == asked[name]


def test_the_graded_side_is_a_win_rate_against_base_with_its_reading_at_equal_lengths(
    metrics: dict[str, Any],
) -> None:
    task = metrics["tasks"][GRADED]
    assert (task["metric"], task["against"]) == ("win_rate", "target")
    assert task["models"]["target"]["accuracy"] == 0.5
    for name in ("train.sft", "train.dpo"):
        found = task["models"][name]
        assert found["low"] > 0.5, "fused answers are preferred to those of base"
        controlled = found["length_controlled"]
        assert 0 < controlled["low"] <= controlled["value"] <= controlled["high"] < 1
    others = [name for name in metrics["tasks"] if name != GRADED]
    assert {metrics["tasks"][name]["metric"] for name in others} == {"accuracy"}


def test_the_report_shows_the_win_rate_and_its_reading_at_equal_lengths(
    demo: tuple[Path, str],
) -> None:
    (page,) = demo[0].glob("runs/*/report.html")
    text = page.read_text(encoding="utf-8")
    fields = ("accuracy", "mean_score", "length_controlled.value")
    for name, shown in {"target": fields[:2], "train.sft": fields, "train.dpo": fields}.items():
        for field in shown:
            said = f'data-task="{GRADED}" data-model="{name}" data-field="{field}"'
            assert said in text, (name, field)
    assert "Answers side by side" in text
    assert "equal lengths" in demo[1]


def test_zh_is_in_sft_only_and_no_prompt_is_in_both_sets(demo: tuple[Path, str]) -> None:
    from fusechat.records import Demonstration, Pair

    (build,) = demo[0].glob("build-*")
    sft = list(read_table(build / "sft", Demonstration))
    dpo = list(read_table(build / "dpo", Pair))
    build_of = recipe()["build"]
    assert {row.domain for row in sft} == set(build_of)
    assert {row.domain for row in dpo} == set(build_of) - {"zh"}
    assert {name for name, part in build_of.items() if "dpo" not in part} == {"zh"}
    assert not {row.prompt_id for row in sft} & {row.prompt_id for row in dpo}


def test_it_ends_with_the_table_and_the_path_of_the_report(demo: tuple[Path, str]) -> None:
    _, out = demo
    assert "fused" in out
    assert Path(out.rstrip().splitlines()[-1].removeprefix("report: ")).is_file()


@pytest.mark.browser
def test_the_report_of_the_demo_shows_the_numbers_of_metrics_json(
    demo: tuple[Path, str], metrics: dict[str, Any]
) -> None:
    (page,) = demo[0].glob("runs/*/report.html")
    with contextlib.ExitStack() as stack:
        browser = stack.enter_context(chromium())
        for width in (390, 1280):
            found = open_everything(browser, page, width)
            assert (found["said"], found["asked"]) == ([], [page.as_uri()])
            assert found["width"] <= width
        numbers = numbers_on(browser, page)
    assert len(numbers) > 100
    for task, model, against, field, text in numbers:
        assert text == printed(metrics, task, model, against, field), (task, model, against, field)


def test_the_demo_again_does_nothing(demo: tuple[Path, str]) -> None:
    found = plan(load_recipe(RECIPE), demo[0]).standings()
    assert {standing.state for standing in found.values()} == {"done"}


def test_the_exported_model_is_loaded_and_answers_with_its_own_template(
    demo: tuple[Path, str], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fusechat.cli import main

    out = tmp_path / "fused"
    assert main(["export", str(out), "--to", "model", "--workspace", str(demo[0])]) == 0
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "model-index" in card
    assert "| mini_math |" in card
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out)
    chat = [{"role": "user", "content": "What is 2+3?"}]
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    said = model.generate(**ids, max_new_tokens=24, do_sample=False)
    assert tokenizer.decode(said[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    (chosen,) = demo[0].glob("select/dpo-*")
    assert (chosen / "README.md").exists(), "a card stands beside every trained model"
    said = read_json(chosen / "chosen.json")
    (train,) = demo[0].glob("train/dpo-*")
    steps = read_json(train / "manifest.json")["counts"]["steps"]
    assert (said["step"], said["rule"]["by"]) == (steps, "last")
