"""The catalogue of benchmarks: what is asked of the hub for a known name."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from fusechat.tasks._benchmarks import CATALOGUE, EVERY, read_items
from fusechat.tasks._data_files import benchmark_tasks, hub_id

KNOWN_AS = {
    "alpaca_eval": "alpaca_eval_2", "arena_hard": "arena_hard", "alignbench": "align_bench",
    "gsm8k": "gsm8k", "math": "math", "amc23": "amc23", "mmlu_pro": "mmlu_pro",
    "mmlu_redux": "mmlu_redux", "gpqa_diamond": "gpqa_diamond", "humaneval": "humaneval",
    "mbpp": "mbpp", "livecodebench": "live_code_bench", "ifeval": "ifeval",
}  # fmt: skip
"""Name among the benchmarks to keep out -> task."""


def test_a_benchmark_of_many_configurations_is_read_in_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str | None, str, str | None]] = []

    def load(path: str, name: str | None, *, split: str, revision: str | None) -> list[object]:
        asked.append((path, name, split, revision))
        return [{"question": f"What is {name}?", "answer": 1}]

    hub = SimpleNamespace(
        load_dataset=load, get_dataset_config_names=lambda path, revision: ["anatomy", "virology"]
    )
    monkeypatch.setitem(sys.modules, "datasets", hub)
    known = CATALOGUE["mmlu_redux"]
    assert known.path is not None
    assert known.name == EVERY
    items = list(read_items("mmlu_redux", known.path, known.name, known.split, "c0ffee"))
    assert [one[1:] for one in asked] == [
        ("anatomy", "test", "c0ffee"),
        ("virology", "test", "c0ffee"),
    ]
    assert [getattr(one, "questions", one) for one in items] == [
        ("What is anatomy?",),
        ("What is virology?",),
    ]
    assert len({getattr(one, "name", one) for one in items}) == 2


@pytest.mark.parametrize("name", ["alpaca_eval", "arena_hard", "livecodebench"])
def test_sets_that_the_hub_cannot_load_say_where_their_files_are(name: str) -> None:
    assert CATALOGUE[name].path is None
    assert "hub: " in CATALOGUE[name].home


def test_where_a_benchmark_is_on_the_hub_is_said_once_in_its_task() -> None:
    assert CATALOGUE["mmlu_pro"].path == hub_id("mmlu_pro") == "TIGER-Lab/MMLU-Pro"
    assert CATALOGUE["livebench_math"].path == hub_id("live_bench", "math")
    for name, task in KNOWN_AS.items():
        if task not in benchmark_tasks():
            continue
        ids = {file.hub[0] for file in benchmark_tasks()[task].data if file.hub is not None}
        path = CATALOGUE[name].path
        assert path is None or not ids or path in ids, (name, path, ids)


def test_a_task_without_a_hub_set_has_no_hub_id() -> None:
    with pytest.raises(ValueError, match="names no hub set for its file 'items'"):
        hub_id("gpqa_diamond")
    with pytest.raises(ValueError, match="names no hub set"):
        hub_id("files")
