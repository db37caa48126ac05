"""The published prompt sets, read from small files of their layouts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.annotators.code_tests import CodeTests
from fusechat.errors import FusechatError
from fusechat.parts import Task, UnreadableRow, Where, load_part
from fusechat.records import Candidate, Prompt, Request
from fusechat.tasks._tests_in_text import code_and_tests
from fusechat.tasks.helpsteer2 import turns_of

ROWS: dict[str, dict[str, Any]] = {
    "ultrafeedback": {
        "source": "sharegpt", "instruction": "Name a fish.", "models": ["a", "b"],
        "completions": [{"model": "a", "response": "Carp."}], "correct_answers": ["None"],
    },
    "magpie_pro": {
        "uuid": "u", "instruction": "Name a fish.", "task_category": "Advice seeking",
        "input_quality": "good", "responses": ["Carp."],
    },
    "helpsteer2": {"prompt": "Name a fish.", "response": "Carp.", "helpfulness": 3},
    "openmathinstruct2": {
        "problem": "1+1?", "generated_solution": "It is \\boxed{2}.", "expected_answer": "2",
        "problem_source": "augmented_gsm8k",
    },
    "leetcode": {
        "id": 1, "slug": "add", "title": "Add", "difficulty": None,
        "content": "Add.\n\n**Example 1:**\n\n**Input:** a = 1, b = 2\n**Output:** 3\n",
        "java": "", "c++": "", "python": "```python\ndef add(a, b):\n    return a + b\n```\nSo.",
        "javascript": "",
    },
    "self_oss_instruct": {
        "sha1": "x", "instruction": "Write `f`, which adds one.", "concepts": ["sums"],
        "response": "```python\ndef f(x):\n    return x + 1\n\nassert f(1) == 2\n```", "id": 1,
    },
    "alpaca_gpt4_zh": {"instruction": "说出三种鱼。", "input": "", "output": "鲤鱼。"},
    "magpie_qwen2_chinese": {
        "uuid": "u", "instruction": "说出三种鱼。", "task_category": "Information seeking",
        "input_quality": "excellent", "language": "ZH",
        "conversations": [{"from": "human", "value": "说出三种鱼。"}],
    },
}  # fmt: skip
DOMAINS = {
    "ultrafeedback": "chat", "magpie_pro": "chat", "helpsteer2": "chat",
    "openmathinstruct2": "math", "leetcode": "code", "self_oss_instruct": "code",
    "alpaca_gpt4_zh": "zh",
    "magpie_qwen2_chinese": "zh",
}  # fmt: skip
HUB_IDS = {
    "ultrafeedback": "openbmb/UltraFeedback",
    "magpie_pro": "Magpie-Align/Magpie-Pro-DPO-100K-v0.1",
    "helpsteer2": "nvidia/HelpSteer2",
    "openmathinstruct2": "nvidia/OpenMathInstruct-2",
    "leetcode": "greengerong/leetcode",
    "self_oss_instruct": "bigcode/self-oss-instruct-sc2-exec-filter-50k",
    "alpaca_gpt4_zh": "llamafactory/alpaca_gpt4_zh",
    "magpie_qwen2_chinese": "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese",
}


def task(folder: Path, use: str, rows: list[dict[str, Any]], **settings: Any) -> Task:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "set.jsonl").write_text(lines, encoding="utf-8")
    part = load_part("tasks", {"use": use, "path": "set.jsonl", **settings}, folder)
    assert isinstance(part, Task)
    assert not list(part.faults())
    return part


def read(part: Task) -> list[Prompt | UnreadableRow]:
    return list(part.prompts(part.splits[0]))


def one(folder: Path, use: str, settings: dict[str, Any] | None = None, **fields: Any) -> Any:
    """The prompt of one changed row, or the reason why it is none."""
    (found,) = read(task(folder, use, [{**ROWS[use], **fields}], **(settings or {})))
    return found if isinstance(found, Prompt) else found.reason


@pytest.mark.parametrize("use", list(ROWS))
def test_a_row_of_each_set_is_a_prompt_of_its_domain(tmp_path: Path, use: str) -> None:
    prompt = one(tmp_path, use)
    assert isinstance(prompt, Prompt)
    assert prompt.domain == DOMAINS[use]
    assert prompt.messages[-1].role == "user"


@pytest.mark.parametrize("use", list(ROWS))
def test_a_set_is_read_from_the_hub_only_at_a_commit(tmp_path: Path, use: str) -> None:
    part = load_part("tasks", {"use": use}, tmp_path)
    assert getattr(part, "path") == HUB_IDS[use]  # noqa: B009 - any of eight classes
    (fault,) = part.faults()
    assert fault[0] == "revision"
    assert part.seen_commit in fault[1]  # type: ignore[attr-defined]
    pinned = load_part("tasks", {"use": use, "revision": "0" * 40}, tmp_path)
    assert not list(pinned.faults())
    assert pinned.digest() != part.digest()


@pytest.mark.parametrize("use", ["magpie_pro", "openmathinstruct2"])
def test_a_folder_of_the_sets_files_is_read_by_split(tmp_path: Path, use: str) -> None:
    pytest.importorskip("datasets")
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    part = load_part("tasks", {"use": use, "path": "set"}, tmp_path)
    assert isinstance(part, Task)
    for split in part.splits[:2]:
        text = {"instruction": f"Name a {split}.", "problem": f"Is {split} 1?"}
        row = {k: text.get(k, v) for k, v in ROWS[use].items()}
        name = f"{split}-00000-of-00001.parquet"
        pq.write_table(pa.Table.from_pylist([row]), folder / name)
    for split in part.splits[:2]:
        (prompt,) = part.prompts(split)
        assert isinstance(prompt, Prompt)
        assert split in prompt.messages[0].content
    with pytest.raises(FusechatError, match=r"split 'gone' of .*set cannot be read"):
        list(part.prompts("gone"))


def test_a_hub_set_that_is_not_here_says_how_to_fetch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    part = load_part("tasks", {"use": "helpsteer2", "revision": "a" * 40}, tmp_path)
    fetch = f"hf download --repo-type dataset nvidia/HelpSteer2 --revision {'a' * 40}"
    with pytest.raises(FusechatError, match=fetch):
        list(part.prompts("train"))  # type: ignore[attr-defined]


def test_a_path_that_is_nothing_and_a_file_of_other_columns_are_faults(tmp_path: Path) -> None:
    for path in ("gone.jsonl", "./gone/set", "a/b/c"):
        part = load_part("tasks", {"use": "helpsteer2", "path": path}, tmp_path)
        assert [key for key, _ in part.faults()] == ["path"], path
    (tmp_path / "other.jsonl").write_text('{"question": "hi"}\n')
    part = load_part("tasks", {"use": "helpsteer2", "path": "other.jsonl"}, tmp_path)
    (fault,) = part.faults()
    assert fault == ("path", "other.jsonl has no column 'prompt'. It has: question.")


def test_rows_that_are_no_prompts_keep_their_place_and_reason(tmp_path: Path) -> None:
    part = task(tmp_path, "ultrafeedback", [ROWS["ultrafeedback"]])
    lines = ["{torn", "[]", '{"instruction": "x"}', '{"source": "s", "instruction": null}']
    (tmp_path / "set.jsonl").write_text("\n".join(lines))
    assert read(part) == [
        UnreadableRow("set.jsonl:1", "not JSON"),
        UnreadableRow("set.jsonl:2", "row is not an object"),
        UnreadableRow("set.jsonl:3", "no column 'source'"),
        UnreadableRow("set.jsonl:4", "'instruction' is not a text"),
    ]


def test_ultrafeedback_leaves_out_what_its_source_column_names(tmp_path: Path) -> None:
    settings = {"leave_out_sources": ["truthful_qa", "flan_v2_cot"]}
    assert one(tmp_path, "ultrafeedback", settings, source="truthful_qa") == "from truthful_qa"
    assert isinstance(one(tmp_path, "ultrafeedback", settings, source="false_qa"), Prompt)


def test_magpies_tags_leave_code_and_mathematics_out(tmp_path: Path) -> None:
    for tag in ("Math", "coding & debugging "):
        assert one(tmp_path, "magpie_pro", task_category=tag) == f"tagged {tag.strip()}"
    all_tags: dict[str, Any] = {"leave_out_tags": []}
    assert isinstance(one(tmp_path, "magpie_pro", all_tags, task_category="Math"), Prompt)
    assert isinstance(one(tmp_path, "magpie_pro", task_category=None), Prompt)


def test_magpies_ratings_of_its_instructions_choose_the_good_ones(tmp_path: Path) -> None:
    wanted = {"qualities": ["excellent", "good"]}
    assert isinstance(one(tmp_path, "magpie_qwen2_chinese", wanted, input_quality="Good"), Prompt)
    why = one(tmp_path, "magpie_qwen2_chinese", wanted, input_quality="average")
    assert why == "input quality average"
    why = one(tmp_path, "magpie_qwen2_chinese", wanted, input_quality=None)
    assert why == "input quality not given"


def test_helpsteers_two_rows_are_one_prompt_and_its_markers_are_turns(tmp_path: Path) -> None:
    several = "c#\n<extra_id_1>Assistant\nC# is\na language.\n<extra_id_1>User\nAnd Java?"
    rows = [{"prompt": p, "response": r} for p in ("c#", several) for r in ("a", "b")]
    first, second = read(task(tmp_path, "helpsteer2", rows))
    assert isinstance(first, Prompt)
    assert isinstance(second, Prompt)
    assert first.chat() == [{"role": "user", "content": "c#"}]
    assert second.chat() == [
        {"role": "user", "content": "c#"},
        {"role": "assistant", "content": "C# is\na language."},
        {"role": "user", "content": "And Java?"},
    ]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a\n<extra_id_1>Assistant\nb", "prompt does not end with a user turn"),
        ("a\n<extra_id_1>User\nb", "turns do not alternate"),
        ("a\n<extra_id_1>Assistant\n \n<extra_id_1>User\nb", "a turn is empty"),
        ("a <extra_id_1> b", "a turn marker stands inside a turn"),
        ("a\n<extra_id_1>Robot\nb", "a turn marker stands inside a turn"),
    ],
)
def test_a_conversation_that_cannot_be_answered_says_why(
    tmp_path: Path, prompt: str, reason: str
) -> None:
    assert one(tmp_path, "helpsteer2", prompt=prompt) == reason


TURN = st.text(min_size=1).filter(
    lambda t: t.strip() and "<extra_id" not in t and t[0] != "\n" and t[-1] != "\n"
)


@given(st.lists(TURN, min_size=1, max_size=5))
def test_turns_written_as_helpsteer_writes_them_are_read_back(turns: list[str]) -> None:
    turns = turns if len(turns) % 2 else turns[:-1] or turns
    names = ["User", "Assistant"]
    text = turns[0] + "".join(
        f"\n<extra_id_1>{names[n % 2]}\n{turn}" for n, turn in enumerate(turns[1:], start=1)
    )
    assert [turn["content"] for turn in turns_of(text)] == turns


def test_a_problem_with_several_solutions_is_one_prompt_with_its_answer(tmp_path: Path) -> None:
    row = ROWS["openmathinstruct2"]
    rows = [row, {**row, "generated_solution": "Two: \\boxed{2}."}, {**row, "problem": "2+2?"}]
    first, second = read(task(tmp_path, "openmathinstruct2", rows))
    assert isinstance(first, Prompt)
    assert (first.chat(), first.answer) == ([{"role": "user", "content": "1+1?"}], "2")
    assert isinstance(second, Prompt)


def test_problems_are_chosen_by_origin_length_and_answer(tmp_path: Path) -> None:
    use, wanted = "openmathinstruct2", {"problem_sources": ["math"], "max_problem_chars": 10}
    assert one(tmp_path, use, wanted) == "from augmented_gsm8k"
    long = {"problem": "x" * 11, "problem_source": "math"}
    assert one(tmp_path, use, wanted, **long) == "longer than max_problem_chars"
    assert one(tmp_path, use, expected_answer=" ") == "no expected answer"


def test_an_alpaca_input_follows_its_instruction_unless_it_says_that_there_is_none(
    tmp_path: Path,
) -> None:
    def text(given: str | None) -> str:
        return str(one(tmp_path, "alpaca_gpt4_zh", input=given).messages[0].content)

    assert text("鲤鱼、鲈鱼") == "说出三种鱼。\n\n鲤鱼、鲈鱼"
    for none in ("", None, "无", "<无输入>", "无输入。"):
        assert text(none) == "说出三种鱼。"


def test_the_tests_of_an_instruction_are_its_tests_and_the_response_its_reference(
    tmp_path: Path,
) -> None:
    asked = "Your code should pass the following assertion:\n```python\nassert f(3) == 4\n```"
    prompt = one(tmp_path, "self_oss_instruct", instruction=f"Write `f`.\n\n{asked}")
    assert prompt.tests == "assert f(3) == 4"
    assert prompt.reference == "def f(x):\n    return x + 1"
    assert prompt.messages[0].content.endswith(asked)


def test_tests_that_only_the_response_has_are_taken_out_of_its_code(tmp_path: Path) -> None:
    prompt = one(tmp_path, "self_oss_instruct")
    assert (prompt.tests, prompt.reference) == ("assert f(1) == 2", "def f(x):\n    return x + 1")
    called = (
        "```python\nimport math\ndef f(x):\n    return math.floor(x)\n```\nTests:\n"
        "```python\ndef test_f():\n    assert f(1.5) == 1\n\ntest_f()\n```"
    )
    prompt = one(tmp_path, "self_oss_instruct", response=called)
    assert prompt.tests == "def test_f():\n    assert f(1.5) == 1\ntest_f()"
    assert prompt.reference == "import math\ndef f(x):\n    return math.floor(x)"


@pytest.mark.parametrize(
    "response",
    [
        "No code.",
        "```python\ndef f(x):\n    return x + 1\n```",
        "```python\ndef f(x):\n    assert x\n    return x + 1\n```",
        "```python\ndef f(x):\n    return x\n\ndef test_f():\n    assert f(1) == 1\n```",
        "```python\nassert f(1) ==\n```",
        "```python\ndef f(x):\n    return x + 1\n\nprint(f(1))\n```",
    ],
)
def test_a_task_without_tests_that_run_is_left_out(tmp_path: Path, response: str) -> None:
    assert one(tmp_path, "self_oss_instruct", response=response) == "no tests"


def test_the_makers_own_examples_give_tests_that_their_code_passes(shared_data: Path) -> None:
    """Ten worked examples of the prompt with which the set was made, code and tests apart."""
    text = (shared_data / "train" / "self-ossinstruct-fewshot.txt").read_text(encoding="utf-8")
    answers = re.findall(r"\[Implementation\]\n(.*?)(?=\n### Example|\Z)", text, re.DOTALL)
    rows = []
    for number, answer in enumerate(answers):
        code, tests = code_and_tests(answer)
        prompt = Prompt.of(str(number), domain="code", tests=tests, reference=code)
        asked = Request(prompt=prompt, source="s", index=0, seed=1, model="m", made_from="m")
        answered = asked.response(f"```python\n{code}\n```", "stop")
        rows.append(
            Candidate(prompt=prompt, response=answered, annotator="c", made_from=str(number))
        )
    assert len(rows) == 10
    with CodeTests(allow_weak_sandbox=True).open(Where()) as work:
        assert [score.value for score in work(iter(rows))] == [1.0] * len(rows)
