"""Prompts that a set leaves out: by topic, and because a test set has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import fusechat
from fusechat.records import Prompt
from fusechat.stages.prompt_filters import HeldOutPrompts, topics_of, words_of


def prompt(text: str) -> Prompt:
    return Prompt.of(text, domain="chat")


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        ("Write a Python function that reverses a list.", ("code",)),
        ("What does this do?\n```\nx = 1\n```", ("code",)),
        ("Fix the bug in this SQL query for me", ("code",)),
        ("用Python编写一个程序", ("code",)),
        ("Solve the equation x + 3 = 5", ("math",)),
        ("What is $\\frac{1}{2} + 3$?", ("math",)),
        ("Ann has 3 apples and eats 2. How many are left?", ("math",)),
        ("Write a C++ function to find the area of a triangle.", ("code", "math")),
        ("Write a script for a play about a lighthouse.", ()),
        ("How many people live in Paris?", ()),
        ("How many people were in Paris in 1848?", ()),
        ("Tell me about the class struggle in 1848.", ()),
        ("In which year did Rome fall, 410 or 476?", ()),
    ],
)  # fmt: skip
def test_topics_are_told_by_words_formulas_and_code(text: str, topics: tuple[str, ...]) -> None:
    assert topics_of(prompt(text)) == topics


def test_most_real_code_and_mathematics_is_recognised_and_little_else(shared_data: Path) -> None:
    def share(texts: list[str], topic: str) -> float:
        return sum(topic in topics_of(prompt(text)) for text in texts) / len(texts)

    def column(name: str, key: str) -> list[str]:
        lines = (shared_data / name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line)[key] for line in lines]

    assert share(column("code/mbpp.jsonl", "text"), "code") == 1.0
    assert share(column("math/gsm8k_test.jsonl", "question"), "math") > 0.75
    chat = shared_data / "pools/alpaca_eval_outputs/Qwen2-72B-Instruct.json"
    asked = [row["instruction"] for row in json.loads(chat.read_text(encoding="utf-8"))]
    assert share(asked, "code") < 0.06
    assert share(asked, "math") < 0.04


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12)


@given(WORDS, st.lists(WORDS, max_size=4), st.integers(1, 5))
def test_a_prompt_shares_words_where_a_test_prompt_has_the_same_run(
    words: list[str], tests: list[list[str]], ngram: int
) -> None:
    found = HeldOutPrompts([prompt(" ".join(test) or "?") for test in tests], ngram)
    text = " " + " ".join(words) + " "
    runs = {" ".join(t[i : i + ngram]) for t in tests for i in range(len(t) - ngram + 1)}
    brute = bool(words and words in tests) or any(f" {run} " in text for run in runs)
    assert bool(found.shares(prompt(" ".join(words) or "!"))) == brute


def test_case_marks_and_spaces_do_not_hide_a_test_prompt() -> None:
    sold = "Natalia sold clips to 48 of her friends in April, and then half as many."
    tests = HeldOutPrompts([prompt(sold)], 13)
    assert tests.shares(prompt(sold.upper().replace(",", " - ")))
    assert not tests.shares(prompt(sold.replace("April", "May")))
    assert words_of(prompt("多少 dogs")) == ["多", "少", "dogs"]


RECIPE: dict[str, Any] = {
    "name": "filters",
    "prompts": {
        "chat": {
            "use": "files",
            "path": "train.jsonl",
            "domain": "chat",
            "columns": {"prompt": "q"},
            "leave_out": ["code"],
            "decontaminate": {
                "against": [{"use": "files", "path": "test.jsonl", "columns": {"prompt": "q"}}],
                "ngram": 4,
            },
        }
    },
    "sources": {"parrot": {"use": "echo"}},
}


def test_a_test_set_that_is_not_there_is_a_fault_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"q": "Name a fish."}))
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(RECIPE))
    with pytest.raises(fusechat.FusechatError, match=r"against.*test\.jsonl"):
        fusechat.load_recipe(tmp_path / "r.yaml")


def test_left_out_prompts_are_dropped_rows_with_their_reason(tmp_path: Path) -> None:
    train = [
        "Write a Python function.",
        "why is the sky so very blue today",
        "Is the sky so very blue?",
        "Name a fish.",
    ]
    for name, rows in (("train", train), ("test", ["Why is the sky blue", "the sky so very grey"])):
        lines = [json.dumps({"q": text}) for text in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(RECIPE))
    recipe = fusechat.load_recipe(tmp_path / "r.yaml")
    result = fusechat.run(recipe, tmp_path / "ws")
    assert [p.messages[0].content for p in result["prompts"].rows("prompts")] == ["Name a fish."]
    dropped = [(row.stage, row.reason) for row in result["prompts"].rows("dropped")]
    assert dropped == [
        ("topic", "about code"),
        ("contamination", "shares words with a test prompt"),
        ("contamination", "shares words with a test prompt"),
    ]
    key = fusechat.plan(recipe, tmp_path / "ws")["prompts"].key
    (tmp_path / "test.jsonl").write_text(json.dumps({"q": "Another test"}))
    again = fusechat.load_recipe(tmp_path / "r.yaml")
    assert fusechat.plan(again, tmp_path / "ws")["prompts"].key != key
