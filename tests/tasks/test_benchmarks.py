"""The catalogue of benchmarks: what is asked of the hub for a known name."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from fusechat.tasks._benchmarks import CATALOGUE, EVERY, read_items


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
