"""What every part keeps, found by file: a new part is under test without an edit here."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusechat.parts import (
    FAMILIES,
    Annotator,
    Loss,
    Part,
    Source,
    Strategy,
    Task,
    describe,
    load_part,
    part_class,
    part_names,
)
from fusechat.records import Candidate, Prompt, Request

ALL = [(family, name) for family in FAMILIES for name in part_names(family)]
BASES = {
    "sources": Source,
    "annotators": Annotator,
    "strategies": Strategy,
    "losses": Loss,
    "tasks": Task,
}
WITHOUT_MODEL = [n for n in part_names("annotators") if n not in ("armorm", "reward_model")]
HEAVY = ("torch", "transformers", "datasets", "math_verify", "sympy", "accelerate")


def example(family: str, name: str, tmp: Path) -> Part:
    """A part with its needed settings filled in by type."""
    cls = part_class(family, name)
    file = tmp / "data.jsonl"
    file.write_text('{"prompt": "a?", "response": "b"}\n')
    known = {"path": str(file), "model": "some/model", "by": "judge", "correct_by": "judge"}
    known["target"] = "own"
    needed = {k: known[k] for k, info in cls.model_fields.items() if info.is_required()}
    if "correct_by" in cls.model_fields:
        needed["correct_by"] = "judge"
    return load_part(family, {"use": name, **needed}, tmp)


@pytest.fixture(params=ALL, ids=lambda pair: f"{pair[0]}/{pair[1]}")
def part(request: pytest.FixtureRequest, tmp_path: Path) -> Part:
    return example(*request.param, tmp_path)


def test_a_part_is_of_its_family_and_named_by_its_file(part: Part) -> None:
    module = type(part).__module__.split(".")
    assert isinstance(part, BASES[module[1]])
    assert part.part_name() == module[2]


def test_a_part_pickles_hashes_and_keys_alike_after_a_round_trip(part: Part) -> None:
    copy = pickle.loads(pickle.dumps(part))
    assert copy == part
    assert hash(copy) == hash(part)
    assert copy.key() == part.key()
    again = type(part).model_validate(part.model_dump())
    assert again.key() == part.key()


def test_a_part_says_what_it_is_in_one_line(part: Part) -> None:
    line = describe(type(part))
    assert line.endswith(".")
    assert len(line) <= 110, line


def test_a_part_refuses_unknown_settings(part: Part) -> None:
    with pytest.raises(ValueError, match=r"[Ee]xtra"):
        type(part).model_validate({**part.model_dump(), "no_such_setting": 1})


def test_speed_settings_and_defaults_enter_no_key(part: Part) -> None:
    settings = part.key()["settings"]
    for name, info in type(part).model_fields.items():
        default = info.get_default(call_default_factory=True)
        if getattr(part, name) == default:
            assert name not in settings


def test_no_part_imports_anything_heavy_when_it_is_only_loaded() -> None:
    """In a fresh interpreter: the recipe machinery and every part, and no heavy library."""
    code = (
        "import sys; from fusechat.parts import FAMILIES, part_class, part_names\n"
        "import fusechat.recipe, fusechat.planner, fusechat.runner\n"
        "[part_class(f, n) for f in FAMILIES for n in part_names(f)]\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def rows_for(part: Any, count: int) -> Iterator[Any]:
    for index in range(count):
        prompt = Prompt.of(f"What is {index}?", domain="d")
        request = Request(
            prompt=prompt, source="s", index=0, seed=index, model="m", made_from=f"r{index}"
        )
        if isinstance(part, Source):
            yield request
        else:
            response = request.response(f"It is {index}.", "stop")
            yield Candidate(prompt=prompt, response=response, annotator="a", made_from=f"c{index}")


@pytest.mark.parametrize("name", WITHOUT_MODEL)
def test_an_annotator_without_anything_to_judge_by_says_so_for_every_row(
    name: str, tmp_path: Path
) -> None:
    """As many out as in; a prompt without gold, tests or checker is unscorable, never wrong."""
    from fusechat.parts import Where

    part = example("annotators", name, tmp_path)
    assert isinstance(part, Annotator)
    rows = list(rows_for(part, 3))
    with part.open(Where()) as work:
        scores = list(work(iter(rows)))
    assert sorted(s.made_from for s in scores) == [row.made_from for row in rows]
    if part.needs:
        assert {score.status for score in scores} == {"unscorable"}
    assert all(score.reason for score in scores if score.status != "ok")


@pytest.mark.parametrize("name", WITHOUT_MODEL)
def test_an_annotator_never_judges_a_cut_response(name: str, tmp_path: Path) -> None:
    from fusechat.parts import Where

    part = example("annotators", name, tmp_path)
    assert isinstance(part, Annotator)
    fields = {"answer": "1", "tests": "assert True", "checker": "[]", "reference": None}
    prompt = Prompt.of("?", domain="d", **fields)
    request = Request(prompt=prompt, source="s", index=0, seed=0, model="m", made_from="r")
    rows = [
        Candidate(
            prompt=prompt, response=request.response(text, finish), annotator="a", made_from=m
        )
        for text, finish, m in [("The answer is 1", "length", "c0"), ("  ", "stop", "c1")]
    ]
    with part.open(Where()) as work:
        scores = list(work(iter(rows)))
    assert {score.status for score in scores} == {"unscorable"}, [s.reason for s in scores]


def test_every_family_folder_holds_only_parts() -> None:
    for family, name in ALL:
        module = importlib.import_module(f"fusechat.{family}.{name}")
        assert module.__doc__, f"{family}/{name} needs a module docstring"
