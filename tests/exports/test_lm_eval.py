"""`fusechat lm-eval`: what the written tasks hold; nothing here needs lm-eval."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from fusechat.cli import main
from fusechat.exports import lm_eval
from fusechat.exports.lm_eval import FILTERS, export_lm_eval, generation
from fusechat.parts import Where, load_part
from fusechat.stages.context import UnitContext
from fusechat.tasks._benchmark import Benchmark
from fusechat.tasks._data_files import benchmark_tasks

SECRET = "a question that no one may read"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Made files: six word problems, three multiple-choice questions, one of GPQA."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"question": f"{n} and 1000?", "answer": f"so\n#### 1,00{n}"} for n in range(6)]
    (folder / "gsm8k_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = [
        {"question_id": n, "question": f"Which {{{{ {n} }}}}?", "options": ["x", "y", "z"],
         "answer": "C", "answer_index": 2, "category": "law", "src": "made"}
        for n in range(3)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(made), folder / "mmlu_pro_test.parquet")
    wrong = [f"Incorrect Answer {n}" for n in (1, 2, 3)]
    head = ",".join(["Question", "Correct Answer", *wrong])
    (folder / "gpqa_diamond.csv").write_text(f"{head}\n{SECRET},w,x,y,z\n")
    return folder


def documents(out: Path, name: str) -> list[dict[str, Any]]:
    text = (out / "data" / f"fusechat_{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def task(out: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((out / f"fusechat_{name}.yaml").read_text())
    return found


def test_a_task_is_written_of_each_benchmark_whose_files_are_there(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    names = "gsm8k,mmlu_pro,math,humaneval,arena_hard"
    assert main(["lm-eval", str(out), "--data-dir", str(data), "--benchmarks", names]) == 0
    told = capsys.readouterr().out
    assert "gsm8k: 6 items" in told
    assert "mmlu_pro: 3 items" in told
    assert re.search(r"math: skipped: math/math_test.jsonl is not in .*licence: MIT", told)
    assert "humaneval: skipped: runs code" in told
    assert "arena_hard: skipped: a judge model" in told
    written = {path.name for path in out.rglob("*") if path.is_file()}
    assert written == {
        "README.md", "fusechat_gsm8k.yaml", "fusechat_mmlu_pro.yaml",
        "fusechat_gsm8k.jsonl", "fusechat_mmlu_pro.jsonl",
    }  # fmt: skip
    readme = (out / "README.md").read_text()
    assert "| `fusechat_gsm8k` | 6 | 0 | MIT |" in readme
    assert f'--include_path "{out}"' in readme


def test_gpqa_is_left_out_and_no_word_of_it_is_written(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = {one.name: one for one in export_lm_eval(out, ["gpqa_diamond", "gsm8k"], str(data))}
    assert "plain text" in done["gpqa_diamond"].skipped
    assert done["gsm8k"].items == 6
    assert not any(SECRET in p.read_text() for p in out.rglob("*") if p.is_file())
    assert "gpqa_diamond" not in FILTERS


def test_documents_hold_the_messages_as_they_are_and_the_gold_answer(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export_lm_eval(out, ["gsm8k", "mmlu_pro"], str(data))
    for name in ("gsm8k", "mmlu_pro"):
        part = load_part("tasks", {"use": name, "data_dir": str(data)})
        assert isinstance(part, Benchmark)
        for prompt, row in zip(part.prompts("test"), documents(out, name), strict=True):
            turns = [("system", row["system"])] if row["system"] else []
            turns.append(("user", row["prompt"]))
            assert [(m.role, m.content) for m in prompt.messages] == turns
            assert (row["gold"], row["id"], row["item"]) == (prompt.answer, prompt.id, prompt.item)
    assert [row["gold"] for row in documents(out, "gsm8k")][:2] == ["1000", "1001"]
    assert documents(out, "mmlu_pro")[0]["choices"] == ["x", "y", "z"]
    assert "{{ 0 }}" in documents(out, "mmlu_pro")[0]["prompt"]  # a field, and no template


def test_decoding_is_the_papers_and_says_what_lm_eval_would_add(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_lm_eval(out, ["gsm8k", "mmlu_pro"], str(data))
    greedy = {"max_gen_toks": 2048, "do_sample": False, "repetition_penalty": 1.0}
    assert task(out, "gsm8k")["generation_kwargs"] == {"until": [], **greedy}
    assert task(out, "mmlu_pro")["generation_kwargs"] == {"until": ["Question:"], **greedy}
    drawn = generation({"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 5})
    assert drawn == {
        "until": [], "max_gen_toks": 5, "do_sample": True, "repetition_penalty": 1.0,
        "temperature": 0.7, "top_p": 0.9,
    }  # fmt: skip


def test_a_task_names_its_data_and_its_fields(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_lm_eval(out, ["mmlu_pro"], str(data))
    config = task(out, "mmlu_pro")
    assert config["dataset_path"] == "json"
    place = Path(config["dataset_kwargs"]["data_files"][config["test_split"]])
    assert place.is_absolute()
    row = json.loads(place.read_text().splitlines()[0])
    assert {config[key] for key in ("description", "doc_to_text", "doc_to_target")} <= set(row)
    assert [one["name"] for one in config["filter_list"]] == ["first", "last"]


def test_take_draws_the_prompts_that_an_evaluation_draws(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_lm_eval(out, ["gsm8k"], str(data), take=3)
    taken = [row["id"] for row in documents(out, "gsm8k")]
    assert taken == drawn_by_an_evaluation(data, tmp_path / "run", 3)
    assert len(taken) == 3


def drawn_by_an_evaluation(data: Path, workspace: Path, take: int) -> list[str]:
    from fusechat.progress import Progress
    from fusechat.stages.entries import PromptsEntry
    from fusechat.stages.prompts import read_prompts
    from fusechat.tables import read_dicts

    part = load_part("tasks", {"use": "gsm8k", "data_dir": str(data)})
    entry = PromptsEntry(part=part, split="test", take=take)
    context = UnitContext(
        name="evaluate/gsm8k/prompts", folder=workspace, inputs={}, settings={"gsm8k": entry},
        seed=42, where=Where(), progress=Progress("prompts"), log=logging.getLogger("test"),
    )  # fmt: skip
    workspace.mkdir()
    read_prompts(context)
    return [row["id"] for row in read_dicts(workspace / "prompts")]


def test_an_earlier_export_leaves_no_task_behind(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_lm_eval(out, ["gsm8k", "mmlu_pro"], str(data))
    (out / "mine.yaml").write_text("task: mine\n")
    export_lm_eval(out, ["gsm8k"], str(data))
    assert sorted(path.name for path in out.glob("*.yaml")) == ["fusechat_gsm8k.yaml", "mine.yaml"]
    assert [path.name for path in (out / "data").iterdir()] == ["fusechat_gsm8k.jsonl"]


def test_an_empty_system_message_cannot_be_said_and_is_not_swapped(
    data: Path, tmp_path: Path
) -> None:
    qwen = export_lm_eval(tmp_path / "out", ["mmlu_pro", "gsm8k"], str(data), family="qwen")
    assert "system message is empty" in qwen[0].skipped
    assert qwen[1].items == 6
    gemma = export_lm_eval(tmp_path / "out", ["gsm8k"], str(data), family="gemma")
    assert gemma[0].items == 6
    assert {row["system"] for row in documents(tmp_path / "out", "gsm8k")} == {""}


def test_wrong_calls_are_told_together_and_nothing_is_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    wrong = ["lm-eval", str(tmp_path / "file"), "--data-dir", str(tmp_path / "none"), "--take", "0"]
    assert main(wrong) == 2
    told = capsys.readouterr().err
    assert all(key in told for key in ("--take", "--data-dir", "OUT", "3 faults"))
    assert main(["lm-eval", str(tmp_path / "out"), "--benchmarks", "gsm9k"]) == 2
    assert "Did you mean 'gsm8k'?" in capsys.readouterr().err
    empty = ["lm-eval", str(tmp_path / "out"), "--data-dir", str(tmp_path), "--benchmarks", "math"]
    assert main(empty) == 1
    assert "No task was written" in capsys.readouterr().err


def test_every_benchmark_is_written_or_has_a_reason() -> None:
    reasons = set(lm_eval._REASONS)
    for name, one in benchmark_tasks().items():
        judged = hasattr(one, "judges")
        assert sum((name in FILTERS, name in reasons, judged, one.private)) == 1, name


def test_the_expression_of_a_box_reads_nested_braces_and_takes_the_last() -> None:
    boxed, _ = FILTERS["math"]["boxed"]
    found = re.findall(boxed, r"\boxed{1} then $\boxed{\frac{\sqrt{2}}{x_{1}}}$.")
    assert found == ["1", r"\frac{\sqrt{2}}{x_{1}}"]
    number, _ = FILTERS["gsm8k"]["last-number"]
    assert re.findall(number, "1,200.5 apples, then -7.")[-1] == "-7"
