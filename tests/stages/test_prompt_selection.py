"""Prompts that an entry wants: in Chinese, with tests, and not nearly the same as another."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import fusechat
from fusechat.records import Prompt
from fusechat.stages.prompt_filters import Likeness, NearDuplicates, is_chinese

WORDS = [f"word{number}" for number in "abcdefghijkl"]


def prompt(text: str) -> Prompt:
    return Prompt.of(text, domain="chat")


def run(folder: Path, prompts: dict[str, dict[str, Any]], rows: dict[str, list[Any]]) -> Any:
    """Run the prompts of a recipe whose sets are files; the finished unit."""
    for name, lines in rows.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    entries = {
        name: {"use": "files", "path": f"{name}.jsonl", "domain": "chat", **entry}
        for name, entry in prompts.items()
    }
    recipe = {"name": "r", "prompts": entries, "sources": {"parrot": {"use": "echo"}}}
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return fusechat.run(fusechat.load_recipe(folder / "r.yaml"), folder / "ws")["prompts"]


def texts(unit: Any) -> list[str]:
    return [row.messages[0].content for row in unit.rows("prompts")]


def test_a_prompt_nearly_like_one_of_an_earlier_set_is_dropped_and_says_which(
    tmp_path: Path,
) -> None:
    """Eight of the ten runs of three words are shared by prompts of 10 and 12 words: 8/10."""
    longer, shorter, other = WORDS, WORDS[:10], WORDS[6:]
    rows = {
        "first": [{"prompt": " ".join(longer)}],
        "second": [{"prompt": " ".join(shorter).upper()}, {"prompt": " ".join(other)}],
    }
    unit = run(tmp_path, {"first": {}, "second": {"near_duplicates": {}}}, rows)
    assert texts(unit) == [" ".join(longer), " ".join(other)]
    (row,) = unit.rows("dropped")
    assert (row.stage, row.reason) == ("near_duplicate", "nearly a prompt of first")
    assert row.origin == "second"
    kept = {p.messages[0].content: p.id for p in unit.rows("prompts")}
    assert json.loads(row.details) == {"prompt_id": kept[" ".join(longer)], "jaccard": 0.8}
    counts = unit.manifest["counts"]
    assert counts["sets"]["second"] == {
        "read": 2,
        "kept": 1,
        "dropped": {"nearly a prompt of first": 1},
    }
    assert counts["uncompared"] == 0


def test_without_the_setting_nearly_the_same_prompts_stay(tmp_path: Path) -> None:
    rows = {"a": [{"prompt": " ".join(WORDS)}, {"prompt": " ".join(WORDS[:10])}]}
    assert len(texts(run(tmp_path, {"a": {}}, rows))) == 2


def test_likeness_is_seen_in_all_turns_of_a_conversation(tmp_path: Path) -> None:
    def turns(first: str, last: str) -> dict[str, Any]:
        roles = zip(("user", "assistant", "user"), (first, "Sure.", last), strict=True)
        return {"messages": [{"role": role, "content": text} for role, text in roles]}

    rows = {"a": [turns(" ".join(WORDS), "go on"), turns(" ".join(reversed(WORDS)), "go on")]}
    unit = run(tmp_path, {"a": {"near_duplicates": {"threshold": 0.5}}}, rows)
    assert len(texts(unit)) == 2


def test_a_draw_takes_the_next_prompt_for_one_that_is_nearly_there_and_only_grows(
    tmp_path: Path,
) -> None:
    """Of 30 pairs that are alike, a draw of n gives n that are not, and one of n + 1 keeps them."""
    rows: list[Any] = []
    for number in range(30):
        words = [f"{word}{number}" for word in WORDS]
        rows += [{"prompt": " ".join(words)}, {"prompt": " ".join(words[:11])}]
    drawn = []
    for take in (10, 11, 30):
        folder = tmp_path / str(take)
        folder.mkdir()
        unit = run(folder, {"a": {"take": take, "near_duplicates": {}}}, {"a": rows})
        found = texts(unit)
        assert len(found) == take
        assert len({text.split()[0] for text in found}) == take
        lines = [row["prompt"] for row in rows]
        assert found == sorted(found, key=lines.index)
        for row in unit.rows("dropped"):
            kept = {p.id for p in unit.rows("prompts")}
            assert json.loads(row.details)["prompt_id"] in kept
        drawn.append(set(found))
    assert drawn[0] < drawn[1] < drawn[2]


SENTENCES = st.lists(st.sampled_from("abc"), min_size=1, max_size=6).map(" ".join)


@settings(max_examples=60)
@given(st.lists(SENTENCES, max_size=8, unique=True), st.integers(0, 8))
def test_what_stays_is_unlike_and_what_goes_is_like_one_that_stays(
    found: list[str], known: int
) -> None:
    wanted = NearDuplicates(threshold=0.5, shingle=2)

    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + 2]) for i in range(max(1, len(words) - 1))}

    def alike(one: str, two: str) -> bool:
        left, right = runs(one), runs(two)
        return len(left & right) >= 0.5 * len(left | right)

    by_id = {prompt(text).id: text for text in found}
    likeness = Likeness(wanted)
    likeness.keep(prompt(text) for text in found[:known])
    gone = likeness.like_earlier([prompt(text) for text in found[known:]])
    stay = [text for text in found if prompt(text).id not in gone]
    for identity, (other, jaccard) in gone.items():
        assert by_id[other] in stay
        assert alike(by_id[identity], by_id[other])
        assert 0.5 <= jaccard <= 1
    new = [text for text in stay if text not in found[:known]]
    assert not any(
        alike(one, two) for two in new for one in stay[: stay.index(two)]
    )  # the known ones were never asked about


@pytest.mark.parametrize(
    ("text", "chinese"),
    [
        ("请说出三种鱼。", True),
        ("解释 Transformer 模型的注意力机制是什么意思", True),
        ("Translate into English: 你好", False),
        ("Name three fish.", False),
        ("魚を三つ言ってください。", False),
        ("물고기 세 가지", False),
        ("1 + 1 = ?", False),
    ],
)
def test_chinese_is_told_by_its_script(text: str, chinese: bool) -> None:
    assert is_chinese(prompt(text)) == chinese


def test_most_real_chinese_instructions_are_chinese_and_no_english_ones(shared_data: Path) -> None:
    def share(name: str) -> float:
        rows = json.loads((shared_data / "train" / name).read_text(encoding="utf-8"))
        found = [is_chinese(prompt(f"{row['instruction']}\n{row['input']}")) for row in rows]
        return sum(found) / len(found)

    assert share("alpaca_zh_demo.json") > 0.95
    assert share("alpaca_en_demo.json") == 0.0


def test_prompts_in_another_language_or_without_tests_are_dropped_with_that_reason(
    tmp_path: Path,
) -> None:
    rows = {
        "zh": [{"prompt": "请说出三种鱼。"}, {"prompt": "Name three fish."}],
        "code": [
            {"prompt": "Add.", "t": "assert add(1) == 2"},
            {"prompt": "Go."},
            {"prompt": "", "t": "x"},
        ],
    }
    entries = {
        "zh": {"language": "zh", "domain": "zh"},
        "code": {"requires": ["tests"], "columns": {"prompt": "prompt", "tests": "t"}},
    }
    unit = run(tmp_path, entries, rows)
    assert texts(unit) == ["请说出三种鱼。", "Add."]
    assert Counter((row.stage, row.reason) for row in unit.rows("dropped")) == {
        ("language", "not Chinese text"): 1,
        ("requires", "no tests"): 1,
        ("read", "empty prompt"): 1,
    }
